"""The progress of an explanation, in evaluations of the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from saliencykit.black_boxes.query_counter import CountingBlackBox
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required

Progress: TypeAlias = bool | Callable[[int, int | None], None]
"""Show a bar? Or a function that is called with the evaluations so far and of all, if known."""


@contextmanager
def reporting(black_box: BlackBox, progress: Progress, total: int | None) -> Iterator[BlackBox]:
    """In this block the black box reports its queries.

    Args:
        black_box: The classifier.
        progress: True: a bar of tqdm, in a notebook a widget. False: nothing. Or a function.
        total: Number of evaluations, where known; it is raised where there are more.

    Yields:
        The black box to query.

    Raises:
        InputError: tqdm is not installed, or `progress` is something else.
    """
    if progress is False:
        yield black_box
        return
    done = 0

    def on_query(count: int) -> None:
        nonlocal done
        done += count
        update(done, total and max(total, done))

    if progress is True:
        with _bar() as update:
            yield CountingBlackBox(black_box, on_query)
            update(done, done)
    elif callable(progress):
        update = progress
        yield CountingBlackBox(black_box, on_query)
    else:
        raise InputError(f"progress={progress!r}: expected True, False or a function.")


@contextmanager
def _bar() -> Iterator[Callable[[int, int | None], None]]:
    tqdm = required("tqdm.auto", "progress=True", "notebook").tqdm
    with tqdm(desc="explain", unit=" evaluations") as bar:

        def update(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update
        bar.refresh()
