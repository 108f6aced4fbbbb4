"""Ours beside the libraries where people get these methods now, at equal settings: time, memory,
and do the maps agree?

    python -m benchmarks.peers             # MobileNetV2, all pairs: about an hour
    python -m benchmarks.peers --model resnet50 --pairs occlusion grad-cam
    python -m benchmarks.peers --quick     # fewer windows, masks and rounds: a look

One process, one thread, CPU time. In each round a pair's two sides run in turn; the table has the
median of the rounds' ratios with an interval of at least 95 % (the range where the rounds are few).
Memory is what a run adds at its peak to the model after one forward pass, each side in a process of
its own. Agreement is between the two maps: the largest difference as a share of the peer's range
after the best factor and offset (the units differ), and Pearson's correlation. Weights are random
for the time, which they do not change, and those of a trained network for the agreement, where the
data folder has them.

The peers are installed in an environment of their own: `pip install torchray xaitk-saliency
grad-cam captum`. Those that are not there are left out. Extremal perturbation has a benchmark of
its own, `benchmarks.extremal`; so has the accuracy of RISE with few masks, `benchmarks.rise_masks`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from benchmarks.data import mobilenet_v2
from benchmarks.speed import (
    LABEL,
    MEAN,
    SIDE,
    STD,
    WINDOW,
    cpu_seconds,
    interval,
    network,
    resident,
    xaitk,
)
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import InputError, Masker, place_maps
from saliencykit.registry import as_masker

_FEW = 50

Side = Callable[[], Tensor | None]


@dataclass(frozen=True)
class Case:
    """What both sides are queried: a model, one normalized image, the same image raw, and how
    much to do.

    Attributes:
        model: Takes normalized images.
        black_box: The same model as our black box.
        raw: (1, 3, 224, 224).
        stride: Pixels between occlusion's windows.
        samples: Masks of RISE, points of integrated gradients, noises of SmoothGrad.
    """

    model: nn.Module
    black_box: TorchBlackBox
    raw: Tensor
    stride: int
    samples: int
    steps: int

    @property
    def image(self) -> Tensor:
        """Normalized with the black box's own numbers."""
        mean, std = (
            torch.tensor(numbers).view(1, -1, 1, 1)
            for numbers in (self.black_box.mean, self.black_box.std)
        )
        return (self.raw - mean) / std

    def ours(self, masker: Masker | str) -> Side:
        """Our map: the signed scores."""
        made, label = as_masker(masker), torch.tensor([LABEL])
        return lambda: (
            made.attribute(
                self.black_box, self.raw, label, generator=Generator().manual_seed(0)
            ).attributions
        )


@dataclass(frozen=True)
class Pair:
    """Two sides of one comparison.

    Attributes:
        name: What is compared.
        evaluations: Of the model, forward alone or forward and backward, a side.
        wanted: The least ratio for MobileNetV2 and ResNet-50.
        sides: From a case: ours, then the peer's.
        dear: Seconds and more: fewer rounds.
    """

    name: str
    evaluations: Callable[[Case], int]
    wanted: tuple[float | None, float | None]
    sides: Callable[[Case], tuple[Side, Side]]
    dear: bool = False


