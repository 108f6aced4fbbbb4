"""Classifiers of CIFAR-10 as if they could only be queried: how far a surrogate is from them, and
what masks found on it are worth.

    python -m benchmarks.surrogate nothing [QUERIES [STEPS]]   a small network for a ResNet-20
    python -m benchmarks.surrogate similar [QUERIES [STEPS]]   the ResNet-20 for a ResNet-56

There are as many images as queries, JPEG copies of CIFAR-10's training set; the masks are scored
on 48 test images, by the classifier itself.
"""

import sys
import time

from torch import nn

from benchmarks.cifar10 import CLASSES, MEAN, STD, Block, ResNet20, cifar10, resnet20
from benchmarks.data import data_folder
from saliencykit import Masker, OnSurrogate, TorchBlackBox, explain, fit, fit_surrogate
from saliencykit.evaluation import interval
from saliencykit.maskers import GradCam
from saliencykit.testing import Counting, QueryOnly


def resnet56() -> TorchBlackBox:
    """The data folder's ResNet-56."""
    from safetensors.torch import load_file

    net = ResNet20()
    for name, before, after in (("layer1", 16, 16), ("layer2", 16, 32), ("layer3", 32, 64)):
        setattr(
            net, name, nn.Sequential(Block(before, after), *(Block(after, after) for _ in range(8)))
        )
    net.load_state_dict(
        load_file(data_folder() / "weights" / "cifar10_resnet56.safetensors"), strict=False
    )
    return TorchBlackBox(
        net.eval().requires_grad_(False), mean=MEAN, std=STD, size=32, class_names=CLASSES
    )


def main(case: str = "nothing", queries: int = 0, steps: int = 0) -> None:
    """Print the figures."""
    started = time.process_time()

    def say(line: str) -> None:
        print(f"[{time.process_time() - started:6.1f} CPU-s] {line}", flush=True)

    similar = case == "similar"
    black_box = Counting(QueryOnly(resnet56() if similar else resnet20()))
    queries, steps = queries or (3000 if similar else 12_000), steps or (200 if similar else 1500)
    images, _ = cifar10("train", queries)
    network, lr = (resnet20().model, 1e-3) if similar else (None, 3e-3)
    surrogate = fit_surrogate(
        black_box, images, network=network, queries=queries, steps=steps, lr=lr, on_message=say
    )
    say(f"{black_box.num_images} queries")
    for kind, figures in surrogate.metadata["fidelity"].items():
        shown = "  ".join(
            f"{n} {f['mean']:.3f} [{f['low']:.3f}, {f['high']:.3f}]"
            for n, f in figures.items()
            if n != "n"
        )
        say(f"{kind:10} {shown}")
    masker = fit(surrogate, images[:2000], steps=240, views_per_image=1, on_message=say)
    say(f"validation on the surrogate: {masker.metadata['validation']}")
    test, _ = cifar10("test", 48, seed=1)
    methods: dict[str, Masker | str] = {
        "trained on the surrogate": OnSurrogate(surrogate, masker),
        "grad-cam on the surrogate": OnSurrogate(surrogate, GradCam()),
        "center-box": "center-box",
        "rise, 200 queries an image": "rise:samples=200",
    }
    for name, method in methods.items():
        black_box.batch_sizes.clear()
        answer = explain(black_box, test, masker=method)
        assert answer.kept is not None
        assert answer.dropped is not None
        values = {
            "whole": answer.probability,
            "kept": answer.kept,
            "dropped": answer.dropped,
            "area": answer.area,
        }
        shown = "  ".join(
            f"{n} {m:.3f} [{a:.3f}, {b:.3f}]"
            for n, v in values.items()
            for m, a, b in [interval(v.numpy())]
        )
        say(f"{name:28} {shown}  {black_box.num_images / len(test):.0f} queries an image")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "nothing", *(int(word) for word in sys.argv[2:4]))
