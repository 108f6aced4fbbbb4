from . import captum as captum
from . import quantus as quantus
