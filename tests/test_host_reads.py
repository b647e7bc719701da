"""A training step on an accelerator never waits for a number: it could not be captured as a CUDA graph.

On the ``meta`` device the code goes the ways that it goes on a GPU, and there is no number to read.
"""

from contextlib import ExitStack, nullcontext
from importlib.util import find_spec

import pytest
import torch
from graphkd_kernels.dispatch import backend
from torch.utils._python_dispatch import TorchDispatchMode

from graphkd import Step
from graphkd.step import labelled_cross_entropy
from tests.distiller_laws import NAMES, beside, between, networks

READS = ("_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2", "unique_dim")
every = pytest.mark.parametrize("name", NAMES)


class NoReads(TorchDispatchMode):
    """Raises where the host waits for a number, or for a shape that depends on numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func._schema.name.removeprefix("aten::") not in READS, f"{func} makes the host wait"
        return func(*args, **(kwargs or {}))


@pytest.fixture
def _on_meta(monkeypatch):
    """Autocast knows no ``meta`` device: it is off there."""
    autocast, enabled = torch.autocast, torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cuda": kind != "meta" and enabled(kind))
    monkeypatch.setattr(
        torch, "autocast", lambda kind, **more: nullcontext() if kind == "meta" else autocast(kind, **more)
    )


def kernels(stack):
    """The kernels as on a GPU, their launches recorded."""
    from graphkd_kernels._triton.launch import recording

    from tests.kernels.triton.fake_driver import fake_cuda, host_tensors

    stack.enter_context(fake_cuda())
    stack.enter_context(host_tensors())
    return stack.enter_context(recording(90))


def features_on_meta(samples):
    student, teacher = networks(samples, torch.float32)
    student = student.map_tensors(lambda x: x.to("meta").requires_grad_())
    return student, teacher.map_tensors(lambda x: x.to("meta"))


@every
@pytest.mark.parametrize("chosen", ["auto", "eager", "blocked", "triton"])
@pytest.mark.usefixtures("_on_meta")
def test_no_distiller_reads_a_number(name, chosen):
    if chosen == "triton" and find_spec("triton") is None:
        pytest.skip("triton is not installed")
    distiller = between(name, *networks(12, torch.float32), torch.float32).to("meta")
    student, teacher = features_on_meta(12)
    labels = {key: each.to("meta") for key, each in beside(12).items()}
    with ExitStack() as stack:
        record = kernels(stack) if chosen == "triton" else None
        stack.enter_context(backend(chosen))
        stack.enter_context(NoReads())
        distiller(student, teacher, **labels).total.backward()
    if record is not None and name in ("prg", "ega", "kd", "rkd", "dist"):
        assert record.launches


@pytest.mark.usefixtures("_on_meta")
def test_a_whole_step_reads_no_number():
    class Student(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones((), device="meta"))

        def forward(self, images):
            return networks(12, torch.float32)[0].map_tensors(lambda x: x.to("meta") * self.scale)

    teacher = features_on_meta(12)[1]
    methods = [between(name, *networks(12, torch.float32), torch.float32).to("meta") for name in ("prg", "sp", "kd")]
    step = Step(Student(), *methods, task=labelled_cross_entropy)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    labels = {key: each.to("meta") for key, each in beside(12).items()}
    with NoReads():
        step(torch.empty(12, 3, 8, 8, device="meta"), teacher, **labels).total.backward()
        optimizer.step()


def test_a_read_is_found():
    with NoReads(), pytest.raises(AssertionError, match="makes the host wait"):
        torch.ones(3).sum().item()


@every
@pytest.mark.gpu
def test_a_gpu_never_waits(name):
    """The same by CUDA's own alarm, after one step that compiles and remembers."""
    distiller = between(name, *networks(12, torch.float32), torch.float32).cuda()
    student, teacher = (each.map_tensors(torch.Tensor.cuda) for each in networks(12, torch.float32))
    student = student.map_tensors(lambda x: x.requires_grad_())
    labels = {key: each.cuda() for key, each in beside(12).items()}
    distiller(student, teacher, **labels).total.backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        distiller(student, teacher, **labels).total.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
