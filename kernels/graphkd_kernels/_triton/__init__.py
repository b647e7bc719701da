"""Triton kernels. Nothing of them is imported before a CUDA tensor, or somebody by name, asks for them."""

from importlib.util import find_spec
from os import environ

import torch
from torch import Tensor

OLDEST = 80
"""Compute capability times ten: bfloat16 tensor cores and asynchronous copies."""


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter; the variable counts when triton is imported."""
    return environ.get("TRITON_INTERPRET") == "1"


def missing() -> str | None:
    """What the kernels lack to run here, or ``None``. Does not import triton."""
    if find_spec("triton") is None:
        return "triton is not installed: pip install triton"
    if interpreting():
        return None
    if not torch.cuda.is_available():
        return "no CUDA device here (TRITON_INTERPRET=1 runs the kernels on a CPU, slowly, for tests)"
    return _too_old(torch.device("cuda"))


missing._dynamo_marked_constant = True  # type: ignore[attr-defined]  # assume_constant_result, compiler not imported


def unfit(tensor: Tensor) -> str | None:
    """Why the kernels cannot take this tensor, or ``None``."""
    if interpreting() and tensor.device.type == "cpu":
        return None
    if tensor.device.type != "cuda":
        return f"the tensors are on {tensor.device}: move them to a CUDA device, or ask for 'blocked'"
    return _too_old(tensor.device)


def _too_old(device: torch.device) -> str | None:
    major, minor = torch.cuda.get_device_capability(device)
    if 10 * major + minor < OLDEST:
        return (
            f"{device} has compute capability {major}.{minor}, the kernels need {OLDEST // 10}.{OLDEST % 10} or later"
        )
    return None
