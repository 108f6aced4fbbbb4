"""Everything that is registered, on an accelerator: tensors stay where the box is. Skipped where
there is none.
"""

import pytest
import torch

from saliencykit.core.masker import TrainedMaskerFactory
from saliencykit.core.metric import Sample
from saliencykit.core.objective import run_trial
from saliencykit.registry.coerce import as_alternative, as_masker, as_metric, create
from saliencykit.registry.manager import registry
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched
from tests.helpers import seeded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
QUICK = {"saliencykit/rise": "rise:samples=20"}


@pytest.fixture
def there():
    return PlantedEvidence(device=torch.device("cuda"))


UNTRAINED = [
    name
    for name, factory in registry().names("masker").items()
    if not isinstance(factory, TrainedMaskerFactory)
    and name != "saliencykit/on-surrogate"  # which needs a surrogate
]


@pytest.mark.parametrize("name", UNTRAINED)
def test_maskers(name, there):
    images, labels = there.examples(3, generator=seeded())
    masker = as_masker(QUICK.get(name, name))
    with untouched(name, images=images, labels=labels):
        mask = masker(there, images, labels, generator=seeded())
    assert mask.device.type == "cuda"
    if "iterative" in name or "perturbation" in name:
        return  # an optimizer's path depends on the last digits
    here = masker(PlantedEvidence(), images.cpu(), labels.cpu(), generator=seeded())
    assert torch.allclose(mask.cpu(), here, atol=1e-3)


@pytest.mark.parametrize("name", registry().names("alternative"))
def test_alternatives_and_trials(name, there):
    images, labels = there.examples(3, generator=seeded())
    alternative = as_alternative(name)
    mask = there.evidence(images, labels)
    fill = alternative(images, generator=seeded(), mask=mask)
    assert torch.allclose(
        fill.cpu(), alternative(images.cpu(), generator=seeded(), mask=mask.cpu()), atol=1e-5
    )
    trial = run_trial(
        there, images, labels, mask, alternative=alternative, generator=seeded(), real=labels == 1
    )
    assert trial.preserved.device.type == "cuda"
    for term in registry().names("term"):
        assert create("term", term)(trial).device.type == "cuda"


@pytest.mark.parametrize("name", registry().names("metric"))
def test_metrics(name, there):
    images, labels = there.examples(3, generator=seeded())
    mask = there.evidence(images, labels)
    boxes = tuple(torch.tensor([[1.0, 2.0, 9.0, 8.0]], device=images.device) for _ in images)
    sample = Sample(images, labels, boxes)
    scores = as_metric(name).for_data(sample)(
        there, sample, mask, explain=there.evidence, generator=seeded()
    )
    assert all(value.device.type == "cuda" for value in scores.values())
