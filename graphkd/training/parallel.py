"""A Step made ready for several processes: BatchNorm over all of them, parameters and optimiser state sharded."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from graphkd.errors import DistributedError
from graphkd.models.tap import Tap
from graphkd.typing import Tensor

_SHARE = 64  # a part with fewer than 1/64 of the parameters travels with the rest
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_KINDS = ("", "_with_kwargs", "_always_called")


def sync_batchnorm(module: nn.Module) -> None:
    """Replace every BatchNorm inside by one whose statistics span the batch of all processes, on GPUs.

    timm's conversion, which keeps the activation of its own layers where torch's drops it; forward hooks, by which maps
    are tapped, move along. Weights keep their names. On a CPU such a layer raises in training.

    Args:
        module: student and distillers; its BatchNorm layers are replaced in place.
    """
    before = {name: each for name, each in module.named_modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)}
    import_module("timm.layers").convert_sync_batchnorm(module)
    for name, old in before.items():
        new = module.get_submodule(name)
        for hooks in (base + kind for base in _HOOKS for kind in _KINDS):
            if hasattr(old, hooks):
                setattr(new, hooks, getattr(old, hooks))


@torch.no_grad()
def start_alike(module: nn.Module) -> None:
    """Weights and buffers of the first process on all of them. DDP does so by itself; FSDP2 would mix their shards."""
    for value in module.state_dict().values():
        if isinstance(value, Tensor):
            dist.broadcast(value, 0)


def shard_student(student: nn.Module, device: torch.device) -> None:
    """FSDP2 in place: a tap's classifier, its network's stages and the rest, each gathered as it is used.

    Any other student is gathered as one: it may read its layers' weights without calling them.

    Raises: DistributedError for a parameter without rows.
    """
    scalars = [name for name, p in student.named_parameters() if p.ndim == 0]
    if scalars:
        raise DistributedError(
            f"parameters are sharded by rows, and {', '.join(scalars)} has none: make it a vector of one element, "
            "or leave shard=False"
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    units: list[nn.Module] = []
    if isinstance(student, Tap):
        least = sum(p.numel() for p in student.parameters()) / _SHARE
        units = [*filter(None, [student.classifier]), *_stages(student.model, least)]
    for unit in dict.fromkeys([*units, student]):
        fully_shard(unit, mesh=mesh)


def shard(step: Any, device: torch.device) -> None:
    """FSDP2 in place: the student as in :func:`shard_student`, and the distillers' projectors with the whole.

    Args:
        step: on its device already; whatever copies it comes before.
    """
    shard_student(step.student, device)
    fully_shard(step, mesh=init_device_mesh(device.type, (dist.get_world_size(),)))


def _stages(module: nn.Module, least: float) -> Iterator[nn.Module]:
    """Children that are called, not iterated over, and are worth an exchange of their own."""
    for child in module.children():
        if isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            yield from _stages(child, least)
        elif sum(p.numel() for p in child.parameters()) >= max(least, 1):
            yield child


def whole(tree: Any) -> Any:
    """A nested state with every sharded tensor gathered, on the host; all processes ask together."""
    if isinstance(tree, DTensor):
        return tree.full_tensor().cpu()
    if isinstance(tree, Mapping):
        return {key: whole(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [whole(value) for value in tree]
    return tree


def as_placed(value: Any, like: Any) -> Any:
    """A whole tensor as this process holds it, where ``like`` is a sharded tensor of that shape; else unchanged."""
    if not isinstance(like, DTensor) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    # Every process has the whole: nothing is sent.
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


@torch.no_grad()
def gather_into(plain: nn.Module, sharded: nn.Module) -> nn.Module:
    """The sharded module's weights in an ordinary copy of it; buffers are the first process's, as under DDP."""
    plain.load_state_dict(whole(sharded.state_dict()))
    for buffer in plain.buffers():
        dist.broadcast(buffer, 0)
    return plain
