"""torch.set_default_device, set_default_dtype and an outer autocast change nothing."""

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from saliencykit import explain
from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import TrainedMaskerFactory
from saliencykit.core.metric import Sample
from saliencykit.core.objective import run_trial
from saliencykit.registry.coerce import as_alternative, as_masker, as_metric, create
from saliencykit.registry.manager import registry
from saliencykit.testing.black_boxes import small_network
from tests.helpers import seeded

PACKAGE = Path(__file__).parents[1] / "saliencykit"
QUICK = {
    "saliencykit/iterative": "iterative:steps=1,areas=(0.2,0.2)",
    "saliencykit/meaningful-perturbation": "meaningful-perturbation:steps=1",
    "saliencykit/extremal-perturbation": "extremal-perturbation:steps=2",
    "saliencykit/rise": "rise:samples=20",
    "saliencykit/excitation-backprop": "excitation-backprop:layer=2",
    "saliencykit/contrastive-excitation-backprop": "contrastive-excitation-backprop:layer=2",
}
MASKERS = [
    name
    for name, factory in registry().names("masker").items()
    if not isinstance(factory, TrainedMaskerFactory)
]
# one of each kind: explain leaves autocast for all of them
KINDS = [f"saliencykit/{name}" for name in ("cam", "gradient", "iterative", "rise", "universal")]
SETTINGS = ("meta", "float16")


@contextmanager
def default(setting: str) -> Iterator[None]:
    """ "meta" is a device other than the model's that every machine has."""
    dtype = torch.get_default_dtype()
    try:
        if setting == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, setting))
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(dtype)


def same_under_every_default(
    compute: Callable[[], list[Tensor]], wanted: list[Tensor] | None = None
) -> None:
    """The model is new each time, so that nothing is remembered."""
    wanted = compute() if wanted is None else wanted
    for setting in SETTINGS:
        with default(setting):
            got = compute()
        for one, other in zip(got, wanted, strict=True):
            assert one.dtype == other.dtype, setting
            assert torch.allclose(one, other, rtol=0, atol=0, equal_nan=True), setting


def network() -> TorchBlackBox:
    with torch.device("cpu"):
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        model = small_network().eval()
        torch.set_default_dtype(before)
    return TorchBlackBox(model, size=16)


IMAGES = torch.rand(2, 3, 16, 16, generator=seeded())
LABELS = torch.tensor([1, 2])
BOXES = tuple(torch.tensor([[1.0, 2.0, 9.0, 8.0]]) for _ in LABELS)
MASK = torch.rand(2, 1, 16, 16, generator=seeded(1))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MASKERS)
def test_masks_do_not_depend_on_the_defaults_of_torch(name: str) -> None:
    def compute() -> list[Tensor]:
        masker, black_box = as_masker(QUICK.get(name, name)), network()
        bound = masker.for_black_box(black_box)
        return [bound(black_box, IMAGES, LABELS, generator=seeded())]

    try:
        wanted = compute()
    except InputError as error:
        pytest.skip(f"{name} needs more than its name: {error}")
    same_under_every_default(compute, wanted)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in KINDS)) for name in MASKERS],
)
def test_an_outer_autocast_changes_no_explanation(name: str) -> None:
    def compute() -> list[Tensor]:
        answer = explain(network(), IMAGES, LABELS, masker=QUICK.get(name, name), inputs="raw")
        return [answer.mask, answer.logits, *filter(None.__ne__, (answer.kept, answer.dropped))]

    try:
        wanted = compute()
    except InputError as error:
        pytest.skip(f"{name} needs more than its name: {error}")
    with torch.autocast("cpu", torch.bfloat16):
        got = compute()
        assert torch.is_autocast_enabled("cpu")
    for one, other in zip(got, wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", registry().names("alternative"))
def test_fills_and_terms_do_not_depend_on_the_defaults_of_torch(name: str) -> None:
    def compute() -> list[Tensor]:
        alternative, black_box = as_alternative(name), network()
        trial = run_trial(
            black_box, IMAGES, LABELS, MASK, alternative=alternative, generator=seeded()
        )
        terms = [create("term", term)(trial) for term in registry().names("term")]
        return [alternative(IMAGES, generator=seeded(), mask=MASK), *terms]

    same_under_every_default(compute)


@pytest.mark.parametrize("name", registry().names("metric"))
def test_scores_do_not_depend_on_the_defaults_of_torch(name: str) -> None:
    def compute() -> list[Tensor]:
        black_box, sample = network(), Sample(IMAGES, LABELS, BOXES)
        scores = as_metric(name).for_data(sample)(
            black_box, sample, MASK, explain=lambda images, labels: MASK, generator=seeded()
        )
        return list(scores.values())

    same_under_every_default(compute)


NUMBERS = "full arange tensor as_tensor asarray scalar_tensor"  # of the dtype of what is given
FLOATS = "zeros ones empty eye linspace logspace rand randn normal"
WHOLE = "randint randperm tril_indices triu_indices"


def test_every_new_tensor_is_given_its_device_and_its_dtype() -> None:
    missing = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}: {keyword}= in {ast.unparse(call)}"
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        for keyword in _needed(call) - {each.arg for each in call.keywords}
    ]
    assert sorted(missing) == []


def _needed(call: ast.Call) -> set[str]:
    owner, name = getattr(call.func, "value", None), getattr(call.func, "attr", "")
    if not isinstance(owner, ast.Name) or owner.id != "torch":
        return set()
    if name in FLOATS.split():
        return {"device", "dtype"}
    if name in NUMBERS.split():
        constants = [each.value for each in ast.walk(call) if isinstance(each, ast.Constant)]
        return {"device", "dtype"} if any(isinstance(c, float) for c in constants) else {"device"}
    return {"device"} if name in WHOLE.split() else set()
