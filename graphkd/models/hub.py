"""Files of the Hugging Face hub without the wait for retries where there is no network."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from huggingface_hub import constants

_SECONDS = 5.0  # for the first answer


def hub_host() -> str:
    """The host of the hub, or of a mirror that ``HF_ENDPOINT`` names."""
    return urlsplit(str(constants.ENDPOINT)).hostname or str(constants.ENDPOINT)


def reachable() -> bool:
    """Whether the hub, or the proxy on the way to it, takes a connection."""
    if constants.HF_HUB_OFFLINE:
        return False
    way = urlsplit(getproxies().get("https") or constants.ENDPOINT)
    try:
        socket.create_connection((way.hostname, way.port or 443), _SECONDS).close()
    except (OSError, ValueError):  # a port that is no number
        return False
    return True


@contextmanager
def no_retries() -> Iterator[bool]:
    """Inside, where the hub cannot be reached, only this machine's cache is looked into; yields whether it can be.

    The hub's client tries each file five times, 23 seconds in all, before it says that there is no network.
    """
    before, found = constants.HF_HUB_OFFLINE, reachable()
    constants.HF_HUB_OFFLINE = not found
    try:
        yield found
    finally:
        constants.HF_HUB_OFFLINE = before


def not_had(found: bool, error: Exception) -> str:
    """Why something of the hub cannot be had, as the second half of a sentence.

    Args:
        found: whether the hub could be reached.
        error: that it ended with.
    """
    if not found:
        return f"not on this machine, and {hub_host()} cannot be reached"
    return f"not on this machine and could not be downloaded ({type(error).__name__}: {' '.join(str(error).split())})"
