from .distillation import SurrogateStep as SurrogateStep
from .fidelity import fidelity as fidelity
from .masked_images import draw_masks as draw_masks
from .surrogate_training import fit_surrogate as fit_surrogate
