import contextlib
import json
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from saliencykit.alternatives.constant import Constant
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.objective import Objective, Term
from saliencykit.data.training_images import TrainingImages
from saliencykit.maskers.realtime.encoder import StandaloneEncoder
from saliencykit.maskers.realtime.masking_network import masking_network
from saliencykit.networks.split_layer import choose_split_layer
from saliencykit.terms.area import Area
from saliencykit.terms.presets import masking_network as ours
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.testing.unchanged import untouched
from saliencykit.training.cache import fill_cache, make_views
from saliencykit.training.loop import Loop
from saliencykit.training.schedule import Schedule
from tests.helpers import seeded

accelerate = pytest.importorskip("accelerate")


def loop(
    black_box=None,
    *,
    side=16,
    count=24,
    directory=None,
    seed=0,
    on_step=lambda step: None,
    **options,
):
    """A loop on planted evidence with a tiny encoder, or on a box with a trunk."""
    planted = PlantedEvidence()
    images, labels = planted.examples(count, generator=seeded(), size=side)
    black_box = black_box or planted
    photos = TrainingImages((images * 255).round().to(torch.uint8), labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        own = StandaloneEncoder(widths=(6, 8), depth=1, size=(side, side))
    network = masking_network(
        black_box, images, labels, encoder="auto" if black_box.module else own, seed=seed
    )
    schedule = Schedule(
        options.pop("objective", ours()),
        Constant(color=0.5),
        **{"pixel_steps": 6, "batch_size": 6, "seed": seed, **options},
    )
    partial_network = choose_split_layer(black_box, images) if schedule.mixing_steps else None
    views = make_views(photos, views=schedule.views_per_image, most=1000, seed=seed)
    cache = fill_cache(
        views,
        black_box,
        network.encoder,
        partial_network.feature_map if partial_network else None,
        schedule.alternative,
    )
    return Loop(
        network,
        black_box,
        partial_network,
        cache,
        (images[:8], labels[:8]),
        schedule,
        accelerate.Accelerator(cpu=True),
        directory=directory,
        on_step=on_step,
    )


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# what a step does


def test_the_phases_and_what_is_said_of_them(trunk_black_box):
    steps = []
    one = loop(trunk_black_box(), side=32, mixing_steps=3, pixel_steps=2, on_step=steps.append)
    gate = one.run(resume=False)
    assert [step.number for step in steps] == list(range(1, 6))
    assert [step.phase for step in steps] == ["feature-mixing"] * 3 + ["pixels"] * 2
    assert all(math.isfinite(step.loss) and step.of == 5 for step in steps)
    for step in steps:
        assert step.parts.keys() == {
            "Smoothness",
            "Area",
            "PreservedLogProbability",
            "DestroyedProbability",
        }
        assert all(
            0 <= value <= 1 for value in (step.area, step.fake_area, step.kept, step.dropped)
        )
        assert step.loss == pytest.approx(sum(step.parts.values()), rel=1e-4)
    assert gate.n == 8


def test_the_warm_up_moves_the_selector_and_leaves_the_decoder_alone():
    one = loop(warmup_steps=5, pixel_steps=1)
    before = weights(one.network)
    for number in range(5):
        one._step(number)
    after = weights(one.network)
    for name, value in before.items():
        if name.startswith("decoder.") and value.is_floating_point():
            assert torch.equal(value, after[name]), (
                f"{name}: weight decay alone is a whole step of Adam"
            )
    assert not torch.equal(before["selector.weight"], after["selector.weight"])
    assert torch.equal(before["selector.log_scale"], after["selector.log_scale"])
    one._step(5)
    assert not torch.equal(
        weights(one.network)["decoder.last.weight"], after["decoder.last.weight"]
    )


def test_the_selector_learns_the_classes():
    one = loop(warmup_steps=20, pixel_steps=1)
    losses = [one._step(number).loss for number in range(20)]
    assert sum(losses[-4:]) < sum(losses[:4])


def test_without_fakes():
    steps = []
    loop(fake_class_rate=0.0, on_step=steps.append).run(resume=False)
    assert all(math.isnan(step.fake_area) and math.isfinite(step.loss) for step in steps)


def test_an_epoch_is_every_view_once():
    one = loop(batch_size=4, views_per_image=2)
    total = len(one.cache.views)
    first = torch.cat([one.loss.view_indices(number) for number in range(total // 4)])
    assert sorted(first.tolist()) == list(range(total))
    second = torch.cat([one.loss.view_indices(number) for number in range(total // 4, total // 2)])
    assert sorted(second.tolist()) == list(range(total))
    assert not torch.equal(first, second)


def test_a_batch_that_is_larger_than_the_views():
    one = loop(count=5, views_per_image=1, batch_size=16)
    assert sorted(one.loss.view_indices(3).tolist()) == list(range(5))


def test_the_areas_weight_follows_the_wanted_area():
    one = loop(area=0.2)
    start = one.loss.area_weight
    one.loss.steer_area(0.5)
    assert one.loss.area_weight > start
    for _ in range(100):
        one.loss.steer_area(0.05)
    assert one.loss.area_weight < start
    for _ in range(2000):
        one.loss.steer_area(0.0)
    assert one.loss.area_weight == pytest.approx(0.05)
    one.loss.steer_area(math.nan)
    area = next(term for term in one.loss._objective().terms if isinstance(term, Area))
    assert area.weight == one.loss.area_weight
    assert loop().loss._objective() == ours()


def test_nothing_that_is_borrowed_is_trained(trunk_black_box):
    black_box = trunk_black_box()
    black_box.model.train()
    one = loop(black_box, side=32, mixing_steps=2, pixel_steps=2)
    with untouched("Loop", black_box.model):
        one.run(resume=False)
    assert all(parameter.grad is None for parameter in one.network.parameters())


# what is not finite


@dataclass(frozen=True, kw_only=True)
class Moody(Term):
    """Not finite on its calls number `bad`, in one of the ways that can happen."""

    bad: range = range(0)
    how: str = "huge"
    calls = [0]  # noqa: RUF012 (shared by the copies that weights make)

    def penalty(self, trial):
        self.calls[0] += 1
        fine = trial.mask.mean((1, 2, 3))
        if self.calls[0] - 1 not in self.bad:
            return fine
        match self.how:
            case "huge":
                return fine + 3e38  # times the weight: infinite
            case "nan":
                return fine * math.nan
        return (fine - fine.detach()).abs().sqrt() + fine  # a finite loss with an infinite gradient


@pytest.mark.parametrize(
    "how", ["gradient", *(pytest.param(h, marks=pytest.mark.slow) for h in ("huge", "nan"))]
)
def test_a_step_that_is_not_finite_is_skipped(how):
    Moody.calls[0] = 0
    steps, states = [], []
    one = loop(objective=Objective((Moody(weight=9.0, bad=range(2, 5), how=how),)), pixel_steps=8)
    one.on_step = lambda step: (
        steps.append(step),
        states.append(weights(one.network)["decoder.last.weight"]),
    )
    one.run(resume=False)
    assert [math.isnan(step.loss) for step in steps] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert torch.equal(states[1], states[4])
    assert not torch.equal(states[4], states[5])
    assert all(torch.isfinite(value).all() for value in weights(one.network).values())


def test_five_in_a_row_stop_and_say_why(tmp_path):
    Moody.calls[0] = 0
    one = loop(
        objective=Objective((Moody(bad=range(5, 99), how="nan"),)),
        pixel_steps=20,
        save_every=4,
        directory=tmp_path,
    )
    with pytest.raises(
        SaliencyKitError,
        match=r"5 steps in a row \(up to step 10\); the last checkpoint is in .*Moody.* NaN",
    ):
        one.run(resume=False)
    Moody.calls[0] = -1000
    again = loop(
        objective=Objective((Moody(bad=range(5, 99), how="nan"),)),
        pixel_steps=20,
        save_every=4,
        directory=tmp_path,
    )
    again._resume()
    assert again.done == 8, "what was finished is there"


# killed and resumed


class KilledError(KeyboardInterrupt):
    pass


def run_until(number, directory, black_box=None, **options):
    def stop(step):
        if step.number == number:
            raise KilledError

    one = loop(black_box, directory=directory, on_step=stop, **options)
    with contextlib.suppress(KilledError):
        one.run(resume=True)
    return one


def test_killed_and_resumed_ends_with_the_same_weights(tmp_path):
    options = {
        "warmup_steps": 3,
        "pixel_steps": 6,
        "save_every": 2,
        "validate_every": 3,
        "area": 0.2,
    }
    whole = loop(**options)
    gate = whole.run(resume=False)
    for killed in ([2], [4, 6]):
        directory = tmp_path / str(killed[0])
        for number in killed:
            run_until(number, directory, **options)
        last = loop(directory=directory, **options)
        assert last.run(resume=True) == gate
        assert same(weights(last.network), weights(whole.network))
        assert last.loss.area_weight == whole.loss.area_weight


def test_a_finished_training_is_not_trained_again(tmp_path):
    steps = []
    one = loop(directory=tmp_path)
    gate = one.run(resume=True)
    again = loop(directory=tmp_path, on_step=steps.append)
    assert again.run(resume=True) == gate
    assert steps == []
    assert same(weights(one.network), weights(again.network))
    fresh = loop(directory=tmp_path, on_step=steps.append)
    fresh.run(resume=False)
    assert len(steps) == 6


def scores_in_turn(monkeypatch, scores):
    """Gates with these scores, by the number of the step that is done."""
    from saliencykit.training import loop as module

    real = module.validate
    state = {}

    def scored(network, black_box, images, labels, **options):
        gate = real(network, black_box, images, labels, **options)
        return replace(
            gate, kept_at=(scores[state["loop"].done],) * 4, dropped_at=(0.0,) * 4, mosaic=math.nan
        )

    monkeypatch.setattr(module, "validate", scored)
    return state


def test_it_stops_early_and_stays_stopped(monkeypatch, tmp_path):
    scores = {2: 0.9, 4: 0.1, 6: 0.1, 8: 0.1, 10: 0.1, 12: 0.1}
    state = scores_in_turn(monkeypatch, scores)
    options = {
        "pixel_steps": 12,
        "validate_every": 2,
        "patience": 2,
        "save_every": 1,
        "directory": tmp_path,
    }
    one = state["loop"] = loop(**options)
    kept = {}
    one.on_step = lambda step: kept.update({step.number: weights(one.network)})
    one.run(resume=True)
    assert one.done == 6
    assert same(weights(one.network), kept[2]), "the best weights come back"
    steps = []
    again = state["loop"] = loop(on_step=steps.append, **options)
    again.run(resume=True)
    assert steps == []
    assert same(weights(again.network), kept[2])


def test_the_best_weights_survive_a_kill(monkeypatch, tmp_path):
    state = scores_in_turn(monkeypatch, {1: 0.9, 2: 0.5, 3: 0.1, 4: 0.1})
    options = {"pixel_steps": 4, "validate_every": 1, "patience": 9, "save_every": 1}
    whole = state["loop"] = loop(**options)
    whole.run(resume=False)
    killed = loop(
        directory=tmp_path,
        on_step=lambda step: (_ for _ in ()).throw(KilledError) if step.number == 3 else None,
        **options,
    )
    state["loop"] = killed
    with pytest.raises(KilledError):
        killed.run(resume=True)
    last = state["loop"] = loop(directory=tmp_path, **options)
    last.run(resume=True)
    assert same(weights(last.network), weights(whole.network))


def test_a_checkpoint_of_another_schedule(tmp_path):
    loop(directory=tmp_path, save_every=3).run(resume=True)
    for change in (
        {"lr": 1e-3},
        {"pixel_steps": 7},
        {"objective": Objective((Area(),))},
        {"views_per_image": 1},
        {"seed": 1},
    ):
        with pytest.raises(InputError, match=r"belongs to another training .* resume=False"):
            loop(directory=tmp_path, **{"save_every": 3} | change).run(resume=True)


# the directory


def test_log_checkpoint_and_photos(tmp_path):
    loop(directory=tmp_path / "new", pixel_steps=6, validate_every=2, save_every=3).run(resume=True)
    rows = [json.loads(line) for line in (tmp_path / "new" / "log.jsonl").read_text().splitlines()]
    assert [row["step"]["number"] for row in rows if "step" in row] == [1, 2, 3, 4, 5, 6]
    assert [row["validation"]["step"] for row in rows if "validation" in row] == [2, 4]
    assert "score" in rows[-1]["final"]
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == ["log.jsonl", "masks-000002.png", "masks-000004.png", "state.safetensors"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaliencyKitError, match="cannot be written"):
        loop(directory=tmp_path / "file" / "new").run(resume=False)


def test_bf16_trains_and_stays_finite():
    steps = []
    one = loop(mixed_precision="bf16", on_step=steps.append)
    one.run(resume=False)
    assert all(math.isfinite(step.loss) for step in steps)
    assert all(
        value.dtype == torch.float32
        for value in one.network.state_dict().values()
        if value.is_floating_point()
    )
    assert all(torch.isfinite(value).all() for value in weights(one.network).values())


def test_batch_norms_of_the_network_learn(trunk_black_box):
    one = loop(trunk_black_box(), side=32)
    norms = [
        module for module in one.network.decoder.modules() if isinstance(module, nn.BatchNorm2d)
    ]
    one.run(resume=False)
    assert norms
    assert all(int(norm.num_batches_tracked) == 6 for norm in norms)
