"""The small classifiers that the tests of maskers and training have."""

from tests.maskers.conftest import net, photos
from tests.training.conftest import trunk_black_box

__all__ = ["net", "photos", "trunk_black_box"]
