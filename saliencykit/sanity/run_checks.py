"""sanity_checks(): all sanity checks in one call, on any data set."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from saliencykit.core.checks import counts, one_of
from saliencykit.core.checks import seed as check_seed
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.registry.coerce import as_black_box, as_masker, trained_masker
from saliencykit.runs.run_settings import versions
from saliencykit.sanity.check_images import load_check_images
from saliencykit.sanity.check_result import CheckResult
from saliencykit.sanity.class_leakage_check import ClassLeakage, class_leakage
from saliencykit.sanity.estimate import as_json
from saliencykit.sanity.masks import OnStage
from saliencykit.sanity.model_randomization_check import ModelRandomization, model_randomization
from saliencykit.sanity.randomized_model import Randomize
from saliencykit.sanity.wrong_label_check import WrongLabel, wrong_label
from saliencykit.storage.atomic_files import write_text

CHECKS: Mapping[str, Callable[..., CheckResult]] = {
    WrongLabel.name: wrong_label,
    ClassLeakage.name: class_leakage,
    ModelRandomization.name: model_randomization,
}
"""The checks by name, in the order in which they run."""


@final
@dataclass(frozen=True)
class SanityReport:
    """The results of sanity checks.

    Attributes:
        model: The model's repr.
        masker: The masker's name.
        num_images: Number of images.
        missing: Why images could not be used, and how many.
        results: One for each check that was run.
        skipped: Why a check was not run, by its name.
        settings: Arguments, and the versions of saliencykit, torch and Python.
    """

    model: str
    masker: str
    num_images: int
    missing: Mapping[str, int]
    results: tuple[CheckResult, ...]
    skipped: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def passed(self) -> bool | None:
        """False if a check failed, None if one is unclear or none was run, else True."""
        verdicts = [each.passed for each in self.results]
        return False if False in verdicts else None if None in verdicts or not verdicts else True

    def __str__(self) -> str:
        """A line for each check."""
        skipped = [f"{name}: skipped. {why}" for name, why in self.skipped.items()]
        return "\n".join([each.line for each in self.results] + skipped)

    def to_dict(self) -> dict[str, Any]:
        """Every estimate with its interval, verdict and rule, as JSON types."""
        results = {
            each.name: as_json(each) | {"rule": each.rule, "line": each.line}
            for each in self.results
        }
        data: dict[str, Any] = as_json(self)
        return data | {"passed": self.passed, "results": results}

    def to_json(self, path: str | Path) -> Path:
        """Write `to_dict` to a file.

        Raises:
            SaliencyKitError: The file cannot be written.
        """
        path = Path(path).expanduser()
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        write_text(path, text, advice="Choose another file.")
        return path


def sanity_checks(
    model: object,
    masker: Masker | str | None,
    data: Any,
    *,
    checks: str | Iterable[str] | None = None,
    randomize: Randomize = "head",
    steps: int | None = None,
    max_images: int | None = None,
    seed: int = 0,
    batch_size: int = 16,
    on_stage: OnStage | None = None,
) -> SanityReport:
    """Check that masks depend on the model and the class, and not on the image alone or on a code.

    Three checks, each with a verdict by a fixed rule: `wrong-label` (`wrong_label`),
    `class-leakage` (`class_leakage`) and `model-randomization` (`model_randomization`). They do not
    measure how good a mask is: noise may pass, and what fails can look convincing. The functions
    have further options.

    Args:
        model: As for `explain`; it is only read.
        masker: A Masker, a text, or a trained masker's file. None: the one that was trained for
            exactly this model.
        data: Images, with or without labels, see `load_check_images`; some hundred. The model's
            predictions are explained.
        checks: Names of checks. None: all that apply; the others are skipped.
        randomize: What `model-randomization` randomizes in a copy of the model, `head` or
            `weights`.
        steps: Steps of the trainings that `model-randomization` runs for a trained masker, >= 1.
            None: as `fit` has it.
        max_images: Maximum number of images.
        seed: Random seed.
        batch_size: Images per batch, >= 1.
        on_stage: Called with the name of the stage, the number of finished images or steps, and the
            total.

    Raises:
        InputError: An argument, the images or, where checks are named, one of them cannot be used.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box = PlantedEvidence()
        >>> images, labels = black_box.examples(24, generator=torch.Generator().manual_seed(0))
        >>> sanity_checks(black_box, "center-box", images, checks="wrong-label").passed
        False

    References:
        Adebayo et al. 2018, "Sanity Checks for Saliency Maps", whose name this is.
    """
    black_box = as_black_box(model)
    names = _names(checks)
    one_of("sanity_checks", ("head", "weights"), randomize=randomize)
    check_seed(seed, "sanity_checks")
    counts("sanity_checks", batch_size=batch_size, steps=steps)
    known = trained_masker(black_box) if masker is None else as_masker(masker)
    if known is None:
        raise InputError(
            f"no masker was trained for exactly {black_box!r}; name one, such as 'grad-cam', or "
            "the file of yours."
        )
    shared = {"seed": seed, "batch_size": batch_size, "on_stage": on_stage}
    training = {"randomize": randomize, "steps": steps}
    results, skipped = list[CheckResult](), dict[str, str]()
    with torch.inference_mode(False):
        loaded = load_check_images(data, black_box, max_images)
        for name, check in CHECKS.items():
            if name not in names:
                continue
            options = shared | (training if name == ModelRandomization.name else {})
            try:
                results.append(check(black_box, known, loaded.images, loaded.labels, **options))
            except InputError as error:
                if checks is not None:
                    raise
                skipped[name] = str(error)
    if not results:
        raise InputError(" ".join(dict.fromkeys(skipped.values())))
    if masker is None:
        masker = "the model's own masker"
    settings = {"seed": seed, "batch_size": batch_size, "max_images": max_images}
    return SanityReport(
        model=repr(black_box),
        masker=masker if isinstance(masker, str) else repr(known),
        num_images=len(loaded.images),
        missing=loaded.missing,
        results=tuple(results),
        skipped=skipped,
        settings={**settings, **training, "checks": names, **versions()},
    )


def _names(checks: str | Iterable[str] | None) -> list[str]:
    names = list(CHECKS) if checks is None else [checks] if isinstance(checks, str) else [*checks]
    unknown = [name for name in names if name not in CHECKS]
    if unknown or not names:
        what = f"unknown sanity check {unknown[0]!r}" if unknown else "no sanity check is named"
        raise InputError(f"{what}; write one or more of {', '.join(CHECKS)}.")
    return names
