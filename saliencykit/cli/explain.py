"""The command explain: images, a data set, or a video."""

import time
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.markup import escape

from saliencykit.cli import explain_dataset, explain_video, workflows
from saliencykit.cli.console import emit_json, number, print_table, progress, say
from saliencykit.cli.options import (
    AsJson,
    Device,
    Model,
    PixelRange,
    Repeats,
    Seed,
    as_label,
    output_directory,
)
from saliencykit.core.errors import InputError


class Style(Enum):
    """How a mask is drawn over its image; see `draw_overlay`."""

    OUTLINE = "outline"
    HEATMAP = "heatmap"
    KEPT = "kept"


Inputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(help="Image files, or one directory, CSV file or video. Default: a demo photo."),
]
Classes: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help="Class to explain, by index or name; repeatable. Default: the predicted class."
    ),
]
Against: TypeAlias = Annotated[
    str | None, typer.Option(help="Explain why the class and not this one: an index or a name.")
]
Regions: TypeAlias = Annotated[
    int, typer.Option(help="Number of regions that do not overlap, for image files.", min=1)
]
Sufficient: TypeAlias = Annotated[
    bool,
    typer.Option("--sufficient", help="Find the smallest region that is enough: 10 more queries."),
]
Destroying: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--destroying",
        help="Find the smallest region whose removal loses the class: 10 more queries.",
    ),
]
Masker: TypeAlias = Annotated[
    str | None, typer.Option(help="Attribution method, e.g. rise:samples=500. See `plugins list`.")
]
Refine: TypeAlias = Annotated[
    int,
    typer.Option(help="Steps of `iterative` from the masker's mask; ten are a good number.", min=0),
]
Budget: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Area of every mask, e.g. 0.1 of the image. Default: the masker's choice."),
]
Alternative: TypeAlias = Annotated[
    str | None,
    typer.Option(help="What fills removed pixels in the verification, e.g. blur:sigma=11."),
]
Output: TypeAlias = Annotated[Path, typer.Option(help="Directory for the results.")]
Drawn: TypeAlias = Annotated[Style, typer.Option(help="How overlays of images are drawn.")]
Verify: TypeAlias = Annotated[
    bool, typer.Option(help="Query the model with the mask kept and with it removed.")
]


def explain(
    images: Inputs = None,
    model: Model = "demo",
    label: Classes = None,
    against: Against = None,
    regions: Regions = 1,
    sufficient: Sufficient = False,
    destroying: Destroying = False,
    masker: Masker = None,
    refine: Refine = 0,
    budget: Budget = None,
    alternative: Alternative = None,
    pixel_range: PixelRange = None,
    device: Device = "auto",
    seed: Seed = 0,
    output: Output = Path("explanation"),
    style: Drawn = Style.OUTLINE,
    as_json: AsJson = False,
    verify: Verify = True,
    repeats: Repeats = 1,
    labels: explain_dataset.Labels = None,
    max_images: explain_dataset.MaxImages = None,
    batch_size: explain_dataset.BatchSize = 16,
    map_dtype: explain_dataset.MapDtype = "uint8",
    overlays: explain_dataset.Overlays = 24,
    num_workers: explain_dataset.NumWorkers = None,
    resume: explain_dataset.Resume = True,
    shard: explain_dataset.Shard = None,
    form: explain_dataset.Format = None,
    engine: explain_dataset.Engine = None,
    ray_address: explain_dataset.RayAddress = None,
    fps: explain_video.Fps = None,
    smoothing: explain_video.Smoothing = 0.75,
) -> None:
    """Explain which pixels a prediction rests on: overlays, masks, and what they keep and drop."""
    shared: dict[str, Any] = {"model": model, "masker": masker, "budget": budget, "seed": seed}
    shared |= {"output": output, "device": device, "as_json": as_json}
    shared["pixel_range"] = pixel_range
    video = explain_video.is_video(images, output)
    if not video and not explain_dataset.is_dataset(images):
        shared |= {"alternative": alternative, "verify": verify, "regions": regions}
        shared |= {"style": style, "repeats": repeats, "refine": refine}
        shared |= {"sufficient": sufficient, "destroying": destroying}
        _explain_images(images, label or [], against, **shared)
        return
    of_images = sufficient or destroying or against or pixel_range
    if len(label or []) > 1 or regions > 1 or (video and of_images):
        raise InputError(
            "several --label, --regions and, for a video, --sufficient, --destroying, --against "
            "and --pixel-range are for image files; give one class for a data set or a video."
        )
    if refine:
        start = f"start=({masker})" if masker else "start=universal"
        raise InputError(
            "--refine is for image files; for a data set or a video write --masker "
            f"'iterative:steps={refine},{start}'."
        )
    shared["label"] = label[0] if label else None
    if video:
        del shared["pixel_range"]
        explain_video.explain_video(images or [], fps=fps, smoothing=smoothing, **shared)
        return
    shared |= {"alternative": alternative, "verify": verify, "against": against}
    shared |= {"repeats": repeats, "sufficient": sufficient, "destroying": destroying}
    shared |= {"labels": labels, "max_images": max_images, "batch_size": batch_size}
    shared |= {"map_dtype": map_dtype, "overlays": overlays, "num_workers": num_workers}
    shared |= {"resume": resume, "shard": shard, "format": form}
    explain_dataset.explain_dataset((images or [""])[0], engine, ray_address, **shared)


