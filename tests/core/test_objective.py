from dataclasses import dataclass, replace

import pytest
import torch

from saliencykit.alternatives.constant import Constant
from saliencykit.alternatives.noise import Noise
from saliencykit.core.alternative import compose
from saliencykit.core.errors import ContractError, InputError
from saliencykit.core.objective import Objective, Term, Trial, run_trial
from saliencykit.terms.area import Area
from saliencykit.terms.preserve import PreservedLogProbability
from saliencykit.testing.black_boxes import Counting, PlantedEvidence
from tests.helpers import seeded

BOX = PlantedEvidence()
X, Y = BOX.examples(4, generator=torch.Generator().manual_seed(0))
MASK = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
GRAY = torch.full_like(X, 0.5)


def trial(real=None, mask=MASK, black_box=BOX, alternative=None, **more):
    return run_trial(
        black_box,
        X,
        Y,
        mask,
        alternative=alternative or Constant(),
        generator=seeded(),
        real=real,
        **more,
    )


def test_a_trial_holds_the_logits_of_both_edits():
    t = trial()
    assert torch.equal(t.images, X)
    assert t.mask is MASK
    assert t.real.all()
    assert torch.allclose(t.preserved, BOX(compose(X, MASK, GRAY)), atol=1e-6)
    assert torch.allclose(t.destroyed, BOX(compose(X, 1 - MASK, GRAY)), atol=1e-6)


def test_the_black_box_is_queried_once_with_two_edits_per_image():
    black_box = Counting(BOX)
    trial(black_box=black_box)
    assert black_box.batch_sizes == [8]


def test_the_two_fills_are_drawn_independently():
    class Remember(Counting):
        def logits(self, images):
            self.batch_sizes.append(images)
            return self.black_box(images)

    black_box = Remember(BOX)
    trial(mask=torch.zeros(4, 1, 16, 16), black_box=black_box, alternative=Noise())
    kept_nothing = black_box.batch_sizes[0][:4]
    black_box.batch_sizes.clear()
    trial(mask=torch.ones(4, 1, 16, 16), black_box=black_box, alternative=Noise())
    dropped_all = black_box.batch_sizes[0][4:]
    assert (kept_nothing - dropped_all).abs().mean() > 0.05


def test_gradients_flow_to_the_mask_only():
    mask = MASK.clone().requires_grad_(True)
    t = trial(mask=mask)
    (slope,) = torch.autograd.grad(t.preserved.sum() + t.destroyed.sum(), mask)
    assert bool((slope != 0).any())


def test_fakes_by_area_are_not_queried():
    real = torch.tensor([True, False, True, False])
    black_box = Counting(BOX)
    t = trial(real, black_box=black_box)
    assert black_box.batch_sizes == [4]
    whole = trial()
    assert torch.allclose(t.preserved[real], whole.preserved[real], atol=1e-6)
    assert torch.allclose(t.destroyed[real], whole.destroyed[real], atol=1e-6)
    assert not t.preserved[~real].any()
    assert not t.destroyed[~real].any()
    assert t.mask is MASK


def test_a_batch_of_fakes_needs_no_query():
    black_box = Counting(BOX)
    t = trial(torch.zeros(4, dtype=torch.bool), black_box=black_box)
    assert black_box.batch_sizes == []
    assert t.preserved.shape == (4, 4)


def test_inverted_fakes_swap_mask_and_complement():
    real = torch.tensor([True, False, True, False])
    t, whole = trial(real, fakes="inverted"), trial()
    assert torch.allclose(t.preserved[real], whole.preserved[real], atol=1e-6)
    assert torch.allclose(t.preserved[~real], whole.destroyed[~real], atol=1e-6)
    assert torch.allclose(t.destroyed[~real], whole.preserved[~real], atol=1e-6)
    assert t.mask is MASK  # area and smoothness still score the mask itself


def test_gradients_of_a_mixed_batch():
    real = torch.tensor([True, False, True, True])
    for fakes in ("area", "inverted"):
        mask = MASK.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(trial(real, mask=mask, fakes=fakes).preserved.sum(), mask)
        assert bool(slope[1].any()) == (fakes == "inverted")
        assert bool(slope[0].any())


