"""Why a picture has no row."""

from saliencykit.core.errors import InputError
from saliencykit.core.reasons import reason_of


def test_a_message_of_ours_stands_as_it_is_and_any_other_has_its_errors_name():
    assert reason_of(InputError("a.png is\n  damaged.")) == "a.png is damaged."
    assert reason_of(KeyError()) == "KeyError: no message"
