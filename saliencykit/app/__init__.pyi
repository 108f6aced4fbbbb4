from .page_server import launch_app as launch_app
