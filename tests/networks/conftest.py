"""The small classifiers that the tests of maskers and training have."""

from tests.maskers.conftest import net, pictures
from tests.training.conftest import trunk_box

__all__ = ["net", "pictures", "trunk_box"]
