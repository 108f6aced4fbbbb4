"""Asking: rows of pictures to rows of numbers, from the cache where they are known, within the
budget where they are not.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from saliencykit import InputError
from saliencykit_http.cache import AnswerCache
from saliencykit_http.client import Client, Reply, shown
from saliencykit_http.service import Service


@final
@dataclass
class Asking:
    """One service, asked and counted.

    Args:
        service: What is asked.
        client: How.
        cache: What is known already, or None.
        batch: As many pictures as every request must have, or None.
        most: The most pictures in a request, where `batch` is None.
        limit: The most images that go out in all, or None.
        sent: How many did.
        remembered: How many answers came from the cache.
    """

    service: Service
    client: Client
    cache: AnswerCache | None
    batch: int | None
    most: int
    limit: int | None
    sent: int = 0
    remembered: int = 0

    def answers(self, rows: "np.ndarray[Any, np.dtype[Any]]") -> "np.ndarray[Any, np.dtype[Any]]":
        """The numbers for each row, (B, K).

        Raises:
            InputError: The service gave no usable answer, or the images are used up.
        """
        start = hashlib.sha256(
            f"{self.service.identity}\n{rows.shape[1:]}\n{rows.dtype}\n".encode()
        )
        keys = [_key(start, row) for row in rows]
        known = self.cache.find(keys) if self.cache else {}
        missing = [index for index, key in enumerate(keys) if key not in known]
        self.remembered += len(keys) - len(missing)
        step = self.batch or self.most
        while missing:
            some = missing[: self._allowed(min(step, len(missing)))]
            fresh = {
                keys[index]: answer
                for index, answer in zip(some, self._send(rows[some]), strict=True)
            }
            if self.cache:
                self.cache.keep(fresh)
            known |= fresh
            missing = missing[len(some) :]
        lengths = sorted({len(known[key]) for key in keys})
        if len(lengths) > 1:
            raise InputError(
                f"{shown(self.service.address)} answered with {lengths[0]} and with {lengths[-1]} "
                "numbers for a picture."
            )
        return np.stack([known[key] for key in keys])

    def _send(self, rows: "np.ndarray[Any, np.dtype[Any]]") -> "np.ndarray[Any, np.dtype[Any]]":
        missing = (self.batch or len(rows)) - len(rows)
        given = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
        content, headers = self.service.request(given)

        def read(reply: Reply) -> "np.ndarray[Any, np.dtype[Any]]":
            return self.service.answer(reply, len(given))

        def before() -> None:
            if self._left < len(given):
                raise self._spent(len(given))
            self.sent += len(given)

        def not_sent() -> None:
            self.sent -= len(given)

        answers = self.client.ask(
            "POST",
            self.service.address,
            read,
            content=content,
            headers=headers,
            before=before,
            not_sent=not_sent,
        )
        return answers[: len(rows)]

    @property
    def _left(self) -> float:
        return float("inf") if self.limit is None else self.limit - self.sent

    def _allowed(self, wanted: int) -> int:
        """How many rows to send now: fewer than wanted if the budget has no more, and what they
        bring is kept.
        """
        if self._left >= (self.batch or wanted):
            return wanted
        if self.cache and self.batch is None and self._left >= 1:
            return int(self._left)
        raise self._spent(self.batch or wanted)

    def _spent(self, wanted: int) -> InputError:
        return InputError(
            f"{shown(self.service.address)}: max_queries={self.limit} images may be sent, "
            f"{self.sent} were, and {wanted} more are wanted.{self.client.advice}"
        )


def _key(start: Any, row: "np.ndarray[Any, np.dtype[Any]]") -> bytes:
    digest = start.copy()
    digest.update(np.ascontiguousarray(row).data)
    return bytes(digest.digest())
