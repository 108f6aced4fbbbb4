"""The command explain for a video: overlays as a video, with the original sound."""

from collections import deque
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import typer

from saliencykit.cli import workflows
from saliencykit.cli.console import Update, complain, emit_json, progress
from saliencykit.cli.options import as_label
from saliencykit.cli.video_summary import VideoSummary, frame_rate_note
from saliencykit.core.errors import InputError

STOPPED_EARLY = 3
"""Exit code for an incomplete video: the input is damaged, or the disk is full."""


def is_video(images: list[str] | None, output: Path) -> bool:
    """Whether the file names are those of videos."""
    given = any(Path(name).suffix.lower() in workflows.SUFFIXES for name in images or [])
    return given or output.suffix.lower() in workflows.FORMATS


def explain_video(
    images: list[str],
    *,
    model: str,
    label: str | None,
    masker: str | None,
    budget: float | None,
    output: Path,
    fps: float | None,
    smoothing: float,
    device: str,
    seed: int,
    as_json: bool,
) -> None:
    """Explain a video and write the overlays as a video.

    Raises:
        InputError: It is not one video, it cannot be read, or nothing can be written there.
        Exit: With code 3: what was written is incomplete.
    """
    output = output.with_suffix(".mp4") if output == Path("explanation") else output
    clip = _clip(images, output, fps)
    workflows.use_idle_cores()
    black_box = workflows.black_box_on_device(model, device)
    note = frame_rate_note(clip.info.fps, fps)
    pending: deque[workflows.Frame] = deque()

    def frames() -> "Iterator[workflows.Frame]":
        for frame in workflows.paced(clip, fps):
            pending.append(frame)
            yield frame

    answers = workflows.explain_frames(
        black_box,
        frames(),
        as_label(label),
        masker,
        budget=budget,
        smoothing=smoothing,
        seed=seed,
    )
    comment = f"saliencykit: pixels that {label or 'the top class'} rests on, by {model}; {note}"
    writer = workflows.Writer(output, clip.path, clip.info, comment)
    total = _frame_count(clip, fps)
    with progress("explaining", total, unit="frames", quiet=as_json) as update:
        summary = _write(answers, pending, writer, update)
    stopped = "the disk is full" if writer.full else ""
    if not stopped and clip.damage:
        stopped = f"{clip.path} is damaged or ends early ({clip.damage})"
    if as_json:
        result = {"video": str(clip.path), "output": str(output), "frames": summary.count}
        result |= {"frame_rate": note, "stopped_early": stopped or None}
        emit_json(result | {"segments": summary.segments})
    else:
        summary.print(output, note)
    if stopped:
        complain(f"Stopped early: {stopped}. {_what_is_there(writer)}")
        raise typer.Exit(STOPPED_EARLY)


def _write(
    answers: "Generator[workflows.Explanation]",
    frames: "deque[workflows.Frame]",
    writer: "workflows.Writer",
    update: Update,
) -> VideoSummary:
    """Write the frames up to the end or a full disk; after an error, those before it stay."""
    summary = VideoSummary()
    try:
        for answer in answers:
            frame = frames.popleft()
            drawn = workflows.draw_frame(frame.origin, writer.info, answer)
            writer.write(drawn, Fraction(frame.time or 0))
            summary.add(answer)
            update(summary.count)
            if writer.full:
                break
    except BaseException as error:
        answers.close()
        if writer.finish(whole=False) and not isinstance(error, OSError):
            complain(_what_is_there(writer))
        raise
    answers.close()
    writer.finish(whole=not writer.full)
    return summary


def _clip(images: list[str], output: Path, fps: float | None) -> "workflows.Clip":
    """The video to explain.

    Raises:
        InputError: An argument does not fit.
    """
    if len(images) != 1:
        raise InputError(
            f"explain takes one video at a time; got {len(images)} files for --output {output}."
        )
    if fps is not None and not fps > 0:
        raise InputError(f"--fps {fps:g}: give a number of frames per second, > 0.")
    source = Path(images[0])
    workflows.check_name(output)
    if output.exists() and source.exists() and output.samefile(source):
        raise InputError(
            f"--output {str(output)!r} would overwrite the video; choose another name."
        )
    return workflows.Clip(source)


def _frame_count(clip: "workflows.Clip", fps: float | None) -> int | None:
    """The number of frames to explain, as far as the file tells."""
    facts = clip.info
    count = facts.frames
    if not count:
        count = None if facts.seconds is None else round(facts.seconds * float(facts.fps))
    if count is None or fps is None or fps >= facts.fps:
        return count
    return max(1, round(count * fps / float(facts.fps)))


def _what_is_there(writer: "workflows.Writer") -> str:
    return f"{writer.path} holds the first {writer.count} frames, up to {float(writer.last):.1f} s."
