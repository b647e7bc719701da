r"""Sums and rows over all ranks, with the gradients that make W ranks equal to one; identities without a process group.

Convention: a loss is :math:`L = f(\sum_r s_r)`. Every rank returns the same L, and the gradient of its own rows is
:math:`W \, dL/d(\text{own rows})`, which the averaging of DDP and FSDP2 over W ranks turns into :math:`dL/d\theta`.
Nobody else multiplies by W. Over several ranks there are first derivatives only: second ones raise.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist

from graphkd.errors import DistributedError, GraphError, OptionError
from graphkd.typing import Float, Tensor

_COUNTING: ContextVar["Traffic | None"] = ContextVar("graphkd_traffic", default=None)


@dataclass
class Traffic:
    """Bytes of this rank's exchanges, by collective.

    Attributes:
        ranks: in the process group.
        handed: bytes that this rank handed to ``"all_reduce"`` (its buffer) and to ``"all_gather"`` (its own rows,
            padded to those of the largest rank).
        calls: how often.
    """

    ranks: int
    handed: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def add(self, collective: str, buffer: Tensor) -> None:
        """Count one exchange."""
        self.handed[collective] += buffer.nbytes
        self.calls[collective] += 1

    @property
    def sent(self) -> dict[str, float]:
        """Bytes that leave this rank: 2 (W - 1)/W of a sum and W - 1 times own rows, as rings of ranks do it."""
        w = self.ranks
        factors = {"all_reduce": 2 * (w - 1) / w, "all_gather": w - 1.0}
        return {name: factors[name] * size for name, size in self.handed.items()}

    @property
    def total(self) -> float:
        """All of :attr:`sent`."""
        return sum(self.sent.values())


_GATHER_LIMIT: ContextVar[int] = ContextVar("graphkd_gather_limit", default=2**30)


class _Here(threading.local):  # no ContextVar: torch.compile cannot trace its set()
    alone = False


_HERE = _Here()


def world_size() -> int:
    """Ranks in the process group; 1 without one, and inside :func:`alone`."""
    return dist.get_world_size() if not _HERE.alone and dist.is_available() and dist.is_initialized() else 1


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this rank computes with its own samples as if there were no other rank."""
    before, _HERE.alone = _HERE.alone, True
    try:
        yield
    finally:
        _HERE.alone = before


def rank() -> int:
    """This process's place in the group; 0 without one."""
    return dist.get_rank() if world_size() > 1 else 0


def first_row(rows_of_ranks: Sequence[int]) -> int:
    """The place of this rank's first row among those of all ranks."""
    return sum(rows_of_ranks[: rank()])


@contextmanager
def traffic() -> Iterator[Traffic]:
    """Count the bytes that this rank exchanges for what is computed inside, the backward pass of it included.

    Example::

        with distributed.traffic() as sent:
            step(images, teacher(images)).total.backward()
        sent.handed, sent.total          # {"all_reduce": ..., "all_gather": ...}, bytes sent in a ring
    """
    found = Traffic(world_size())
    token = _COUNTING.set(found)
    try:
        yield found
    finally:
        _COUNTING.reset(token)


@contextmanager
def gather_limit(size: int) -> Iterator[None]:
    """The most bytes that one gathered set of nodes may take on a rank: 1 GiB unless set here.

    A term that would gather more raises DistributedError before anything is exchanged. Sizes alone decide, so all ranks
    do the same if they have the same limit. Terms that exchange Gram matrices gather nothing
    (``docs/distributed.md`` lists them).

    Args:
        size: bytes.

    Raises: OptionError for a size < 0.
    Example::

        with distributed.gather_limit(256 * 2**20):
            losses = step(images, teacher(images))
    """
    if size < 0:
        raise OptionError(f"a limit of gathered nodes is a number of bytes >= 0, found {size}")
    token = _GATHER_LIMIT.set(size)
    try:
        yield
    finally:
        _GATHER_LIMIT.reset(token)


def current_gather_limit() -> int:
    """Bytes, as :func:`gather_limit` set them; they must be the same on all ranks."""
    return _GATHER_LIMIT.get()


