"""Triton kernels. Nothing of them is imported before a CUDA tensor, or somebody by name, asks for them."""

from importlib.util import find_spec
from os import environ

import torch


def missing() -> str | None:
    """What the kernels lack to run here, or ``None``. Does not import triton."""
    if find_spec("triton") is None:
        return "triton is not installed: pip install triton"
    if not torch.cuda.is_available() and environ.get("TRITON_INTERPRET") != "1":
        return "no CUDA device here (TRITON_INTERPRET=1 runs the kernels on a CPU, slowly, for tests)"
    return None


missing._dynamo_marked_constant = True  # type: ignore[attr-defined]  # assume_constant_result, compiler not imported
