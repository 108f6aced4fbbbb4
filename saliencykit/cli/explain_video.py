"""The command line's `explain` for a clip: overlays as a clip, with the sound of the first."""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from saliencykit.cli.clip_summary import clip_bar
from saliencykit.cli.console import complain, console
from saliencykit.cli.device import black_box_on_device, use_idle_cores
from saliencykit.cli.options import as_label
from saliencykit.core.errors import InputError
from saliencykit.video.reader import SUFFIXES, Clip

if TYPE_CHECKING:
    from saliencykit.explanation.result import Explanation
    from saliencykit.video.frame import Frame

_PANEL = "For a clip"
Fps = Annotated[
    float | None,
    typer.Option(
        help="Explain at most so many frames a second, leave out the rest.",
        rich_help_panel=_PANEL,
    ),
]
Smooth = Annotated[
    float,
    typer.Option(
        help="How much of the last mask, moved along, is in the next; 0: nothing.",
        rich_help_panel=_PANEL,
    ),
]

STOPPED_EARLY = 3
"""The exit code where a clip was written and is not all that was asked for: the first one is
damaged, or the disk is full.
"""


def is_clip(images: list[str] | None, output: Path) -> bool:
    """Is it a clip that is to be explained, by the names?"""
    from saliencykit.video.writer import FORMATS

    return (
        any(Path(name).suffix.lower() in SUFFIXES for name in images or [])
        or output.suffix.lower() in FORMATS
    )


def explain_clip(
    images: list[str] | None,
    model: str,
    label: str | None,
    masker: str | None,
    output: Path,
    *,
    fps: float | None,
    smooth: float,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Explain a clip and write the overlays as a clip.

    Raises:
        InputError: It is not one clip, it cannot be read, or nothing can be written there.
        Exit: With code 3: what was written is not the whole clip.
    """
    from saliencykit.video.frame import paced
    from saliencykit.video.frame_explainer import explain_frames
    from saliencykit.video.frame_overlay import draw
    from saliencykit.video.writer import Writer, check_name

    if not images or len(images) != 1:
        raise InputError(
            f"a clip is explained alone; got {len(images or [])} files for --output {output}."
        )
    if fps is not None and not fps > 0:
        raise InputError(f"--fps {fps:g}: frames a second, > 0.")
    source = Path(images[0])
    output = output.with_suffix(".mp4") if output == Path("explanation") else output
    check_name(output)
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(f"--output is the clip itself: {str(output)!r}; choose another name.")
    clip = Clip(source)
    use_idle_cores()
    black_box = black_box_on_device(model, device)
    note = pace_note(clip.facts.fps, fps)
    taken: deque[Frame] = deque()

    def frames() -> "Iterator[Frame]":
        for frame in paced(clip, fps):
            taken.append(frame)
            yield frame

    answers = explain_frames(
        black_box, frames(), as_label(label), masker, smoothing=smooth, seed=seed
    )
    asked = (
        "the first frame's top class"
        if label is None
        else "the top class, followed"
        if label == "follow"
        else f"{label!r}"
    )
    writer = Writer(
        output, source, clip.facts, f"saliencykit: what {asked} rests on, by {model}; {note}"
    )
    tally = Tally()
    ended = ""
    try:
        with clip_bar(_expected(clip, fps), quiet=as_json) as advance:
            for answer in answers:
                frame = taken.popleft()
                writer.write(draw(frame.origin, clip.facts, answer), Fraction(frame.time or 0))
                tally.add(answer)
                advance(tally.count)
                if writer.full:
                    ended = "the disk is full"
                    break
    except BaseException as error:
        answers.close()
        if writer.finish(whole=False) and not isinstance(error, OSError):
            complain(
                f"{output} holds the first {writer.count} frames, up to {float(writer.last):.1f} s."
            )
        raise
    answers.close()
    writer.finish(whole=not ended)
    if not ended and clip.damage:
        ended = f"{source} is damaged or ends early ({clip.damage})"
    if as_json:
        typer.echo(json.dumps(tally.facts(source, output, note, ended), indent=1))
    else:
        _say(tally, output, note)
    if ended:
        complain(
            f"Stopped early: {ended}. {output} holds {writer.count} frames, up to "
            f"{float(writer.last):.1f} s."
        )
        raise typer.Exit(STOPPED_EARLY)


def pace_note(have: Fraction, wanted: float | None) -> str:
    """Which frames are explained, in words.

    Example:
        >>> pace_note(Fraction(30), 10), pace_note(Fraction(25), 10), pace_note(Fraction(25), None)
        ('every 3rd frame explained and shown', 'at most 10 of 25 frames a second explained and shown', 'every frame explained')
    """
    if wanted is None or wanted >= have:
        return "every frame explained"
    step = float(have) / wanted
    if abs(step - round(step)) < 0.01:
        number = round(step)
        ending = (
            "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        )
        return f"every {number}{ending} frame explained and shown"
    return f"at most {wanted:g} of {float(have):.4g} frames a second explained and shown"


@final
@dataclass
class Tally:
    """What is said of a clip at its end: stretches of one class, with means.

    Attributes:
        count: Frames so far.
        stretches: One for each run of frames that are asked about the same class.
    """

    count: int = 0
    stretches: list[dict[str, Any]] = field(default_factory=list)

    def add(self, answer: "Explanation") -> None:
        """One more frame."""
        label, time = int(answer.labels[0]), answer.provenance["time"]
        if not self.stretches or self.stretches[-1]["label"] != label:
            self.stretches.append(
                {
                    "label": label,
                    "name": answer.label_names[0],
                    "from": time,
                    "frames": 0,
                    "probability": 0.0,
                    "area": 0.0,
                }
            )
        last = self.stretches[-1]
        last["frames"] += 1
        last["to"] = time
        for key, value in (
            ("probability", float(answer.probability[0])),
            ("area", float(answer.area[0])),
        ):
            last[key] += (value - last[key]) / last["frames"]
        self.count += 1

    def facts(self, source: Path, output: Path, note: str, ended: str) -> dict[str, Any]:
        """All of it, as JSON."""
        head = {
            "clip": str(source),
            "out": str(output),
            "frames": self.count,
            "pace": note,
            "stopped_early": ended or None,
        }
        return head | {"stretches": self.stretches}


def _expected(clip: Clip, fps: float | None) -> int | None:
    """How many frames there will be, as far as the file says."""
    facts = clip.facts
    count = facts.frames or (
        None if facts.seconds is None else round(facts.seconds * float(facts.fps))
    )
    if count is None or fps is None or fps >= facts.fps:
        return count
    return max(1, round(count * fps / float(facts.fps)))


def _say(tally: Tally, output: Path, note: str) -> None:
    from rich.table import Table

    grid = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("seconds", "class", "frames", "probability", "area"):
        grid.add_column(
            name, justify="left" if name in ("seconds", "class") else "right", overflow="fold"
        )
    for row in tally.stretches:
        name = f"{row['name'].split(',')[0]} ({row['label']})"
        span = f"{row['from']:.1f} to {row['to']:.1f}"
        grid.add_row(
            span, name, str(row["frames"]), f"{row['probability']:.1%}", f"{row['area']:.1%}"
        )
    to = console()
    to.print(grid)
    to.print(
        "[dim]means over the frames; probability of the class on the whole frame; area: the "
        "mask's share[/dim]"
    )
    to.print(f"{output} written: {tally.count} frames, {note}", soft_wrap=True)
