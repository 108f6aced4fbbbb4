"""Train the black box of the paper's CIFAR-10 experiment, a FitNet-4 with ReLUs (saliencykit_zoo/fitnet.py).

    python plugins/saliencykit-zoo/recipes/cifar10_fitnet.py --work WORK             train; run again to resume
    python plugins/saliencykit-zoo/recipes/cifar10_fitnet.py --work WORK --speed     print images per second at each size
    python plugins/saliencykit-zoo/recipes/cifar10_fitnet.py --work WORK --export    evaluate on the test images, write weights and card

Data: `cifar10/` under $SALIENCYKIT_DATA (default ../shared/data), a JPEG copy of CIFAR-10.

Recipe: SGD with Nesterov momentum over random-resized crops (area 0.25 to 1) and flips, so that the classifier knows
enlarged crops as ImageNet networks do; label smoothing; one cycle of the learning rate (Smith & Topin 2018); small images first
(progressive resizing). `--plan 16:8,24:4,32:1` is 8 epochs at 16 px, 4 at 24, 1 at 32. 2,000 training images are held out for
choices; only --export uses the test images. Every step has its own seed, so a stopped run that is resumed with
the same plan ends with the same weights. A plan may be changed on resuming, and `--minutes 30` ends a run that has less time than
its plan wants: from there on the place in the plan follows the clock instead of the steps. The card says when that was done.
"""

import argparse
import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from saliencykit_zoo.fitnet import FitNet4
from torch import Tensor, nn

DATA = Path(
    os.environ.get("SALIENCYKIT_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")
)
ZOO = Path(__file__).resolve().parents[1] / "saliencykit_zoo"
SIZE = 32
MEAN, STD = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)  # of the training pixels
HELD_OUT = 2000
KEEP_EVERY = 50  # steps between two states on disk


def decode(pack: Path, work: Path) -> tuple[Tensor, Tensor, list[str]]:
    """A packed JPEG archive to uint8 (N, 3, 32, 32), labels (N,) and the classes' names; decoded once and kept in `work`."""
    z, kept = dict(np.load(pack)), work / f"{pack.stem}.npy"
    labels, classes = (
        torch.from_numpy(z["labels"].astype(np.int64)),
        [str(name) for name in z["classes"]],
    )
    if kept.exists():
        return torch.from_numpy(np.load(kept)), labels, classes
    heads = [z["headers"][k, :n].tobytes() for k, n in enumerate(z["header_len"])]
    out = np.empty((len(z["labels"]), SIZE, SIZE, 3), dtype=np.uint8)
    for i in range(len(out)):
        raw = heads[z["header_id"][i]] + z["body"][z["offsets"][i] : z["offsets"][i + 1]].tobytes()
        out[i] = np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"))
    images = torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()
    np.save(work / "part.npy", images.numpy())
    os.replace(work / "part.npy", kept)
    return images, labels, classes


def normalize(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (MEAN, STD))
    return ((images - mean) / std).to(memory_format=torch.channels_last)


