from .blur import Blur as Blur
from .blur import gaussian_blur as gaussian_blur
from .blur_pyramid import BlurPyramid as BlurPyramid
from .choice import Choice as Choice
from .constant import Constant as Constant
from .crop import Crop as Crop
from .noise import Noise as Noise
