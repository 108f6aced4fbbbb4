"""The client: pauses, and what is said of an answer."""

import time
import warnings

import pytest
from saliencykit_http.client import Client, Reply, UnusableError, redacted

from saliencykit import InputError


class Script:
    """In place of the network: what comes back, one try after the other."""

    def __init__(self, monkeypatch, *replies, **options):
        self.replies, self.pauses = list(replies), []
        self.client = Client(
            **{
                "timeout": 1,
                "retries": 5,
                "backoff": 1.0,
                "longest_wait": 60,
                "headers": {},
                "advice": " Bye.",
                **options,
            }
        )
        monkeypatch.setattr(self.client, "_once", lambda *words: self.replies.pop(0))
        monkeypatch.setattr(time, "sleep", self.pauses.append)

    def query(self, read=lambda reply: reply.content):
        return self.client.request("GET", "http://host/x", read)


def status(number, content=b"", **headers):
    return Reply(number, headers, content)


def test_pauses_grow_with_jitter(monkeypatch):
    script = Script(monkeypatch, *[status(503)] * 8, status(200, b"yes"), retries=20, backoff=1.0)
    assert script.query() == b"yes"
    assert len(script.pauses) == 8
    for pause, whole in zip(script.pauses, [1, 2, 4, 8, 16, 30, 30, 30], strict=True):
        assert whole / 2 <= pause <= whole
    assert (
        len(
            {
                pause / whole
                for pause, whole in zip(script.pauses, [1, 2, 4, 8, 16, 30, 30, 30], strict=True)
            }
        )
        == 8
    )


def test_who_waits_is_told_once(monkeypatch):
    script = Script(monkeypatch, *[status(503)] * 4, status(200), retries=6)
    with pytest.warns(
        UserWarning, match=r"http://host/x: it returned 503; retrying, \d times at most\."
    ) as said:
        script.query()
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Script(monkeypatch, *[status(503)] * 4, status(200), backoff=0.01).query()


def test_retry_after_in_seconds_and_as_a_date(monkeypatch):
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 20))
    refused = [status(503, **{"retry-after": text}) for text in ("9", later, "soon", "-3")]
    script = Script(monkeypatch, *refused, status(200), backoff=0.1)
    script.query()
    assert script.pauses[0] == 9
    assert 15 < script.pauses[1] <= 20
    assert max(script.pauses[2:]) <= 0.8


def test_every_5xx_and_some_4xx_are_retried(monkeypatch):
    script = Script(
        monkeypatch,
        *(status(number) for number in (500, 502, 503, 504, 599, 408, 425, 429)),
        status(200),
        retries=9,
    )
    script.query()
    assert len(script.pauses) == 8


@pytest.mark.parametrize("number", [204, 301, 400, 401, 403, 404, 405, 422])
def test_others_are_not(monkeypatch, number):
    script = Script(
        monkeypatch, status(number, b'{"detail": "no"}', location="http://me:secret@other/y")
    )
    with pytest.raises(
        InputError,
        match=rf"http://host/x: it returned {number} \(no\)\. It has moved: http://other/y\.",
    ) as raised:
        script.query()
    assert "secret" not in str(raised.value)
    assert script.pauses == []


def test_the_end_of_patience(monkeypatch):
    script = Script(monkeypatch, *[status(500, b"<html>\x00\x1b[31m" + b"long " * 1000)] * 6)
    with pytest.raises(
        InputError,
        match=r"http://host/x gave no usable response after 6 tries in 0 s: it returned 500 "
        r"\(<html>",
    ) as raised:
        script.query()
    assert str(raised.value).endswith(" Bye.")
    assert len(str(raised.value)) < 320
    assert str(raised.value).isprintable()


def test_what_cannot_be_used_is_retried_twice(monkeypatch):
    def read(reply):
        raise UnusableError("it is green")

    script = Script(monkeypatch, *[status(200)] * 3)
    with pytest.raises(InputError, match="after 3 tries in 0 s: it is green"):
        script.query(read)


def test_addresses_are_shown_without_secrets():
    assert redacted("https://me:pass@host:80/a/b?key=1#x") == "https://host:80/a/b"
