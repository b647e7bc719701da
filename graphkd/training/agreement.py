"""What decides the result of a run, as plain data: compared between its processes, and with the run that is resumed."""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from graphkd import distributed
from graphkd.data.fingerprint import (
    content_fingerprint,
    data_fingerprint,
    digest,
    label_fingerprint,
    name_fingerprint,
    order_fingerprint,
)
from graphkd.data.sources import ImageSource
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.views import Views
from graphkd.distillers.base import Distiller
from graphkd.errors import DistributedError
from graphkd.step import Step
from graphkd.teachers.base import Teacher
from graphkd.training.checkpoint import differing
from graphkd.training.config import TrainConfig
from graphkd.training.devices import Ranks
from graphkd.training.run_folder import versions
from graphkd.typing import Tensor

_MOST = 24  # differences that a message lists
_TORCH = frozenset(vars(nn.Module()))  # what every module has, such as its hooks


def described(part: Any) -> Any:
    """Options as JSON-ready data, the same in every process: functions and classes by name, tensors by shape.

    Of a module these are the attributes of all distillers and other parts of graphkd in it, by path; weights, devices
    and local paths are left out.

    Example: ``described(PKTDistiller(weight=3.0))["."]["terms"]["divergence"][0]`` is ``3.0``
    """
    if isinstance(part, nn.Module):
        return {name or ".": _attributes(each) for name, each in part.named_modules() if _is_ours(each)}
    if part is None or isinstance(part, bool | int | float):
        return part
    if isinstance(part, str | os.PathLike):
        return "a local path" if os.path.isabs(part) else str(part)
    if isinstance(part, Mapping):
        return {str(key): described(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [described(value) for value in part]
    if isinstance(part, set | frozenset):
        return sorted(str(described(value)) for value in part)
    if isinstance(part, Tensor):
        return f"{part.dtype} {tuple(part.shape)}"
    if isinstance(part, partial):
        return {"is": _name(part.func), "given": described([part.args, part.keywords])}
    if is_dataclass(part) and not isinstance(part, type):
        return {"is": _name(type(part)), **{each.name: described(getattr(part, each.name)) for each in fields(part)}}
    return _name(part)


def _is_ours(module: nn.Module) -> bool:
    return isinstance(module, Distiller) or type(module).__module__.startswith("graphkd.")


def _attributes(module: nn.Module) -> dict[str, Any]:
    own = {name: value for name, value in vars(module).items() if name not in _TORCH}
    plain = {name: described(value) for name, value in own.items() if not isinstance(value, nn.Module | torch.device)}
    return {"is": _name(type(module)), **plain}


def _name(part: Any) -> str:
    """Of a function or class, or of the class of anything else; never an address in memory."""
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"


def of_method(config: TrainConfig, step: Step) -> dict[str, Any]:
    """Options, distillers and task of a run, JSON-ready by name."""
    return {**config.to_dict(), "distillers": described(step.distillers), "task": described(step.task)}


def of_source(source: ImageSource, labels: bool) -> dict[str, Any]:
    """Images, JSON-ready by name; some of them are read, see :func:`graphkd.data.fingerprint.content_fingerprint`.

    Args:
        labels: whether they are handed out, and so looked at here.
    """
    data = {
        "names": data_fingerprint(source),
        "order": order_fingerprint(source.ids),
        "content": content_fingerprint(source),
        "classes": name_fingerprint(source.classes),
        "labels": label_fingerprint(source) if labels else None,
    }
    return {"images": len(source), "data": data}


def of_teacher(teacher: Teacher | EmbeddingStore | None) -> dict[str, Any]:
    """Who teaches, JSON-ready by name; ``None`` where nothing is known of it."""
    if not isinstance(teacher, EmbeddingStore):
        return {"teacher_fingerprint": teacher and teacher.fingerprint(), "store": None}
    made = teacher.manifest
    kept = {"transform": made.transform, "dtype": made.dtype, "views": made.views}
    return {"teacher_fingerprint": dict(made.teacher), "store": kept}


def of_views(views: Views) -> dict[str, Any]:
    """What a run sees, JSON-ready by name; of views of one's own kind their number, seed and class."""
    seed = {"views_seed": views.seed}
    if not isinstance(views, Views):
        return {"images": len(views), **seed, "views": _name(views)}
    sides = {"student": views.student.spec, "teacher": "shared" if views.teacher == "shared" else views.teacher.spec}
    replay = views.replay and views.replay.manifest.identity
    facts = {**of_source(views.source, views.labels), **seed}
    return {**facts, "views": {**sides, "labels": views.labels, "replay": replay}}


def of_processes(step: Step, scored: Views | None, snapshots: Collection[int], teaches: bool) -> dict[str, Any]:
    """What the processes of a run must have in common beside what decides its result, JSON-ready by name.

    Args:
        snapshots: epochs at which a snapshot of the student is taken.
        teaches: whether there are features of a teacher.
    """
    parts = {name: f"{_name(type(part))}({part.extra_repr()})" for name, part in step.named_modules()}
    facts = {
        "modules": parts,
        "scored": scored and of_views(scored),
        "snapshots": sorted(snapshots),
        "teaches": teaches,
    }
    return {**facts, "gather_limit": distributed.current_gather_limit(), "versions": versions()}


def require_agreement(ranks: Ranks, facts: Mapping[str, Any]) -> None:
    """Let no process train another student than the others: ranks with other options would, or wait for ever.

    Args:
        ranks: the processes.
        facts: what must be the same in all of them, JSON-ready, by name. A digest is exchanged; all of it where the
            digests differ.

    Raises: DistributedError, in all processes, that names each fact that differs and its value on each rank.
    """
    text = json.dumps(facts, sort_keys=True)
    if len(set(ranks.texts(digest(text)))) == 1:
        return
    found = [f"{name} is {_by_rank(values)}" for name, values in differing(map(json.loads, ranks.texts(text))).items()]
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    raise DistributedError(
        f"the processes of this run differ: {'; '.join(found[:_MOST])}{more}. "
        "Launch all of them with the same options, data and versions; only devices, workers and paths may differ"
    )


def _by_rank(values: list[str]) -> str:
    """``0.02 on rank 0 and 0.002 on ranks 1, 2``."""
    ranks: dict[str, list[str]] = {}
    for rank, value in enumerate(values):
        ranks.setdefault(value, []).append(str(rank))
    return " and ".join(f"{value} on rank{'s' * (len(at) > 1)} {', '.join(at)}" for value, at in ranks.items())
