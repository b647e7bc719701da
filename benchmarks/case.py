"""What is measured: an operation or a method, its inputs at each shape, and the forms of it that race."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from graphkd_kernels import dispatch
from torch import Tensor

from graphkd import ops

Shape = tuple[int, ...]
Function = Callable[..., Any]
FORMS = ("eager", "official", "compile", "blocked", "triton")  # eager first: the others are divided by it
NEAR = 1e-3  # size of the noise between a nearly converged student and its teacher


class UnavailableError(Exception):
    """A form that cannot run here; the text is what its cell says."""


@dataclass(frozen=True)
class Case:
    """An operation or a method.

    Args:
        name: of the operation in ``graphkd.ops``, or of the distiller; a variation has a suffix, ``edge_sum.channels``.
        shapes: the quick one first, then the usual ones.
        inputs: numbers of a shape -> tensors, float32 on torch's default device, the same in every run.
        ours: the library's function of these tensors.
        official: the published form, or the reason why there is none.
        work: numbers of a shape -> (FLOPs, elements read or written) of forward and gradient in the cheapest form
            known, from which the predicted floor follows; unknown for methods.
        students: how many leading tensors get a gradient; 0 where there is none.
        near: position of a teacher's tensor -> position of the student's that it resembles near convergence.
        peers: name -> import of another library's function that does the same.
        long: shapes that are measured with ``-m slow`` only.
        sweeps: what grows -> shapes; measured by ``test_sweep``.
        check_at: shape -> the shape whose result is compared with float64, where the whole one would not fit.
    """

    name: str
    shapes: tuple[Shape, ...]
    inputs: Callable[..., tuple[Tensor, ...]]
    ours: Function
    official: Function | str
    work: Callable[..., tuple[float, float]] | None
    students: int = 1
    near: Mapping[int, int] = field(default_factory=dict)
    peers: Mapping[str, Callable[[], Function]] = field(default_factory=dict)
    long: tuple[Shape, ...] = ()
    sweeps: Mapping[str, tuple[Shape, ...]] = field(default_factory=dict)
    check_at: Callable[[Shape], Shape] = lambda shape: (min(shape[0], 4096), *shape[1:])
    kind: str = "op"

    @property
    def operation(self) -> str:
        """The name without its variation."""
        return self.name.partition(".")[0]

    @property
    def forms(self) -> tuple[str, ...]:
        """All forms that race, peers last."""
        return (*FORMS, *self.peers)

    def tensors(self, shape: Shape, near: bool = False) -> list[Tensor]:
        """The inputs: random, or with the teacher within ``NEAR`` of the student."""
        made = list(self.inputs(*shape))
        if near:
            for teacher, student in self.near.items():
                made[teacher] = made[student] + NEAR * random(*made[student].shape, seed=99 + teacher)
        return made


def label(shape: tuple[object, ...]) -> str:
    """256x512."""
    return "x".join(map(str, shape))


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers that are the same in every run, made where they are used."""
    return torch.randn(*shape, generator=torch.Generator(torch.get_default_device()).manual_seed(seed))


def pair(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Nodes of a student and of a teacher."""
    return random(n, d), random(n, d, seed=1)


def op(name: str) -> Function:
    """The library's operation of that name, looked up when it is called: an older version may lack it."""

    def call(*args: Any) -> Any:
        if hasattr(ops, name):
            return getattr(ops, name)(*args)
        if name in dispatch._BACKENDS["eager"]:
            return dispatch.run(name, *args)
        raise UnavailableError(f"this version has no operation {name}")

    call.__name__ = name
    return call


def cases(kind: str | None = None) -> dict[str, Case]:
    """Every case by name, operations first."""
    from benchmarks import methods  # they import this module
    from benchmarks import ops as operations

    return {case.name: case for case in (*operations.CASES, *methods.CASES) if kind in (None, case.kind)}