def _check_limit(rows: Tensor, rows_of_ranks: Sequence[int]) -> None:
    size, limit = sum(rows_of_ranks) * rows.shape[1:].numel() * rows.element_size(), _GATHER_LIMIT.get()
    if size > limit:
        raise DistributedError(
            f"nodes {(sum(rows_of_ranks), *rows.shape[1:])} of all ranks are {size:,} bytes on each, and the limit is "
            f"{limit:,}: use a smaller global batch, raise the limit (distributed.gather_limit), or choose a method "
            "that exchanges Gram matrices (EGA, SP, EIKD)"
        )


def _summed(value: Tensor, counter: Traffic | None) -> Tensor:
    """A new tensor. The counter of a backward pass is that of its forward pass: it may run in another thread."""
    total = value.clone(memory_format=torch.contiguous_format)
    if counter is not None:
        counter.add("all_reduce", total)
    dist.all_reduce(total)
    return total


def _all_gather(own: Tensor, counter: Traffic | None) -> list[Tensor]:
    if counter is not None:
        counter.add("all_gather", own)
    parts = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(parts, own)
    return parts


def once_only() -> None:
    """Raises: GraphError in a backward pass that is to be differentiated: it leaves out what other ranks add."""
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise GraphError(
            "relations over several ranks have first derivatives only, and create_graph=True asks for second ones: "
            "leave it out, or relate the samples in one process"
        )


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.counter = _COUNTING.get()
        return _summed(value, ctx.counter)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        once_only()
        # Summed, not multiplied by W: right as well where a total (a mean distance) is used inside each rank's own sum.
        return _summed(grad, ctx.counter)


class _CommonTotal(_Total):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        once_only()
        return world_size() * grad


def total(value: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Sum of a tensor over all ranks."""
    if world_size() == 1:
        return value
    result: Tensor = _Total.apply(value)
    return result


def common_total(value: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Sum over all ranks from which every rank computes the same: the gradient needs no exchange.

    What is mixed with a rank's own rows afterwards needs :func:`total`: its gradients differ from rank to rank.
    """
    if world_size() == 1:
        return value
    result: Tensor = _CommonTotal.apply(value)
    return result


def mean_over_batch(values: Float[Tensor, " b"], counted: Float[Tensor, " b"] | None = None) -> Float[Tensor, ""]:
    """Mean of one number per sample, over the samples of all ranks.

    Args:
        values: 0 for a sample that does not count.
        counted: 1 for each sample that counts and 0 for the others; default all count. If none does, the mean is 0.
    """
    if world_size() == 1:
        return values.sum() / (max(len(values), 1) if counted is None else counted.sum().to(values.dtype).clamp_min(1))
    count = values.new_tensor(float(len(values))) if counted is None else counted.sum().to(values.dtype)
    both = total(torch.stack([values.sum(), count]))
    return both[0] / both[1].detach().clamp_min(1)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        ctx.counter = _COUNTING.get()
        parts = _all_gather(padded, ctx.counter)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        once_only()
        start = first_row(ctx.sizes)
        return _summed(grad, ctx.counter)[start : start + ctx.sizes[rank()]], None


def sizes(rows: int, device: torch.device) -> list[int]:
    """Rows of each rank. One small exchange that reads the answer on the host; none without a group."""
    if world_size() == 1:
        return [rows]
    mine = torch.tensor([rows], device=device)
    return [int(each) for each in torch.cat(_all_gather(mine, _COUNTING.get())).tolist()]


def gather(rows: Float[Tensor, "n *any"], rows_of_ranks: list[int]) -> Float[Tensor, "m *any"]:
    """Rows of all ranks in the order of ranks, differentiable; ``rows_of_ranks`` comes from :func:`sizes`.

    Raises: DistributedError for more bytes than :func:`gather_limit` allows.
    """
    if world_size() == 1:
        return rows
    _check_limit(rows, rows_of_ranks)
    result: Tensor = _Rows.apply(rows, rows_of_ranks)
    return result


def maximum(value: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Largest value over all ranks; its gradient goes to the rank that holds it (in a tie, shared)."""
    if world_size() == 1:
        return value
    values: Tensor = _Rows.apply(value.view(1), [1] * world_size())
    return values.amax()