def random_crops(images: Tensor, size: int, g: torch.Generator) -> Tensor:
    """Crops of area 0.25 to 1 and aspect 3/4 to 4/3, half of them flipped, sampled bilinearly at size x size; in [0, 1]."""
    count = len(images)
    area = torch.empty(count).uniform_(0.25, 1.0, generator=g)
    aspect = torch.exp(torch.empty(count).uniform_(math.log(3 / 4), math.log(4 / 3), generator=g))
    w, h = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = torch.where(torch.rand(count, generator=g) < 0.5, -w, w)
    theta[:, 1, 1] = h
    theta[:, 0, 2] = (2 * torch.rand(count, generator=g) - 1) * (1 - w)
    theta[:, 1, 2] = (2 * torch.rand(count, generator=g) - 1) * (1 - h)
    grid = F.affine_grid(theta, [count, 3, size, size], align_corners=False)
    return F.grid_sample(
        images.float() / 255, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Top-1 on whole images at 32 px, one view."""
    net.eval()
    right = 0
    with torch.inference_mode():
        for i in range(0, len(images), 250):
            right += int(
                (net(normalize(images[i : i + 250] / 255)).argmax(1) == labels[i : i + 250]).sum()
            )
    return right / len(images)


def read_plan(text: str, steps: int) -> list[tuple[int, int]]:
    """`16:8,32:1` to [(16, 8 epochs in steps), (32, 9 epochs in steps)]: each size and the step at which it ends."""
    ends, done = [], 0.0
    for part in text.split(","):
        size, epochs = part.split(":")
        done += float(epochs)
        ends.append((int(size), round(done * steps)))
    return ends


def cycle(position: float) -> float:
    """Share of the highest learning rate at a position in [0, 1]: up in the first 15 %, then down to 0, both straight."""
    return min(position / 0.15, (1 - position) / 0.85)


def train(work: Path, args: argparse.Namespace) -> None:
    images, labels, _ = decode(DATA / "cifar10" / "train.npz", work)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(args.seed))
    held, used = order[:HELD_OUT], order[HELD_OUT:]
    torch.manual_seed(args.seed)
    net = FitNet4().to(memory_format=torch.channels_last)
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": args.decay},
        {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)
    done, position, spent, processor, plans = 0, 0.0, 0.0, 0.0, []
    path = work / "state.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        done, spent, processor, plans = (
            state["done"],
            state["spent"],
            state["processor"],
            state["plans"],
        )
        position = state.get("position", 0.0)
        print(f"resumed after step {done}", flush=True)
    per_epoch = len(used) // args.batch_size
    ends = read_plan(args.plan, per_epoch)
    total = ends[-1][1]
    by_clock = args.minutes is not None
    name = args.plan + (" by the clock" if by_clock else "")
    if not plans or plans[-1][1] != name:
        plans.append((done, name))
    if not by_clock or not position:
        position = done / total
    finish, pace = time.time() + 60 * (args.minutes or 0), None
    begin, begin_processor, sums, count, clock = (
        time.time(),
        time.process_time(),
        0.0,
        0,
        time.time(),
    )
    while position < 1:
        moment = time.time()
        epoch, step = divmod(done, per_epoch)
        if step == 0 or count == 0:
            shuffled = used[
                torch.randperm(
                    len(used), generator=torch.Generator().manual_seed(args.seed * 10**6 + epoch)
                )
            ]
        size = next(s for s, end in ends if position * total < end)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * cycle(min(position + 0.5 / total, 1.0))
        index = shuffled[step * args.batch_size : (step + 1) * args.batch_size]
        g = torch.Generator().manual_seed(args.seed * 10**9 + 10**8 + done)
        net.train()
        z = net(normalize(random_crops(images[index], size, g)))
        loss = F.cross_entropy(z, labels[index], label_smoothing=args.smoothing)
        if not torch.isfinite(loss):
            raise SystemExit(f"step {done}: the loss is {loss.item()}; the last good state is kept")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        done, sums, count = done + 1, sums + loss.item(), count + 1
        now = time.time()
        if by_clock:  # so many steps fit into the time left at the pace of the last ones; the rest is spread over them
            pace = now - moment if pace is None else 0.95 * pace + 0.05 * (now - moment)
            left = (finish - now) / pace
            position = 1.0 if left < 1 else position + (1 - position) / left
        else:
            position = done / total
        ended = position >= 1
        if done % KEEP_EVERY == 0 or ended:
            line = {
                "step": done,
                "epoch": round(done / per_epoch, 2),
                "position": round(position, 4),
                "size": size,
            }
            line |= {
                "loss": round(sums / count, 4),
                "images_per_second": round(count * args.batch_size / (now - clock)),
            }
            if done % (8 * KEEP_EVERY) == 0 or ended:
                line["held_out"] = accuracy(net, images[held], labels[held])
            line |= {
                "seconds": round(spent + now - begin),
                "cpu": round(processor + time.process_time() - begin_processor),
            }
            print(json.dumps(line), flush=True)
            with open(work / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            state = {
                "net": net.state_dict(),
                "optimizer": optimizer.state_dict(),
                "done": done,
                "position": position,
                "spent": spent + time.time() - begin,
                "processor": processor + time.process_time() - begin_processor,
                "plans": plans,
                "held_out": line.get("held_out"),
                "per_epoch": per_epoch,
                "finished": ended,
            }
            torch.save(state, work / "state.pt.part")
            os.replace(work / "state.pt.part", path)
            sums, count, clock = 0.0, 0, time.time()


def speed(args: argparse.Namespace) -> None:
    net = FitNet4().to(memory_format=torch.channels_last).train()
    images = torch.randint(0, 256, (args.batch_size, 3, SIZE, SIZE), dtype=torch.uint8)
    for size in (16, 20, 24, 28, 32):
        for repeat in range(4):
            if repeat == 1:
                begin = time.process_time()
            g = torch.Generator().manual_seed(0)
            F.cross_entropy(
                net(normalize(random_crops(images, size, g))),
                torch.zeros(args.batch_size, dtype=torch.int64),
            ).backward()
        print(
            f"{size} px: {3 * args.batch_size / (time.process_time() - begin):.0f} images per cpu-second",
            flush=True,
        )


def enlarge_center(images: Tensor, share: float) -> Tensor:
    """The center of uint8 images, `share` of each side, enlarged bilinearly to 32 px, as uint8."""
    theta = torch.tensor([[share, 0.0, 0.0], [0.0, share, 0.0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False).round().byte()


def export(work: Path, args: argparse.Namespace) -> None:
    state = torch.load(work / "state.pt", weights_only=True)
    if not state["finished"]:
        raise SystemExit(
            f"the training is at step {state['done']} and not at its end; run the recipe without --export to resume"
        )
    kept = {k: v.half().contiguous() for k, v in state["net"].items() if v.is_floating_point()}
    net = FitNet4().to(memory_format=torch.channels_last)
    # evaluated as it is shipped: in fp16
    net.load_state_dict({k: v.float() for k, v in kept.items()}, strict=False)
    images, labels, classes = decode(DATA / "cifar10" / "test.npz", work)
    top1 = accuracy(net, images, labels)
    crops = {
        share: accuracy(net, enlarge_center(images[::5], share), labels[::5])
        for share in (0.85, 0.7, 0.5)
    }
    save_file(
        kept,
        ZOO / "cifar10_fitnet.safetensors",
        {"recipe": "cifar10_fitnet", "seed": str(args.seed)},
    )
    (ZOO / "cifar10_fitnet.safetensors").chmod(0o644)  # save_file writes for the owner alone
    facts = {
        "mean": MEAN,
        "std": STD,
        "classes": classes,
        "size": SIZE,
        "top1": top1,
        "held_out": state["held_out"],
    }
    (ZOO / "cifar10_fitnet.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    plans, per_epoch = state["plans"], state["per_epoch"]
    changes = "".join(
        f" From epoch {at / per_epoch:.1f} on the plan was `{plan}`." for at, plan in plans[1:]
    )
    if changes:
        changes += " So its learning rates and sizes differ from what the command does"
        changes += (
            "; `by the clock`: the rest of the plan was pressed into the minutes left (--minutes)."
            if "clock" in changes
            else "."
        )
    size = (ZOO / "cifar10_fitnet.safetensors").stat().st_size
    crop_text = ", ".join(f"{100 * value:.1f} % at {share:.2f}" for share, value in crops.items())
    card = f"""# cifar10-fitnet

FitNet-4 (Romero et al. 2015) with ReLUs and batch norms, {sum(p.numel() for p in net.parameters()) / 1e6:.2f} M parameters, {size / 1e6:.1f} MB in fp16, RGB, 32 x 32 px, 10 classes.

**Data.** CIFAR-10 (Krizhevsky 2009) in a JPEG copy (quality 75, 4:2:0 chroma subsampling): 48,000 of its 50,000 training images; the other 2,000, drawn at random,
were held out for choices. CIFAR-10 has no formal licence and is customarily used for research with citation; none of the images is in this package.

**Recipe.** `recipes/cifar10_fitnet.py --plan {plans[0][1]} --batch-size {args.batch_size} --lr {args.lr} --decay {args.decay} --smoothing {args.smoothing} --seed {args.seed}`:
SGD with Nesterov momentum over random-resized crops (area 0.25 to 1) and flips, label smoothing, one cycle of the learning rate, {state["done"] / per_epoch:.4g} epochs,
small images first (the plan is size:epochs in turn).{changes} {state["spent"] / 60:.0f} minutes of wall time
({state["processor"] / 60:.0f} processor minutes) on one CPU core of a machine that was busy with other work. The last weights are shipped; nothing was chosen on the test images.

**What it reaches.** Top-1 on the 10,000 test images of the same JPEG copy: {100 * top1:.2f} % (one view, fp16 weights; {100 * state["held_out"]:.1f} % on the 2,000 held out). The paper's FitNet had 92 %,
trained for much longer on the lossless images. Part of the distance is the copy (a published ResNet-20 falls from 91.7 % to 81.0 % on it, and half an epoch of fine-tuning
brought it to 87.5 % on 2,000 of its test images), the rest the short training: run the recipe with a longer plan for more.
On center crops of every fifth test image, enlarged to 32 px: {crop_text} of each side. It is there to be explained, not to be relied on.
"""
    (ZOO / "cifar10_fitnet.md").write_text(card, encoding="utf-8")
    print(card)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the state and the log")
    parser.add_argument(
        "--plan",
        default="16:10,20:4,24:3,32:1",
        help="size:epochs, in turn; may be changed when a run is resumed",
    )
    parser.add_argument(
        "--minutes", type=float, help="end after so many minutes from now, wherever the plan is"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--export", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.speed:
        speed(args)
    else:
        (export if args.export else train)(args.work, args)


if __name__ == "__main__":
    main()
