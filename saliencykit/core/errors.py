"""Exceptions, by whose fault it is, and the warning about results."""


class SaliencyKitError(Exception):
    """Any error that this library raises on purpose.

    The message names the object, what was expected, what came, and what to write instead.
    """


class InputError(SaliencyKitError, ValueError, AssertionError):
    """The caller's fault: an image, label, option or model that cannot be used as it is.

    Also an `AssertionError`, because Captum's own tests expect one for bad arguments.
    """


class ContractError(SaliencyKitError, TypeError):
    """An implementation's fault: a black box, alternative, term, masker or metric broke its
    contract.
    """


class GradientError(SaliencyKitError, TypeError):
    """A masker needs gradients of a black box that can only be queried."""


class RegistryError(SaliencyKitError, LookupError):
    """A name that no plugin provides, that several provide, or whose plugin is broken."""


class ReliabilityWarning(UserWarning):
    """A result was computed, and should not be believed as it is: the mask shows nothing, the
    model answers differently each time, or a trained masker or surrogate failed its validation.
    The message says what to write instead.
    """


class DeviceMemoryError(SaliencyKitError):
    """The memory of the device is too small for a batch."""
