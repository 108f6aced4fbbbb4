"""CachedQueries: images to outputs, from the cache where they are known, within the query budget
where they are not.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from saliencykit import InputError
from saliencykit_http.cache import Array, OutputCache
from saliencykit_http.client import Client, Reply, redacted
from saliencykit_http.service import Service


@final
@dataclass
class CachedQueries:
    """Queries one service, and counts.

    Args:
        service: What is queried.
        client: How.
        cache: Known outputs, or None.
        batch_size: The number of images that every request must have, or None.
        max_batch_size: The most images in a request, where `batch_size` is None.
        max_queries: The most images that are sent in all, or None.
        classes: K, as the server declares it; None: as its first output has.
        sent: How many images were sent.
        cached: How many outputs came from the cache.
    """

    service: Service
    client: Client
    cache: OutputCache | None
    batch_size: int | None
    max_batch_size: int
    max_queries: int | None
    classes: int | None = None
    sent: int = 0
    cached: int = 0

    def outputs(self, rows: Array) -> Array:
        """The output for each image, (B, K).

        Raises:
            InputError: The service gave no usable response, or the budget is spent.
        """
        prefix = hashlib.sha256(
            f"{self.service.identity}\n{rows.shape[1:]}\n{rows.dtype}\n".encode()
        )
        keys = [_key(prefix, row) for row in rows]
        known = self.cache.find(keys) if self.cache else {}
        for row in known.values():
            self._same_width(row)
        missing = [index for index, key in enumerate(keys) if key not in known]
        self.cached += len(keys) - len(missing)
        step = self.batch_size or self.max_batch_size
        while missing:
            batch = missing[: self._allowed(min(step, len(missing)))]
            outputs = self._send(rows[batch])
            self._same_width(outputs[0])  # before the cache keeps them
            fresh = {keys[index]: row for index, row in zip(batch, outputs, strict=True)}
            if self.cache:
                self.cache.keep(fresh)
            known |= fresh
            missing = missing[len(batch) :]
        return np.stack([known[key] for key in keys])

    def _same_width(self, row: Array) -> None:
        if self.classes is None:
            self.classes = len(row)
        if len(row) != self.classes:
            raise InputError(
                f"{redacted(self.service.address)} returned {len(row)} numbers per image, and it "
                f"has {self.classes} classes; the model was replaced. Run again"
                f"{', with another version= or cache=' if self.cache else ''}."
            )

    def _send(self, rows: Array) -> Array:
        missing = (self.batch_size or len(rows)) - len(rows)
        batch = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
        content, headers = self.service.request(batch)

        def read(reply: Reply) -> Array:
            return self.service.read(reply, len(batch))

        def before() -> None:
            if self._left < len(batch):
                raise self._spent(len(batch))
            self.sent += len(batch)

        def not_sent() -> None:
            self.sent -= len(batch)

        outputs = self.client.request(
            "POST",
            self.service.address,
            read,
            content=content,
            headers=headers,
            before=before,
            not_sent=not_sent,
        )
        return outputs[: len(rows)]

    @property
    def _left(self) -> float:
        return float("inf") if self.max_queries is None else self.max_queries - self.sent

    def _allowed(self, wanted: int) -> int:
        """How many images to send now: fewer than wanted where the budget has no more and a cache
        keeps their outputs.
        """
        if self._left >= (self.batch_size or wanted):
            return wanted
        if self.cache and self.batch_size is None and self._left >= 1:
            return int(self._left)
        raise self._spent(self.batch_size or wanted)

    def _spent(self, wanted: int) -> InputError:
        return InputError(
            f"{redacted(self.service.address)}: max_queries={self.max_queries} images may be sent, "
            f"{self.sent} were, and the next request has {wanted}.{self.client.advice}"
        )


def _key(prefix: Any, row: Array) -> bytes:
    digest = prefix.copy()
    digest.update(np.ascontiguousarray(row).data)
    return bytes(digest.digest())
