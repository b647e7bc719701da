"""Seeds as a pure function of what they are for, so that nothing depends on the order of the draws."""

from hashlib import blake2b

import torch


def derived_seed(*parts: int | str) -> int:
    """A 64-bit seed made of its parts, the same in every process and on every machine.

    Args:
        parts: what the seed is for, such as ``(seed, epoch, "photos/cat.png", "student")``.

    Example: ``derived_seed(0, 1) != derived_seed(0, 2)``
    """
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little")


def derived_generator(*parts: int | str) -> torch.Generator:
    """A CPU generator that starts at ``derived_seed(*parts)``."""
    return torch.Generator().manual_seed(derived_seed(*parts))
