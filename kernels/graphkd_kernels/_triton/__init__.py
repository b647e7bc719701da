"""Triton kernels for NVIDIA sm_80 and later. This file imports neither triton nor a kernel; ``why_not`` says what is missing."""

import importlib.util
import os

import torch
from torch import Tensor

OLDEST = 80  # compute capability: asynchronous copies and bfloat16 tensor cores


def interpreting() -> bool:
    """Whether this process runs the kernels in Triton's interpreter. Set the variable before triton is imported."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_not(*tensors: Tensor) -> str | None:
    """What keeps the kernels from running (on these tensors), or ``None`` where they run."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton (torch for Linux brings it along)"
    if interpreting():
        return None
    if not torch.cuda.is_available():
        return "no CUDA device is visible to torch; TRITON_INTERPRET=1 runs the kernels, slowly, on the CPU"
    for device in {tensor.device for tensor in tensors} or {torch.device("cuda")}:
        if device.type != "cuda":
            return f"the tensors are on {device}: move them to a CUDA device, or ask for 'blocked'"
        major, minor = torch.cuda.get_device_capability(device)
        if 10 * major + minor < OLDEST:
            return f"{device} has compute capability {major}.{minor}, and the kernels need {OLDEST / 10} or later"
    return None


def missing() -> str | None:
    """What the kernels lack to run here, or ``None``. Does not import triton."""
    return why_not()


missing._dynamo_marked_constant = True  # type: ignore[attr-defined]  # assume_constant_result, compiler not imported
