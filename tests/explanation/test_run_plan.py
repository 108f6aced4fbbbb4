"""plan_run: what it forecasts is what a run takes."""

import time

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.demo import demo_image
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.explanation.run_plan import plan_run
from saliencykit.testing.black_boxes import Counting, PlantedEvidence


def size_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_bytes_and_queries_are_those_of_a_run(form, tmp_path):
    pytest.importorskip("pyarrow")
    images = PlantedEvidence().examples(200, generator=torch.Generator().manual_seed(0))[0]
    options = {"masker": "center-box", "sufficient": True, "budget": 0.2}
    plan = plan_run(PlantedEvidence(), images, **options)
    counting = Counting(PlantedEvidence())
    explain_dataset(counting, images, overlays=0, format=form, output_dir=tmp_path, **options)
    assert (plan.images, plan.measured, plan.failures) == (200, 32, ())
    assert plan.total_bytes[form] == pytest.approx(size_of(tmp_path), rel=0.25)
    assert plan.images * plan.queries == pytest.approx(counting.num_images, rel=0.05)


@pytest.mark.slow
def test_hours_are_those_of_a_run_within_a_quarter(tmp_path):
    """In processor time, and in one of three tries: the machine may be busy."""
    images, shares = [demo_image().rotate(angle) for angle in range(300)], []
    while len(shares) < 3 and shares[-1:] != pytest.approx([1], rel=0.25):
        plan = plan_run("demo", images)
        started, out = time.process_time(), tmp_path / str(len(shares))
        explain_dataset("demo", images, output_dir=out, overlays=0, num_workers=1)
        shares.append(plan.cpu_hours * 3600 / (time.process_time() - started))
    assert shares[-1] == pytest.approx(1, rel=0.25), shares


def test_damaged_images_are_counted_and_nothing_to_measure_is_refused():
    good = torch.rand(3, 16, 16)
    plan = plan_run(PlantedEvidence(), [good, b"no image"], images=10, masker="center-box")
    assert (plan.images, plan.measured, len(plan.failures)) == (10, 2, 1)
    with pytest.raises(InputError, match="nothing to plan: no image can be explained"):
        plan_run(PlantedEvidence(), [b"no image"], masker="center-box")


def test_the_number_of_threads_is_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        plan_run(PlantedEvidence(), torch.rand(2, 3, 16, 16), masker="center-box")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
