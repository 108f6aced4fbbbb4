"""sanity_checks(): the checks of this room in one call, on pictures of any form."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import torch

from saliencykit._version import __version__
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import seed as check_seed
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.registry.coerce import as_black_box, as_masker, trained_masker
from saliencykit.sanity.check_images import CheckImages, load_check_images
from saliencykit.sanity.class_leakage_check import ClassLeakage, class_leakage
from saliencykit.sanity.intervals import as_facts
from saliencykit.sanity.masks import OnProgress
from saliencykit.sanity.model_randomization_check import ModelRandomization, model_randomization
from saliencykit.sanity.randomized_model import What
from saliencykit.sanity.wrong_label_check import WrongLabel, wrong_label

MaskerOutput: TypeAlias = WrongLabel | ClassLeakage | ModelRandomization
CHECKS: Mapping[str, type[MaskerOutput]] = {
    each.name: each for each in (WrongLabel, ClassLeakage, ModelRandomization)
}
"""The checks by name, in the order in which they are made."""


@final
@dataclass(frozen=True)
class SanityReport:
    """What the checks found.

    Attributes:
        model: The model's printed form.
        masker: The masker's name.
        pictures: How many it was checked on.
        missing: Why pictures could not be used, and how many.
        found: A result for each check that was made.
        left_out: Why a check was not made, by its name.
        settings: Arguments, and the versions of saliencykit and torch.
    """

    model: str
    masker: str
    pictures: int
    missing: Mapping[str, int]
    found: tuple[MaskerOutput, ...]
    left_out: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def passed(self) -> bool | None:
        """False if a check failed, None if one is unclear or none was made, else True."""
        verdicts = [each.passed for each in self.found]
        return False if False in verdicts else None if None in verdicts or not verdicts else True

    def __str__(self) -> str:
        """A line for each check."""
        left = [f"{name}: not made. {reason}" for name, reason in self.left_out.items()]
        return "\n".join([each.line for each in self.found] + left)

    def as_facts(self) -> dict[str, Any]:
        """As JSON has it: every figure with its interval, verdict and rule."""
        facts: dict[str, Any] = as_facts(self)
        found = {
            each.name: as_facts(each) | {"rule": each.rule, "line": each.line}
            for each in self.found
        }
        return facts | {"passed": self.passed, "found": found}

    def to_json(self, path: str | Path) -> Path:
        """Write `as_facts` to a file.

        Raises:
            InputError: The file cannot be written.
        """
        path = Path(path).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.as_facts(), indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot write to {path}: {error.strerror or error}; choose another file."
            ) from error
        return path


def sanity_checks(
    model: object,
    masker: Masker | str | None,
    data: Any,
    *,
    checks: str | Iterable[str] | None = None,
    randomize: What = "head",
    steps: int | None = None,
    max_images: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    on_progress: OnProgress | None = None,
) -> SanityReport:
    """Check that a masker's masks are about the model and the class, and not about the picture
    alone or a code.

    Three checks, each with a verdict by a stated rule: `wrong-label` (`wrong_label`), `encoding`
    (`class_leakage`) and `randomised-box` (`model_randomization`). They say nothing about how good a
    mask is: noise may pass, and what fails can look convincing. Call the functions themselves for
    their other options.

    Args:
        model: As for `explain`; it is only read.
        masker: A Masker, a text, or a trained one's file. None: the one that was trained for
            exactly this model.
        data: Pictures, with or without labels, see `sanity.pictures.shown`; some hundred. The
            classes are the model's own answers.
        checks: Names of checks. None: all that apply; what does not is left out with its reason.
        randomize: What `randomised-box` randomises in a copy of the model, `head` or `weights`.
        steps: Of the trainings that `randomised-box` takes for a trained masker, >= 1. None: as
            `fit` has it.
        max_images: At most so many pictures.
        seed: Of everything that is drawn.
        batch_size: Pictures at once, >= 1.
        on_progress: Called with what is done, how much of it is, and of how much.

    Raises:
        InputError: An argument, the pictures or, where checks are named, one of them cannot be used
            as it is.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(24, generator=torch.Generator().manual_seed(0))
        >>> sanity_checks(black_box, "center-box", images, checks="wrong-label").passed
        False

    References:
        Adebayo et al. 2018, "Sanity Checks for Saliency Maps", whose name this is.
    """
    black_box = as_black_box(model)
    names = (
        tuple(CHECKS) if checks is None else (checks,) if isinstance(checks, str) else tuple(checks)
    )
    for name in names:
        if name not in CHECKS:
            raise InputError(f"no sanity check is called {name!r}; they are {', '.join(CHECKS)}.")
    if not names:
        raise InputError(f"no sanity check is named; they are {', '.join(CHECKS)}.")
    if randomize not in ("head", "weights"):
        raise InputError(f"what is randomised is 'head' or 'weights'; got {randomize!r}.")
    check_seed(seed, "sanity_checks")
    if batch_size < 1 or (steps is not None and steps < 1):
        raise InputError(f"sanity_checks(batch_size={batch_size}, steps={steps}): both are >= 1.")
    asked = trained_masker(black_box) if masker is None else as_masker(masker)
    if asked is None:
        raise InputError(
            f"no masker was trained for exactly {black_box!r}; name one, such as 'grad-cam' or the file "
            "of yours."
        )
    with torch.inference_mode(False):
        pictures = load_check_images(data, black_box, max_images)
        options: dict[str, Any] = {
            "seed": seed,
            "batch_size": batch_size,
            "on_progress": on_progress,
        }
        made = _checks(black_box, asked, pictures, {"what": randomize, "steps": steps}, options)
        found, left = list[MaskerOutput](), dict[str, str]()
        for name in [each for each in CHECKS if each in names]:
            try:
                found.append(made[name]())
            except InputError as error:
                if checks is not None:
                    raise
                left[name] = str(error)
    if not found:
        raise InputError(" ".join(dict.fromkeys(left.values())))
    settings = {
        "seed": seed,
        "batch": batch_size,
        "limit": max_images,
        "steps": steps,
        "randomise": randomize,
        "checks": list(names),
    }
    versions = {"saliencykit": __version__, "torch": torch.__version__}
    name = (
        masker
        if isinstance(masker, str)
        else "the model's own masker"
        if masker is None
        else repr(asked)
    )
    return SanityReport(
        repr(black_box),
        name,
        len(pictures.images),
        pictures.missing,
        tuple(found),
        left,
        settings | versions,
    )


def _checks(
    black_box: BlackBox,
    masker: Masker,
    pictures: CheckImages,
    training: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Mapping[str, Callable[[], MaskerOutput]]:
    images, labels = pictures.images, pictures.labels
    return {
        "wrong-label": lambda: wrong_label(black_box, masker, images, labels, **options),
        "encoding": lambda: class_leakage(black_box, masker, images, labels, **options),
        "randomised-box": lambda: model_randomization(
            black_box, masker, images, labels, **training, **options
        ),
    }
