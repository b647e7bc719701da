"""What no loss can be computed of is refused with what was expected, by every function and every distiller."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.distributed as dist

from graphkd import functional
from graphkd.checks import tensor_loss
from graphkd.errors import GraphKDError
from graphkd.typing import Tensor
from tests.distiller_laws import NAMES, beside, between, networks
from tests.functional.losses import LOSSES

BAD = {
    "list": (lambda x: x.tolist(), "is a list, a tensor was expected: make it one by torch.as_tensor"),
    "array": (lambda x: x.detach().numpy(), "is a ndarray, a tensor was expected"),
    "meta": (
        lambda x: x.to("meta"),
        r"(is on (meta|cpu) and .*, one device was expected|teacher features on meta|on meta,)",
    ),
    "sparse": (lambda x: x.to_sparse(), r"is a torch.sparse_coo tensor, a dense one was expected: call .to_dense"),
    "number": (lambda x: x.sum(), r"has no dimension, one row for each sample was expected: call .unsqueeze\(0\)"),
    "no samples": (lambda x: x[:0], r"\(0, .*\) is empty, at least one sample and one feature were expected"),
    "width 0": (lambda x: x[..., :0], r", 0\) is empty, at least one sample and one feature were expected"),
    "float8": (
        lambda x: x.to(torch.float8_e4m3fn),
        "at least 16 bits of real floating point was expected: call .float",
    ),
    "integers": (lambda x: x.long(), "is torch.int64, real floating point was expected: call .float"),
    "complex": (lambda x: x.to(torch.complex64), "is torch.complex64, real floating point was expected: call .float"),
}
bad = pytest.mark.parametrize("kind", BAD)


class Called(Exception):  # noqa: N818
    """Carries the arguments of a call in place of its result."""


def record(function, *args, **kwargs):
    raise Called(function, args, kwargs)


def arguments(name, monkeypatch):
    """The function behind a loss of the tests, and what it is called with."""
    student, teacher = (torch.randn(5, 16) for _ in range(2))
    for each in functional.__all__:
        real = getattr(functional, each)
        if hasattr(real, "over_ranks"):
            monkeypatch.setattr(functional, each, partial(record, real))
    with pytest.raises(Called) as found:
        LOSSES[name](student, teacher, torch.arange(5))
    return found.value.args


def spoilt(part, change):
    if isinstance(part, tuple):
        return (change(part[0]), *part[1:])
    return change(part) if isinstance(part, Tensor) and part.is_floating_point() else part


@bad
@pytest.mark.parametrize("name", LOSSES)
def test_a_function_says_what_it_expected(name, kind, monkeypatch):
    function, args, kwargs = arguments(name, monkeypatch)
    change, message = BAD[kind]
    for place in (0, 1):  # the student's first tensor, the teacher's first
        given = [spoilt(part, change) if i == place else part for i, part in enumerate(args)]
        with pytest.raises(GraphKDError, match=message):
            function(*given, **kwargs)


@bad
@pytest.mark.parametrize("name", NAMES)
def test_a_distiller_says_what_it_expected(name, kind):
    student, teacher = networks(4)
    distiller = between(name, student, teacher)
    change, message = BAD[kind]
    for part in ("embedding", "logits"):
        with pytest.raises(GraphKDError, match=message):
            distiller(replace(student, **{part: change(getattr(student, part))}), teacher, **beside(4))
        with pytest.raises(GraphKDError, match=message):
            distiller(student, replace(teacher, **{part: change(getattr(teacher, part))}), **beside(4))
    with pytest.raises(GraphKDError, match=message):
        maps = {key: change(each) for key, each in student.maps.items()}
        distiller(replace(student, maps=maps), teacher, **beside(4))


def test_an_optional_tensor_may_be_absent_and_a_needed_one_may_not():
    x = torch.randn(4, 5)
    assert functional.prg_node(x, x, None, None, rho=1.0).isfinite()
    with pytest.raises(TypeError, match="teacher_logits is a NoneType, a tensor was expected"):
        functional.kd(x, None)


def test_labels_on_another_device_are_named():
    x = torch.randn(4, 5)
    with pytest.raises(GraphKDError, match="target is on meta and student_logits on cpu, one device was expected"):
        functional.dkd(x, x, torch.zeros(4, dtype=torch.long, device="meta"))


def test_the_loss_of_all_ranks_is_the_function_itself():
    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        return student - teacher

    assert tensor_loss(loss).over_ranks is loss


@pytest.mark.parametrize("name", LOSSES)
def test_a_function_asks_no_other_rank(name, monkeypatch):
    student, teacher, target = torch.randn(5, 16), torch.randn(5, 16), torch.arange(5)
    alone = LOSSES[name](student, teacher, target)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for exchange in ("all_reduce", "all_gather"):
        monkeypatch.setattr(dist, exchange, None)
    assert torch.equal(LOSSES[name](student, teacher, target), alone)
