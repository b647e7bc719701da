"""Shared by both frameworks: losses by name, the student as a file, and a check of each rank's share of the data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from graphkd.data.seeds import EpochBatches
from graphkd.data.views import Batch
from graphkd.distillers.base import same_update
from graphkd.errors import DistributedError
from graphkd.features import Features
from graphkd.files import local_path, write_file
from graphkd.losses import Losses
from graphkd.models.tap import Tap
from graphkd.typing import Tensor

Teaching = Callable[[Batch], Features] | None


def losses_of(step: Any, batch: Batch, features: Teaching, device: Any, *, first: bool) -> Losses:
    """The step's losses of one batch.

    Args:
        step: a :class:`graphkd.Step`, wrapped or not.
        features: the teacher's features of a batch, as :class:`graphkd.Trainer` takes them.
        device: of the student.
        first: whether it is the first batch of an update.
    """
    batch = batch.to(device)
    teacher = None if features is None else features(batch).to(device)
    with same_update(step, holds=not first):
        return Losses(step(batch.student, teacher, target=batch.target, index=batch.index))


def save_student(student: nn.Module, path: Path | str) -> Path:
    """A student's weights as safetensors, by the names of its own model, so that timm or torchvision load them.

    Example: ``timm.create_model("resnet18", num_classes=10, checkpoint_path=save_student(student, "student.safetensors"))``
    """  # noqa: E501
    from safetensors.torch import save_model

    path, model = local_path(path), student.model if isinstance(student, Tap) else student
    write_file(path, lambda temporary: save_model(model, str(temporary)))
    return path


def require_shares(loader: Any, rank: int, world: int) -> None:
    """Raises: DistributedError where a loader gives every rank the same samples, or shares that others cut again."""
    batches = getattr(loader, "batch_sampler", None)
    if isinstance(batches, EpochBatches) and (batches.rank, batches.world) != (rank, world):
        raise DistributedError(
            f"this is rank {rank} of {world}, and the loader gives the batches of rank {batches.rank} of "
            f"{batches.world}: make it by views.loader(..., rank={rank}, world={world})"
        )


def detached(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The terms and their sum, for a log."""
    return {"loss": Losses(losses).total.detach(), **{name: value.detach() for name, value in losses.items()}}
