"""Operation -> implementation; each module of kernels has a dictionary ``OPERATIONS`` of its own, joined here."""

from collections.abc import Callable
from typing import Any

OPERATIONS: dict[str, Callable[..., Any]] = {}
