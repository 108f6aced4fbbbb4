from .display import display_arrays as display_arrays
from .heatmap import draw_heatmap as draw_heatmap
from .mask_overlay import CONTOUR_COLOR as CONTOUR_COLOR
from .mask_overlay import draw_overlay as draw_overlay
from .mask_overlay import outline as outline