def windows(case: Case) -> int:
    """Of occlusion, with the image itself."""
    return ((SIDE - WINDOW) // case.stride + 1) ** 2 + 1


def _zero() -> Any:
    from saliencykit.alternatives import Constant

    return Constant(color="zero")


def captum_occlusion(at_once: int) -> Callable[[Case], tuple[Side, Side]]:
    def sides(case: Case) -> tuple[Side, Side]:
        from captum.attr import Occlusion as Peer

        from saliencykit.maskers import Occlusion

        peer = Peer(nn.Sequential(case.model, nn.Softmax(1)))
        mine = case.ours(Occlusion(window=WINDOW, stride=case.stride, alternative=_zero()))
        shape, strides = (3, WINDOW, WINDOW), (3, case.stride, case.stride)
        return mine, lambda: peer.attribute(
            case.image,
            shape,
            strides=strides,
            baselines=0.0,
            target=LABEL,
            perturbations_per_eval=at_once,
        )[:, :1]

    return sides


def captum_ablation(case: Case) -> tuple[Side, Side]:
    from captum.attr import FeatureAblation as Peer

    from saliencykit.maskers import FeatureAblation

    places = torch.arange(SIDE) // 32
    regions = (places[:, None] * 7 + places)[None, None]
    peer = Peer(nn.Sequential(case.model, nn.Softmax(1)))
    return case.ours(FeatureAblation(regions=regions, alternative=_zero())), lambda: peer.attribute(
        case.image, baselines=0.0, target=LABEL, feature_mask=regions
    )[:, :1]


def xaitk_pair(which: int) -> Callable[[Case], tuple[Side, Side]]:
    def sides(case: Case) -> tuple[Side, Side]:
        from saliencykit.maskers import Occlusion, Rise

        peer = xaitk(case.model, case.raw, case.samples, case.stride, 0)[which].run

        def run() -> None:
            peer()

        mine = (
            Rise(samples=case.samples)
            if which == 0
            else Occlusion(window=WINDOW, stride=case.stride)
        )
        return case.ours(mine), run

    return sides


def torchray_rise(case: Case) -> tuple[Side, Side]:
    from torchray.attribution.rise import rise

    from saliencykit.maskers import Rise

    def run() -> (
        None
        # other masks: the maps agree as far as the numbers of masks allow, see
        # benchmarks.rise_masks
    ):
        rise(case.model, case.image, target=LABEL, num_masks=case.samples)

    return case.ours(Rise(samples=case.samples)), run


def captum_gradient(name: str, mine: str, channels: str) -> Callable[[Case], tuple[Side, Side]]:
    def sides(case: Case) -> tuple[Side, Side]:
        import captum.attr

        peer = getattr(captum.attr, name)(case.model)
        options = {"abs": False} if name == "Saliency" else {}
        return case.ours(mine), lambda: _one(
            peer.attribute(case.image, target=LABEL, **options).detach(), channels
        )

    return sides


def captum_integrated(case: Case) -> tuple[Side, Side]:
    from captum.attr import IntegratedGradients as Peer

    from saliencykit.maskers import IntegratedGradients

    peer = Peer(case.model)
    return case.ours(IntegratedGradients(steps=case.steps)), lambda: _one(
        peer.attribute(case.image, target=LABEL, n_steps=case.steps).detach(), "sum"
    )


def captum_smoothgrad(case: Case) -> tuple[Side, Side]:
    from captum.attr import NoiseTunnel, Saliency

    from saliencykit.maskers import SmoothGrad

    peer, spread = (
        NoiseTunnel(Saliency(case.model)),
        0.15 * float(case.image.amax() - case.image.amin()),
    )

    def run() -> None:  # other noises
        peer.attribute(
            case.image,
            nt_type="smoothgrad",
            nt_samples=case.steps,
            nt_samples_batch_size=4,
            stdevs=spread,
            target=LABEL,
        )

    return case.ours(SmoothGrad(samples=case.steps)), run


def captum_grad_cam(case: Case) -> tuple[Side, Side]:
    from captum.attr import LayerGradCam

    from saliencykit.networks import find_target_layer

    name = find_target_layer(case.black_box, case.raw).name
    peer = LayerGradCam(case.model, case.model.get_submodule(name))
    generator, label = Generator().manual_seed(0), torch.tensor([LABEL])
    offset = as_masker("grad-cam").mask(case.black_box, case.raw, label, generator).offset
    size = case.raw.shape[2:]  # Captum's map, placed where the layer's positions are

    def theirs() -> Tensor:
        return place_maps(peer.attribute(case.image, target=LABEL).detach(), size, offset)

    return case.ours("grad-cam"), theirs


def grad_cam_package(name: str, mine: str) -> Callable[[Case], tuple[Side, Side]]:
    def sides(case: Case) -> tuple[Side, Side]:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        # as in its own README
        layer = case.model.layer4[-1] if hasattr(case.model, "layer4") else case.model.features[-1]

        def run() -> Tensor:
            case.model.requires_grad_(True)  # it fails on frozen weights
            with getattr(pytorch_grad_cam, name)(model=case.model, target_layers=[layer]) as cam:
                gray = cam(input_tensor=case.image, targets=[ClassifierOutputTarget(LABEL)])
            case.model.requires_grad_(False)
            return torch.from_numpy(gray)[:, None]

        scores = case.ours(mine)

        def positive() -> Tensor:
            found = scores()
            assert found is not None
            return found.clamp_min(0)

        return positive, run

    return sides


def torchray_excitation(case: Case) -> tuple[Side, Side]:
    from torchray.attribution.excitation_backprop import excitation_backprop

    from saliencykit.maskers import ExcitationBackprop

    layer = "layer2" if hasattr(case.model, "layer2") else "features.6"
    return case.ours(ExcitationBackprop(layer=layer)), lambda: _whole(
        excitation_backprop(case.model, case.image, LABEL, saliency_layer=layer).detach()
    )


PAIRS = {
    "occlusion-1": Pair(
        "Captum Occlusion, 1 window at once", windows, (3.5, 2.5), captum_occlusion(1), dear=True
    ),
    "occlusion-16": Pair(
        "Captum Occlusion, 16 at once", windows, (5, 3), captum_occlusion(16), dear=True
    ),
    "occlusion-xaitk": Pair(
        "xaitk-saliency sliding window", windows, (4, 2.5), xaitk_pair(1), dear=True
    ),
    "feature-ablation": Pair(
        "Captum FeatureAblation, 7 x 7 cells", lambda case: 50, (1, 1), captum_ablation
    ),
    "rise": Pair(
        "TorchRay RISE, equal masks", lambda case: case.samples, (3, 1.7), torchray_rise, dear=True
    ),
    "rise-xaitk": Pair(
        "xaitk-saliency RISE, equal masks",
        lambda case: case.samples,
        (None, None),
        xaitk_pair(0),
        dear=True,
    ),
    "integrated-gradients": Pair(
        "Captum IntegratedGradients",
        lambda case: case.steps,
        (2, 1.3),
        captum_integrated,
        dear=True,
    ),
    "smoothgrad": Pair(
        "Captum NoiseTunnel of Saliency, 4 at once",
        lambda case: case.steps,
        (1.3, 1),
        captum_smoothgrad,
        dear=True,
    ),
    "gradient": Pair(
        "Captum Saliency",
        lambda case: 1,
        (1, 0.97),
        captum_gradient("Saliency", "gradient", "max"),
    ),
    "input-x-gradient": Pair(
        "Captum InputXGradient",
        lambda case: 1,
        (1, 0.97),
        captum_gradient("InputXGradient", "input-x-gradient", "sum"),
    ),
    "guided-backprop": Pair(
        "Captum GuidedBackprop",
        lambda case: 1,
        (0.97, 0.97),
        captum_gradient("GuidedBackprop", "guided-backprop", "max"),
    ),
    "deconvolution": Pair(
        "Captum Deconvolution",
        lambda case: 1,
        (0.97, 0.97),
        captum_gradient("Deconvolution", "deconvolution", "max"),
    ),
    "grad-cam-captum": Pair("Captum LayerGradCam", lambda case: 1, (0.97, 0.97), captum_grad_cam),
    "grad-cam": Pair(
        "pytorch-grad-cam GradCAM", lambda case: 1, (3, 3), grad_cam_package("GradCAM", "grad-cam")
    ),
    "ablation-cam": Pair(
        "pytorch-grad-cam AblationCAM",
        lambda case: 1,
        (1000, 1000),
        grad_cam_package("AblationCAM", "ablation-cam"),
        dear=True,
    ),
    "score-cam": Pair(
        "pytorch-grad-cam ScoreCAM",
        lambda case: 1280,
        (1, 1),
        grad_cam_package("ScoreCAM", "score-cam"),
        dear=True,
    ),
    "excitation-backprop": Pair(
        "TorchRay excitation backprop", lambda case: 1, (1, 1), torchray_excitation
    ),
}


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.memory_of:
        print(json.dumps(extra_memory(*arguments.memory_of, arguments)))
        return
    case, trained = make_case(arguments), trained_case(arguments)
    column = int(arguments.model == "resnet50")
    print(f"{arguments.model}, {SIDE} px, torch {torch.__version__}, one thread.\n", flush=True)
    print(
        "| peer | evaluations | ours, ms | peer / ours | wanted | memory, MB: ours / peer | "
        "largest difference | correlation |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for key in arguments.pairs or PAIRS:
        pair = PAIRS[key]
        try:
            sides = pair.sides(case)
        except ImportError as error:
            print(f"| {pair.name} | not installed: {error.name} |" + " |" * 6, flush=True)
            continue
        try:
            wanted = "-" if pair.wanted[column] is None else f"{pair.wanted[column]:g}"
            rounds = (
                1
                if arguments.quick
                else max(2, arguments.rounds // 4)
                if pair.dear
                else arguments.rounds
            )
            if (
                pair.dear and pair.evaluations(case) <= _FEW
            ):  # what is looked up once in a model's life is not the method's cost
                sides[0]()
            ours, ratio = timed(sides, rounds, warm=not pair.dear)
            memory = (
                " / ".join(f"{in_subprocess(key, side, arguments):.0f}" for side in (0, 1))
                if arguments.memory
                else "-"
            )
            cells = [
                pair.name,
                pair.evaluations(case),
                f"{ours * 1e3:.0f}",
                ratio,
                wanted,
                memory,
                agreement(pair, trained),
            ]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
        except Exception as error:  # a peer that fails is a result too
            print(
                f"| {pair.name} | {type(error).__name__}: {str(error).splitlines()[0][:100]} |"
                + " |" * 6,
                flush=True,
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilenet_v2", help="a torchvision classifier")
    parser.add_argument(
        "--pairs",
        nargs="*",
        choices=list(PAIRS),
        metavar="PAIR",
        help=f"default: all of {' '.join(PAIRS)}",
    )
    parser.add_argument(
        "--rounds", type=int, default=12, help="a quarter of them where a run takes many seconds"
    )
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="measure memory as well",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round, fewer windows and masks: a look, not a measurement",
    )
    # queried of its own subprocess
    parser.add_argument("--memory-of", nargs=2, metavar=("PAIR", "SIDE"), help=argparse.SUPPRESS)
    return parser.parse_args()


def make_case(arguments: argparse.Namespace) -> Case:
    """Random weights, as in torchvision."""
    model = network(arguments.model)
    raw = torch.rand(1, 3, SIDE, SIDE, generator=Generator().manual_seed(0))
    stride, samples, steps = (24, 32, 8) if arguments.quick else (8, 200, 50)
    return Case(
        model, TorchBlackBox(model, mean=MEAN, std=STD, size=SIDE), raw, stride, samples, steps
    )


def trained_case(arguments: argparse.Namespace) -> Case | None:
    """A trained network and a smooth image, for the agreement; few windows and masks. None where
    there is no data.
    """
    if arguments.model != "mobilenet_v2":
        return make_case(argparse.Namespace(model=arguments.model, quick=True))
    try:
        black_box = mobilenet_v2()
    except InputError:
        return None
    from benchmarks.data import read_photos

    (photo,) = read_photos("ilsvrc2012-val-a", black_box, count=1)
    return Case(black_box.model.requires_grad_(False), black_box, photo.image, 32, 32, 50)


def timed(sides: tuple[Side, Side], rounds: int, *, warm: bool) -> tuple[float, str]:
    """Median seconds of ours, and the ratio of the peer's to ours."""
    mine, theirs = [], []
    for turn in range(-1 if warm else 0, rounds):
        seconds = [cpu_seconds(side) for side in (sides if turn % 2 else sides[::-1])]
        one, other = seconds if turn % 2 else seconds[::-1]
        if turn >= 0:
            mine.append(one)
            theirs.append(other)
    return statistics.median(mine), interval([t / m for t, m in zip(theirs, mine, strict=True)])


def agreement(pair: Pair, case: Case | None) -> str:
    """Largest difference over the range, and correlation; `-` where the two sides draw different
    numbers or give no map.
    """
    if case is None:
        return "- | -"
    ours, theirs = (side() for side in pair.sides(case))
    if ours is None or theirs is None:
        return "- | -"
    x, y = ours.detach().double().flatten(), theirs.detach().double().flatten()
    x, y = x - x.mean(), y - y.mean()
    factor = (x @ y) / (x @ x)
    difference = float((factor * x - y).abs().max() / (y.max() - y.min()))
    return f"{difference:.1e} | {float(x @ y / (x.norm() * y.norm())):.6f}"


def in_subprocess(key: str, side: int, arguments: argparse.Namespace) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.peers",
        "--memory-of",
        key,
        str(side),
        "--model",
        arguments.model,
    ]
    command += ["--quick"] if arguments.quick else []
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=os.environ,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def extra_memory(key: str, side: str, arguments: argparse.Namespace) -> float:
    """The peak of resident memory in a run, less what the model and one plain forward pass left; in
    MB.
    """
    case = make_case(arguments)
    # a peak comes early
    case = Case(
        case.model,
        case.black_box,
        case.raw,
        max(case.stride, 24),
        min(case.samples, 64),
        case.steps,
    )
    with torch.inference_mode():
        case.model(case.image)
    run = PAIRS[key].sides(case)[int(side)]
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    run()
    return (resident("VmHWM") - before) / 2**20


def _one(maps: Tensor, channels: str) -> Tensor:
    """Signed: the sum over channels, or the channel of the largest magnitude."""
    if channels == "sum":
        return maps.sum(1, keepdim=True)
    return maps.gather(1, maps.abs().argmax(1, keepdim=True))


def _whole(coarse: Tensor) -> Tensor:
    return nn.functional.interpolate(
        coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False
    )


if __name__ == "__main__":
    main()
