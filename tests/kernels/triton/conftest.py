"""Where the kernels' tests run: on a GPU as they are, or in Triton's interpreter, which is a matter of the whole process.

In an ordinary process ``device`` is a GPU, and the tests that use it are marked ``gpu``. ``test_in_interpreter.py`` runs the
same files again in a process of its own with TRITON_INTERPRET=1, where ``device`` is the CPU.
"""

import pytest
import torch
from graphkd_kernels import _triton

if _triton.interpreting():
    collect_ignore = [
        "test_in_interpreter.py",
        "test_aot_check.py",
        "test_compilations.py",
        "test_launch.py",
        "test_offsets.py",
        "test_model.py",
    ]  # neither itself again nor the compiler, which it replaces
    DEVICES = ["cpu"]
else:
    DEVICES = [pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    """What the kernels run on in this process."""
    if request.param == "cuda" and _triton.missing():
        pytest.skip(f"no kernels here: {_triton.missing()}")
    return torch.device(request.param)
