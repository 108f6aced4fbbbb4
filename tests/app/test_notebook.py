import numpy as np
import pytest

from saliencykit.app.notebook import explain_interactive
from saliencykit.core.errors import InputError
from saliencykit.demo import demo_image

pytest.importorskip("ipywidgets", reason="pip install 'saliencykit[notebook]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_the_slider_changes_the_region_and_the_answers():
    box = explain_interactive("demo", demo_image())
    (slider, fill), panels = box.children[0].children, box.children[1]
    own = panels.value
    assert own.count("<img") == 4
    assert "espresso</b>: this region alone decides" in own
    slider.value = 10
    assert "Region, 10% of the pixels" in panels.value
    small = panels.value
    fill.value = "noise"
    assert panels.value != small


def test_arrays_are_explored_and_several_images_are_refused():
    array = np.asarray(demo_image())
    assert explain_interactive("demo", array, masker="center-box").children
    with pytest.raises(InputError, match="one image is explored"):
        explain_interactive("demo", [array, array], masker="center-box")
