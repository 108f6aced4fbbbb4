"""Damage to files, from a seed: bytes, and the fields of a JSON text."""

import copy
import json
import math
import random
from typing import Any

ODD = (
    None, True, 0, -1, 1, 5, 10**9, 2**31, 2**63, 10**30, -(10**30), 0.5, -0.5, 1e308, math.nan,
    math.inf, -math.inf, "", "x", "../../x", "/etc/passwd", "a\nb", "\x00", "\ud800", "x" * 5000,
    [], {}, [1], [[]], [[1, 2], [3]], {"a": 1}, [0, 0], [-3, 5], [10**9, 10**9], [math.nan] * 3,
    "trunk", "maps-9-9", "<script>", "1e999", ["a", "a"],
)  # fmt: skip


def damaged_bytes(data: bytes, random: random.Random) -> bytes:
    """Flip, cut, repeat, blank or insert bytes."""
    kind = random.randrange(7)
    at = random.randrange(len(data) + 1)
    size = random.choice((1, 4, 64, 1000))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + random.randbytes(size) + data[at + size :]
    if kind == 2:
        return data[:at] + random.randbytes(size) + data[at:]
    if kind == 3:
        return data[:at] + bytes(size) + data[at + size :]
    if kind == 4:
        return data[:at] + data[at : at + size] * 3 + data[at + size :]
    if kind == 5:
        return random.choice((b"", b"\n", b"\x00" * 100, b"PK\x03\x04", b"[" * 200_000, data[::-1]))
    flipped = bytearray(data)
    for _ in range(random.choice((1, 5, 50))):
        if flipped:
            flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def damaged_json(value: Any, random: random.Random) -> str:
    """The text of a JSON value in which something was replaced, removed, repeated or nested."""
    value = copy.deepcopy(value)
    kind = random.randrange(8)
    places = list(_places(value))
    if kind == 0:
        return random.choice(("", "{", "null", "[]", "3", "NaN", "[" * 100_000, '{"a":' * 5000))
    if not places:
        return json.dumps(random.choice(ODD))
    holder, key = random.choice(places)
    if kind == 1 and isinstance(holder, dict):
        holder["renamed"] = holder.pop(key)
    elif kind == 2:
        del holder[key]
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4:
        nested: Any = 1
        for _ in range(random.choice((70, 500))):
            nested = [nested]
        holder[key] = nested
    elif kind == 5 and isinstance(holder, list):
        holder += [copy.deepcopy(holder[key])] * 3
    else:
        for holder, key in random.sample(places, min(len(places), random.choice((1, 1, 2, 4)))):
            if (isinstance(holder, list) and key < len(holder)) or key in holder:
                holder[key] = copy.deepcopy(random.choice(ODD))
    text = json.dumps(value)
    if random.random() < 0.1:  # numbers that only a text can hold
        digits = random.choice(("9" * 400, "9" * 6000, "1e400", "-0", "0.1e-999"))
        text = text.replace("1", digits, 1)
    return text


def _places(value: Any) -> Any:
    keys = (
        list(value)
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in keys:
        yield value, key
        yield from _places(value[key])
