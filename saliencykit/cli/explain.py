"""The command explain: images, a data set, or a video."""

import time
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from saliencykit.cli import explain_dataset, explain_video, workflows
from saliencykit.cli.console import emit_json, number, print_table, progress, say
from saliencykit.cli.options import as_label, output_directory
from saliencykit.core.errors import InputError


class Style(Enum):
    """How a mask is drawn over its image; see `draw_overlay`."""

    OUTLINE = "outline"
    HEATMAP = "heatmap"
    KEPT = "kept"


PANELS = {
    "For a directory or CSV file": (
        *("labels", "max_images", "batch_size", "map_dtype", "overlays", "num_workers", "resume"),
        *("shard", "form", "engine", "ray_address"),
    ),
    "For a video": ("fps", "smoothing"),
}
"""Of the help: options that are of no use for image files."""


def explain(
    images: Annotated[list[str] | None, typer.Argument()] = None,
    model: str = "demo",
    label: list[str] | None = None,
    against: str | None = None,
    regions: Annotated[int, typer.Option(min=1)] = 1,
    sufficient: bool = False,
    destroying: bool = False,
    masker: str | None = None,
    refine: Annotated[int, typer.Option(min=0)] = 0,
    budget: float | None = None,
    alternative: str | None = None,
    pixel_range: tuple[float, float] | None = None,
    device: str = "auto",
    seed: int = 0,
    output: Path = Path("explanation"),
    style: Style = Style.OUTLINE,
    as_json: bool = False,
    verify: bool = True,
    repeats: Annotated[int, typer.Option(min=1)] = 1,
    labels: Path | None = None,
    max_images: int | None = None,
    batch_size: int = 16,
    map_dtype: str = "uint8",
    overlays: Annotated[int, typer.Option(min=0)] = 24,
    num_workers: Annotated[int | None, typer.Option(min=0)] = None,
    resume: bool = True,
    shard: str | None = None,
    form: Annotated[str | None, typer.Option("--format")] = None,
    engine: str | None = None,
    ray_address: str | None = None,
    fps: float | None = None,
    smoothing: float = 0.75,
) -> None:
    """Explain which pixels a prediction rests on: overlays, masks, and what they keep and drop.

    Args:
        images: Image files, or one directory, CSV file or video. Default: a demo photo.
        label: Class to explain, by index or name; repeatable. Default: the predicted class.
        against: Explain why the class and not this one: an index or a name.
        regions: Number of regions that do not overlap, for image files.
        sufficient: Find the smallest region that is enough: 10 more queries.
        destroying: Find the smallest region whose removal loses the class: 10 more queries.
        masker: Attribution method, e.g. rise:samples=500. See `plugins list`.
        refine: Steps of `iterative` from the masker's mask; ten are a good number.
        budget: Area of every mask, e.g. 0.1 of the image. Default: the masker's choice.
        alternative: What fills removed pixels in the verification, e.g. blur:sigma=11.
        output: Directory for the results.
        style: How overlays of images are drawn.
        verify: Query the model with the mask kept and with it removed.
        repeats: Queries to average, for models that are not deterministic.
        map_dtype: Data type of stored maps: uint8 or float16.
        overlays: Number of overlay images to write.
        num_workers: Number of threads that read images.
        shard: Part of the images, from 0/64 to 63/64; auto or auto/64 in a job array. See merge.
        form: Format of rows and masks: jsonl or parquet.
        engine: Explain on a cluster: ray. --num-workers is then the number of shards at a time.
        ray_address: Running Ray cluster, e.g. auto or 10.0.0.1:6379. Default: one of this machine.
        fps: Maximum number of explained frames per second.
        smoothing: Weight of the previous, motion-compensated mask, in [0, 1); 0: none.
    """
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
    of_images = bool(sufficient or destroying or against or pixel_range)
    several = len(label or []) > 1 or regions > 1
    _refuse_options_of_images(several or (video and of_images), refine, masker)
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


def _refuse_options_of_images(given: bool, refine: int, masker: str | None) -> None:
    if given:
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


def _class_text(row: Mapping[str, Any]) -> str:
    index, name = str(row["label"]), str(row["name"]).split(",")[0]
    return index if name == index else f"{name} ({index})"


def _title(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """What tells a row from the others: its image, its class, or both."""
    image, label = Path(row["image"]).name, row["name"].split(",")[0]
    masks = sum(other["image"] == row["image"] for other in rows)
    both = 1 < masks < len(rows)
    return escape(f"{image}, {label}" if both else label if masks > 1 else image)


def _print(rows: list[dict[str, Any]], seconds: float, answer: "workflows.Explanation") -> None:
    scores = answer.output == "score"
    numbers = ("probability", "kept", "dropped", "area")
    what = "score" if scores else "probability"
    print_table(
        ("image", "class", what, *numbers[1:]),
        [
            [
                escape(Path(row["image"]).name),
                escape(_class_text(row)),
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
        names = dict.fromkeys(_title(row, rows) for row in rows if row["verdict"] == verdict)
        trial = (f"{name} {number(rows[0][name], scores)}" for name in ("kept", "dropped"))
        say(f"{', '.join(trial if len(rows) == 1 else names)}: {verdict.words}")
    for index, row in enumerate(rows):
        for words in answer.region_words(index):
            say(f"{f'{_title(row, rows)}: ' if len(rows) > 1 else ''}{words}")
    for remark in dict.fromkeys(row["remark"] for row in rows if "remark" in row):
        say(remark)
    last = f" ... {Path(rows[-1]['overlay']).name}" if len(rows) > 1 else ""
    say(f"wrote {rows[0]['overlay']}{last} in {seconds:.1f} s")
