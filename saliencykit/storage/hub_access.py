"""Access to the hub of Hugging Face on machines without a network."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies


@contextmanager
def no_retries_when_offline() -> Iterator[None]:
    """Where the hub's host name cannot be resolved, use the cache at once instead of retrying for a
    minute.
    """
    try:
        from huggingface_hub import constants
    except ImportError:
        yield
        return
    host, offline = urlsplit(str(constants.ENDPOINT)).hostname, False
    if host and not getproxies():
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            offline = True
    if not offline or constants.HF_HUB_OFFLINE:
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = False