def test_inputs_are_checked():
    with pytest.raises(ContractError, match="the masker returned shape"):
        trial(mask=MASK[..., :3])
    with pytest.raises(InputError, match="run_trial: label 7 in row 1"):
        run_trial(
            BOX, X, torch.tensor([0, 7, 0, 0]), MASK, alternative=Constant(), generator=seeded()
        )
    with pytest.raises(InputError, match="run_trial takes images"):
        run_trial(BOX, X[0], Y, MASK, alternative=Constant(), generator=seeded())


def test_the_alternative_is_made_ready_for_the_black_box():
    class Offset(Counting):
        baseline_color = (0.25, 0.25, 0.25)

    t = trial(
        mask=torch.zeros(4, 1, 16, 16), black_box=Offset(BOX), alternative=Constant(color="zero")
    )
    assert torch.allclose(t.preserved, BOX(torch.full_like(X, 0.25)), atol=1e-6)


@dataclass(frozen=True, kw_only=True)
class Give(Term):
    answer: object = None

    def penalty(self, trial):
        return self.answer


def test_a_term_multiplies_by_its_weight():
    assert Give(weight=3.0, answer=torch.arange(4.0))(trial()).tolist() == [0.0, 3.0, 6.0, 9.0]
    assert Term.reads_logits is True


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            torch.zeros(4, 1),
            r"Give.penalty returned torch.float32 of shape \(4, 1\); expected one float per image, "
            r"shape \(4,\)",
        ),
        (torch.tensor(1.0), r"shape \(\)"),
        (torch.full((4,), float("nan")), "NaN or infinite value in row 0, 1, 2, 3"),
        (1.0, "returned float"),
    ],
)
def test_a_broken_penalty_is_reported(answer, words):
    with pytest.raises(ContractError, match=words):
        Give(answer=answer)(trial())


def test_the_objective_is_the_weighted_sum_of_its_terms():
    loss = Objective((Area(weight=4.0), PreservedLogProbability(weight=0.5)))(t := trial())
    assert set(loss.parts) == {"Area", "PreservedLogProbability"}
    assert torch.allclose(loss.parts["Area"], 4 * MASK.mean((1, 2, 3)))
    assert torch.allclose(
        loss.total, 4 * Area().penalty(t) + 0.5 * PreservedLogProbability().penalty(t)
    )


def test_only_terms_of_the_mask_count_for_fakes():
    real = torch.tensor([True, False, True, False])
    t = trial(real)
    terms = (Area(), PreservedLogProbability())
    by_area = Objective(terms)(t)
    assert torch.equal(by_area.parts["Area"], Area()(t))
    assert not by_area.parts["PreservedLogProbability"][~real].any()
    assert by_area.parts["PreservedLogProbability"][real].all()
    inverted = Objective(terms, fakes="inverted")(replace(t, real=real))
    assert torch.equal(inverted.parts["PreservedLogProbability"], PreservedLogProbability()(t))


@pytest.mark.parametrize("terms", [(), (Area(), Area(weight=2.0))])
def test_an_objective_takes_one_term_of_each_class(terms):
    with pytest.raises(InputError, match="at least one term and at most one of each class"):
        Objective(terms)


@pytest.mark.parametrize(
    "wrong", [Area(weight=-1.0), Area(weight=float("nan")), Area(weight=float("inf")), "area"]
)
def test_weights_are_checked(wrong):
    with pytest.raises(InputError, match="takes Terms with finite weights >= 0"):
        Objective((wrong,))


def test_an_unknown_value_of_fakes_is_refused():
    with pytest.raises(InputError, match=r"fakes='none'\) takes 'area' or 'inverted'"):
        Objective((Area(),), fakes="none")


@pytest.mark.parametrize("real", [torch.ones(4), torch.ones(3, dtype=torch.bool)])
def test_real_is_checked(real):
    with pytest.raises(InputError, match=r"run_trial takes real as bool \(4,\); got"):
        trial(real)


def test_trial_is_immutable():
    with pytest.raises(AttributeError):
        trial().mask = MASK
    assert isinstance(trial(), Trial)
