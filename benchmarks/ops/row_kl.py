"""Divergence of softmax rows at temperature 4: n samples, c classes."""

from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from benchmarks.case import Case, op, random
from benchmarks.peers import liger_kl


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    """One number a row."""
    return op("row_kl")(student, teacher, 4.0)


def official(student: Tensor, teacher: Tensor) -> Tensor:
    """As in Hinton's distillation and the code that followed it."""
    return kl_div(log_softmax(student / 4, 1), softmax(teacher / 4, 1), reduction="none").sum(1)


def inputs(n: int, c: int) -> tuple[Tensor, ...]:
    """Logits."""
    return 3 * random(n, c), 3 * random(n, c, seed=1)


CASES = [
    Case(
        "row_kl",
        ((256, 100), (8192, 1000)),
        inputs,
        ours,
        official,
        lambda n, c: (20 * n * c, 5 * n * c),
        near={1: 0},
        peers={"liger-kernel": lambda: liger_kl(4.0)},
        sweeps={"C": tuple((1024, c) for c in (64, 256, 1024, 4096, 16384))},
    )
]
