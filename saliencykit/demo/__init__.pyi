from .demo_network import DemoNet as DemoNet
from .directory import DEMO_DIR as DEMO_DIR
from .embedded_files import demo_black_box as demo_black_box
from .embedded_files import demo_image as demo_image
