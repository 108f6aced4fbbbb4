"""The summary of an explained video: segments of one class, with means."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, final

from rich.markup import escape

from saliencykit.cli import workflows
from saliencykit.cli.console import number, print_table, say


@final
@dataclass
class VideoSummary:
    """What is reported at the end of a video.

    Attributes:
        count: Number of frames so far.
        scores: Are the numbers scores, and not probabilities?
        segments: One for each run of frames with the same explained class.
    """

    count: int = 0
    scores: bool = False
    segments: list[dict[str, Any]] = field(default_factory=list)

    def add(self, answer: "workflows.Explanation") -> None:
        """Add one frame."""
        label, time = int(answer.labels[0]), answer.provenance["time"]
        if not self.segments or self.segments[-1]["label"] != label:
            segment = {"label": label, "name": answer.label_names[0], "from": time, "frames": 0}
            self.segments.append(segment | {"probability": 0.0, "area": 0.0})
        last = self.segments[-1]
        last["frames"] += 1
        last["to"] = time
        for key, values in (("probability", answer.probability), ("area", answer.area)):
            last[key] += (float(values[0]) - last[key]) / last["frames"]
        self.count += 1
        self.scores = answer.output == "score"

    def print(self, output: Path, note: str) -> None:
        """Print a row for each segment."""
        rows = [
            [
                f"{row['from']:.1f} to {row['to']:.1f}",
                escape(f"{row['name'].split(',')[0]} ({row['label']})"),
                str(row["frames"]),
                number(row["probability"], self.scores),
                number(row["area"], False),
            ]
            for row in self.segments
        ]
        what = "score" if self.scores else "probability"
        print_table(("seconds", "class", "frames", what, "area"), rows, left=2)
        say(
            f"means over the frames; {what}: of the class on the whole frame; area: fraction of "
            "pixels in the mask",
            dim=True,
        )
        say(f"wrote {output}: {self.count} frames, {note}")


def frame_rate_note(fps: Fraction, wanted: float | None) -> str:
    """Which frames are explained, in words.

    Example:
        >>> frame_rate_note(Fraction(30), 10), frame_rate_note(Fraction(25), 10)
        ('1 in 3 frames explained', 'at most 10 of 25 frames per second explained')
        >>> frame_rate_note(Fraction(25), None)
        'every frame explained'
    """
    if wanted is None or wanted >= fps:
        return "every frame explained"
    step = float(fps) / wanted
    if abs(step - round(step)) < 0.01:
        return f"1 in {round(step)} frames explained"
    return f"at most {wanted:g} of {float(fps):.4g} frames per second explained"
