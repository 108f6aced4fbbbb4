r"""What `explain` should do without a masker: `iterative`, `universal`, or the second and the first
only where the verdict is not `both`.

    python -m benchmarks.default_masker --model mobilenet_v2 --network left-out.safetensors \
        --out rows/default-mobilenet_v2.jsonl
    python -m benchmarks.default_masker --table rows/default-*.jsonl \
        --into docs/results/universal.md

The class that the model predicts is explained, on the first photos of the report part. `sized` is
the ranking of `universal` with the area that `iterative` would choose for it, in 18 queries. The
verdict is that of `explain`, under blur; the other figures are under the two held-out fills.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Generator

from benchmarks.data import MODELS
from benchmarks.results import black_boxes
from benchmarks.rows import Row, append, read_rows
from benchmarks.scoring import AREAS, UNSEEN, Scorer
from benchmarks.split import part, read
from benchmarks.tables import put_into
from benchmarks.universal import difference
from saliencykit.core import BlackBox, Images, Labels, Masker, MaskerOutput, Verdict
from saliencykit.maskers import Iterative, Universal
from saliencykit.maskers.optimization.mask_choice import Batch, MaskChoice
from saliencykit.maskers.optimization.mask_parametrization import NestedMasks

REFINED = {"refined, 10 steps": 10, "refined, 50 steps": 50}
PLANS = {
    "iterative": ("iterative",),
    "universal": ("universal",),
    "universal, sized": ("sized",),
    "universal, else refined, 10 steps": ("universal", "refined, 10 steps"),
    "universal, else refined, 50 steps": ("universal", "refined, 50 steps"),
    "universal, else iterative": ("universal", "iterative"),
    "sized, else refined, 10 steps": ("sized", "refined, 10 steps"),
    "sized, else iterative": ("sized", "iterative"),
}
"""A name, and the maskers that are tried until the verdict is `both`."""
_CHANCE = 1e-3

Make = Callable[[Images, Labels, int], MaskerOutput]


def methods(black_box: BlackBox, network: Path | None) -> dict[str, Make]:
    """By name, what makes a mask with a seed."""
    universal = Universal(network=network)

    def by(masker: Masker) -> Make:
        return lambda images, labels, seed: masker.attribute(
            black_box, images, labels, generator=Generator().manual_seed(seed)
        )

    made = {"iterative": by(Iterative()), "universal": by(universal)}
    made["sized"] = lambda images, labels, seed: sized(universal, black_box, images, labels)
    refined = {name: by(Iterative(steps=n, start=universal)) for name, n in REFINED.items()}
    return made | refined


def sized(masker: Masker, black_box: BlackBox, images: Images, labels: Labels) -> MaskerOutput:
    """The ranking of a masker, with the area at which keeping and removing it show most."""
    fast = black_box.optimized_for(images)
    output = masker.attribute(fast, images, labels, generator=Generator())
    ranking = output.mask if output.attributions is None else output.attributions
    ranking = ranking - ranking.mean((1, 2, 3), keepdim=True)
    batch, masks = Batch(fast, images, labels, "softmax"), NestedMasks((0.05, 0.5), 0.3)
    steep = 6 * ranking / ranking.std((1, 2, 3), keepdim=True).clamp_min(1e-9)
    choice = MaskChoice.of(batch, masks, steep)
    return MaskerOutput(choice.mask(batch, masks), masks.scores(choice.grid, batch.size))


def row_of(make: Make, score: Scorer, *, again: bool) -> Row:
    """The figures of one mask; with `again` also its likeness to that of another seed."""
    start = time.process_time()
    output = make(score.image, score.label, 0)
    row: Row = {"seconds": round(time.process_time() - start, 3)}
    graded = score.graded(output.mask)
    (emptied,) = score.probabilities([(torch.zeros_like(output.mask), "blur")])
    verdict = Verdict.of(score.whole, *graded["blur"], emptied, chance=_CHANCE)
    row |= {"verdict": str(verdict), "area": round(float(output.mask.mean()), 4)}
    row["held"] = mean(
        float(kept >= score.whole / 2 and dropped <= score.whole / 2)
        for kept, dropped in (graded[fill] for fill in UNSEEN)
    )
    ranking = output.mask if output.attributions is None else output.attributions
    places = score.places(ranking)
    pairs = [] if places is None else score.at_areas(places, AREAS, UNSEEN).values()
    row["gap"] = round(mean(kept - dropped for kept, dropped in pairs), 4) if pairs else 0.0
    if again:
        other = make(score.image, score.label, 1)
        masks = [each.mask.numpy().ravel() for each in (output, other)]
        row["seeds"] = round(float(np.corrcoef(*masks)[0, 1]), 4)
    return row


def run(arguments: argparse.Namespace) -> None:
    """Append the rows that are not there yet; maskers that refine run where they are needed."""
    forms = black_boxes(arguments.model)
    makes = methods(forms.own, arguments.network)
    makes = {name: makes[name] for name in arguments.methods or makes}
    done = {(row["photo"], row["method"]) for row in read_rows(arguments.out)}
    for number, entry in enumerate(part("report")[: arguments.photos]):
        if all((entry.name, name) in done for name in makes if name not in REFINED):
            continue
        if time.process_time() > arguments.seconds:
            break
        (photo,) = read([entry], forms.own)
        with torch.no_grad():
            label = int(forms.own(photo.image).argmax())
        score, verdicts = Scorer(forms.quick, replace(photo, label=label)), []
        for name, make in makes.items():
            if name in REFINED and verdicts[1:] == ["both", "both"]:
                continue
            row = row_of(make, score, again=number < arguments.again)
            verdicts = [*verdicts, row["verdict"]] if name not in REFINED else verdicts
            row |= {"photo": entry.name, "method": name, "model": arguments.model}
            append(arguments.out, row | {"p": score.whole})
        print(f"\r{number + 1} of {arguments.photos}", end="", file=sys.stderr)


def table(files: Sequence[Path]) -> str:
    """Markdown: a line per classifier and plan."""
    lines = [
        "| left out | photos | plan | verdict `both`, % | both under held-out fills, % | "
        "kept - dropped | less than `iterative` | area | CPU s | times cheaper |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for file in files:
        by_photo: dict[str, dict[str, Row]] = {}
        for row in read_rows(file):
            by_photo.setdefault(row["photo"], {})[row["method"]] = row
        every = [rows for rows in by_photo.values() if "iterative" in rows]
        for name, plan in PLANS.items():
            # `sized` was tried last but for what the verdicts made needless
            known = [rows for rows in every if "sized" in rows or set(plan) <= set(rows)]
            pairs = [(tries(plan, rows), rows["iterative"]) for rows in known]
            taken = [tried[-1] for tried, _ in pairs]
            cells = [taken[0]["model"], str(len(taken)), name]
            cells.append(f"{100 * mean(row['verdict'] == 'both' for row in taken):.0f}")
            cells.append(f"{100 * mean(row['held'] for row in taken):.0f}")
            cells.append(f"{mean(row['gap'] for row in taken):.3f}")
            less = [tried[-1]["gap"] - base["gap"] for tried, base in pairs]
            cells.append("" if name == "iterative" else difference(less, 1, 3))
            cells.append(f"{mean(row['area'] for row in taken):.2f}")
            seconds = mean(sum(row["seconds"] for row in tried) for tried, _ in pairs)
            base = mean(base["seconds"] for _, base in pairs)
            cells += [f"{seconds:.2f}", f"{base / seconds:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tries(plan: Sequence[str], rows: Mapping[str, Row]) -> list[Row]:
    """The masks of a photo that a plan makes."""
    tried: list[Row] = []
    for step in plan:
        tried.append(rows[step])
        if rows[step]["verdict"] == "both":
            break
    return tried


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(MODELS), default="mobilenet_v2")
    parser.add_argument("--network", type=Path, help="a file; default: the one that ships")
    parser.add_argument("--methods", nargs="+", help="default: all")
    parser.add_argument("--photos", type=int, default=60)
    parser.add_argument("--again", type=int, default=10, help="photos with a second seed")
    parser.add_argument("--seconds", type=float, default=1e9, help="CPU time after which to stop")
    parser.add_argument("--out", type=Path, default=Path("default.jsonl"))
    parser.add_argument("--table", nargs="+", type=Path, help="files of rows: print the table")
    parser.add_argument("--into", type=Path, help="a page: put it between its comments too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        run(arguments)
        return
    print(text := table(arguments.table))
    if arguments.into:
        put_into(arguments.into, "default", text)


if __name__ == "__main__":
    main()
