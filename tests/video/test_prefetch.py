import threading
import time

import pytest

from saliencykit.video.prefetch import prefetch


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("saliencykit")]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_same_items_in_the_same_order(depth):
    assert list(prefetch(range(20), depth)) == list(range(20))
    assert not threads()


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_after_the_items_before_it(depth):
    def broken():
        yield 1
        yield 2
        raise OSError("the camera is gone")

    seen = []
    with pytest.raises(OSError, match="the camera is gone"):
        seen.extend(prefetch(broken(), depth))  # a list keeps what it got before the error
    assert seen == [1, 2]
    assert not threads()


def test_no_more_than_its_depth_is_made_ahead():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    stream = prefetch(items(), 2)
    next(stream)
    time.sleep(0.3)
    assert len(made) <= 1 + 2 + 1  # used, in the queue, in hand
    stream.close()


def test_closing_stops_the_thread_and_closes_what_it_read():
    closed = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    stream = prefetch(endless(), 2)
    next(stream)
    stream.close()
    assert closed == ["saliencykit-prefetch"]
    assert not threads()


def test_an_interrupt_of_its_user_stops_it_too():
    def endless():
        while True:
            yield 0

    def use():
        for _ in prefetch(prefetch(endless(), 1), 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    end = time.perf_counter() + 30
    while threads() and time.perf_counter() < end:
        time.sleep(0.02)
    assert not threads()


def test_it_is_made_in_another_thread():
    def names():
        yield threading.current_thread().name

    assert list(prefetch(names(), 1, "saliencykit-read")) == ["saliencykit-read"]