def _explain_images(
    images: list[str] | None,
    labels: list[str],
    against: str | None,
    *,
    model: str,
    output: Path,
    device: str,
    style: Style,
    as_json: bool,
    pixel_range: tuple[float, float] | None,
    **options: Any,
) -> None:
    workflows.use_idle_cores()
    sources = images or ["demo photo"]
    with output_directory(output):
        workflows.refuse_run(output)
        started = time.perf_counter()
        black_box = workflows.black_box_on_device(model, device, pixel_range)
        description = f"explaining {len(sources)} image{'s' if len(sources) > 1 else ''}"
        with progress(description, unit="evaluations", quiet=as_json) as update:
            answer = workflows.explain(
                black_box,
                images or [workflows.demo_image()],
                [[as_label(label) for label in labels]] if labels else None,
                target=workflows.contrast(as_label(against)),
                progress=update,
                **options,
            )
        answer.save(output, style=style.value)
    rows = _rows(answer, sources, output)
    seconds = time.perf_counter() - started
    if as_json:
        result = {"images": rows, "seconds": round(seconds, 3), "output": str(output)}
        emit_json(result | {"provenance": answer.provenance})
        return
    if model == "demo":
        classes, size = answer.logits.shape[1], answer.images.shape[-1]
        say(f"model: demo, {classes} classes, {size} px; use --model for yours")
    _print(rows, seconds, answer)


def _rows(
    answer: "workflows.Explanation", sources: list[str], output: Path
) -> list[dict[str, Any]]:
    """The numbers of each image, as JSON has them."""
    rows = []
    masks = len(answer) // len(sources)  # of each image
    for i, bbox in enumerate(answer.boxes().tolist()):
        row: dict[str, Any] = {"image": sources[i // masks], "label": int(answer.labels[i])}
        row["name"] = answer.label_names[i]
        for name in ("probability", "kept", "dropped", "area"):
            values = getattr(answer, name)
            row |= {} if values is None else {name: float(values[i])}
        searches = {kind: getattr(answer, kind) for kind in ("sufficient", "destroying")}
        row |= {kind: each.numbers(i) for kind, each in searches.items() if each is not None}
        row |= {} if answer.verdicts is None else {"verdict": answer.verdicts[i]}
        row |= {"remark": answer.remarks[i]} if answer.remarks else {}
        rows.append(row | {"bbox": bbox, "overlay": str(output / f"overlay-{i:04}.png")})
    return rows


def _print(rows: list[dict[str, Any]], seconds: float, answer: "workflows.Explanation") -> None:
    scores = answer.output == "score"
    numbers = ("probability", "kept", "dropped", "area")
    what = "score" if scores else "probability"
    print_table(
        ("image", "class", what, *numbers[1:]),
        [
            [
                escape(Path(row["image"]).name),
                escape(f"{row['name'].split(',')[0]} ({row['label']})"),
                *(number(row.get(name), scores and name != "area") for name in numbers),
            ]
            for row in rows
        ],
        left=2,
    )
    say(
        f"kept: {'score' if scores else 'p(class)'} with only the masked region visible; dropped: "
        "with it removed; area: fraction of pixels in the mask",
        dim=True,
    )
    for verdict in dict.fromkeys(row["verdict"] for row in rows if "verdict" in row):
        same = [row for row in rows if row["verdict"] == verdict]
        names = dict.fromkeys(Path(row["image"]).name for row in same)
        trial = (f"{name} {number(rows[0][name], scores)}" for name in ("kept", "dropped"))
        say(f"{', '.join(trial if len(rows) == 1 else names)}: {verdict.words}")
    for index, row in enumerate(rows):
        for words in answer.region_words(index):
            name = f"{Path(row['image']).name}, {row['name'].split(',')[0]}: "
            say(f"{escape(name) if len(rows) > 1 else ''}{words}")
    for remark in dict.fromkeys(row["remark"] for row in rows if "remark" in row):
        say(remark)
    last = f" ... {Path(rows[-1]['overlay']).name}" if len(rows) > 1 else ""
    say(f"wrote {rows[0]['overlay']}{last} in {seconds:.1f} s")
