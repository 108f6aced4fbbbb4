from .notebook import explain_interactive as explain_interactive
from .page_server import launch_app as launch_app
