import pytest

from saliencykit.core import errors


@pytest.mark.parametrize("name", ["InputError", "ContractError", "GradientError", "RegistryError"])
def test_one_base_catches_all(name):
    with pytest.raises(errors.SaliencyKitError, match="why"):
        raise getattr(errors, name)("why")


def test_each_error_is_also_the_standard_one_that_callers_expect():
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.InputError, AssertionError)  # Captum's tests expect one
    assert issubclass(errors.ContractError, TypeError)
    assert issubclass(errors.GradientError, TypeError)
    assert issubclass(errors.RegistryError, LookupError)
