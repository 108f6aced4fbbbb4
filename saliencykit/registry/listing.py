"""What there is, by name: `list_maskers("*cam*")`, as in `timm.list_models`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from saliencykit.core.optional_packages import required
from saliencykit.registry.manager import Kind, registry, short_name


def list_maskers(pattern: str | Sequence[str] = "*") -> list[str]:
    """Names of maskers, sorted.

    Args:
        pattern: Shell-style (`*`, `?`, `[a-c]`), or several: names that match one of them.

    Returns:
        Short names; full ones, `plugin/name`, where several plugins share the short one.

    Example:
        >>> list_maskers("*cam*")[:2]
        ['ablation-cam', 'cam']
    """
    return _names("masker", pattern)


def list_metrics(pattern: str | Sequence[str] = "*") -> list[str]:
    """Names of metrics, as `list_maskers`.

    Args:
        pattern: As in `list_maskers`.

    Example:
        >>> list_metrics(["insertion", "deletion"])
        ['deletion', 'insertion']
    """
    return _names("metric", pattern)


def list_alternatives(pattern: str | Sequence[str] = "*") -> list[str]:
    """Names of alternatives, as `list_maskers`.

    Args:
        pattern: As in `list_maskers`.

    Example:
        >>> list_alternatives("blur*")
        ['blur', 'blur-pyramid']
    """
    return _names("alternative", pattern)


def list_terms(pattern: str | Sequence[str] = "*") -> list[str]:
    """Names of the terms of objectives, as `list_maskers`.

    Args:
        pattern: As in `list_maskers`.

    Example:
        >>> list_terms("*area")
        ['area', 'log-area', 'power-area']
    """
    return _names("term", pattern)


def list_models(pattern: str | Sequence[str] = "*") -> list[str]:
    """Names of models, as `list_maskers`; with a prefix those of timm and torchvision.

    Args:
        pattern: Shell-style, or several. One that begins with `timm:` or `torchvision:` lists
            the models of that library.

    Raises:
        InputError: timm is not installed.

    Example:
        >>> list_models("torchvision:resnet1?")
        ['torchvision:resnet18']
    """
    patterns = [pattern] if isinstance(pattern, str) else pattern
    names = _names("black_box", [each for each in patterns if ":" not in each])
    for each in patterns:
        library, colon, models = each.partition(":")
        if colon and library in ("timm", "torchvision"):
            known = _timm_models() if library == "timm" else _torchvision_models()
            names += [f"{library}:{name}" for name in known if fnmatchcase(name, models)]
    return sorted(set(names))


def _torchvision_models() -> list[str]:
    from torchvision.models import list_models  # takes two seconds

    return list(list_models())


def _timm_models() -> list[str]:
    return list(required("timm", "a list of timm's models", "timm").list_models())


def _names(kind: Kind, pattern: str | Iterable[str]) -> list[str]:
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    shorts = Counter(short_name(full) for full in registry().names(kind))
    names = [
        full if shorts[short_name(full)] > 1 else short_name(full)
        for full in registry().names(kind)
    ]
    return sorted(name for name in names if any(fnmatchcase(name, each) for each in patterns))
