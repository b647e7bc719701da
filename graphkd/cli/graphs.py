"""What one network's graph of some images says, and how far two networks' graphs agree."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from graphkd.cli import images, networks
from graphkd.cli.commands.inspect import Inspect
from graphkd.cli.console import Console
from graphkd.cli.opened import student_view
from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource, source_subset
from graphkd.data.transforms import Transform
from graphkd.data.views import Batch, Views
from graphkd.features import Features
from graphkd.graphs.relations import cosine
from graphkd.typing import Float, Int, Tensor

_PAIRS = 5  # closest classes that are told


@dataclass(frozen=True)
class NetworkView:
    """One network's view of some images.

    Args:
        features: of all of them.
        classes: names of the logits and proxies.
        ids: of the images.
        labels: of the images, ``None`` where there is none.
        k: neighbours of each image.
    """

    features: Features
    classes: list[str] | None
    ids: list[str]
    labels: list[int | None]
    k: int

    @classmethod
    @torch.no_grad()
    def of(
        cls, network: Any, batches: Iterable[Batch], source: ImageSource, k: int, device: torch.device
    ) -> "NetworkView":
        """Ask a network about every image; the features come to the CPU.

        Args:
            network: a Tap or a Teacher.
            batches: the images, in order.
            source: the same images; their labels count where their classes are the network's.
            k: neighbours of each image, where there are so many.
            device: where the network is.
        """
        found: list[Features] = [network(batch.student.to(device)).to("cpu").as_float32() for batch in batches]
        kept = [Features(each.tensor("embedding", "inspect"), each.logits, each.proxies) for each in found]
        names, own = list(getattr(network, "classes", None) or source.classes or ()), list(source.classes or ())
        labels = [source.target(i) if names == own else None for i in range(len(source))]
        return cls(Features.joined(kept), names or None, list(source.ids), labels, min(k, len(source) - 1))

    @cached_property
    def edges(self) -> Float[Tensor, "n n"]:
        """Cosines between the images, -inf from each to itself."""
        x = self.features.tensor("embedding", "inspect")
        return cosine(x, x).fill_diagonal_(-torch.inf)

    @cached_property
    def near(self) -> Int[Tensor, "n k"]:
        """Each image's nearest others."""
        return self.edges.topk(self.k).indices

    @cached_property
    def guess(self) -> Int[Tensor, " n"] | None:
        """Predicted classes."""
        return None if self.features.logits is None else self.features.logits.argmax(1)

    def name(self, label: int) -> str:
        """Of a class."""
        return self.classes[label] if self.classes else str(label)


def views_of(config: Inspect, console: Console) -> dict[str, NetworkView]:
    """What each network that was asked for says of the images."""
    running, teaching = config.running, config.teaching
    asked: dict[str, tuple[Any, Transform]] = {}
    device, classes = networks.device_of(running.device), networks.run_classes(teaching)
    if config.model is not None:
        student, about = networks.open_student(config.model, config.model_from)
        view = student_view(about, config.model)
        asked["student"], classes = (student.to(device), view), Classes(about["classes"])
    source = images.image_data(config.images, console).open("test", classes)
    if len(source) > config.limit:  # as many, spread evenly
        source = source_subset(source, [i * len(source) // config.limit for i in range(config.limit)])
    if teaching.teacher is not None:
        teacher = networks.open_teacher(teaching, source.classes, device)
        asked["teacher"] = teacher, networks.teacher_view(teacher, teaching.teacher_size)
    seen = {}
    for name, (network, view) in asked.items():
        loader = Views(source, student=view).loader(
            running.batch_size, shuffle=False, drop_last=False, workers=running.workers
        )
        batches = console.bar(loader, len(loader), name)
        seen[name] = NetworkView.of(network, batches, source, config.neighbours, device)
    return seen


def described(seen: NetworkView) -> dict[str, Any]:
    """How many images, how often neighbours are of one class, and which classes lie closest."""
    facts: dict[str, Any] = {"images": len(seen.ids)}
    if None not in seen.labels:
        target = torch.tensor(seen.labels)
        facts["neighbours_of_one_label"] = _share(target[seen.near] == target[:, None])
        if seen.guess is not None:
            facts["top1"] = _share(seen.guess == target)
    if seen.guess is not None:
        facts["neighbours_of_one_prediction"] = _share(seen.guess[seen.near] == seen.guess[:, None])
    if seen.features.proxies is not None and len(seen.features.proxies) > 1:
        facts["closest_classes"] = _closest(seen, seen.features.proxies)
    return facts


def agreement(student: NetworkView, teacher: NetworkView) -> dict[str, float]:
    """How far two graphs of the same images agree.

    Returns: correlation of the edges between images; share of each image's k neighbours that are neighbours for both;
    share of equal predictions, where both have the same classes.
    """
    outside = ~torch.eye(len(student.ids), dtype=torch.bool)
    pairs = torch.stack([each.edges[outside] for each in (student, teacher)])
    common = (student.near[:, :, None] == teacher.near[:, None, :]).any(2)
    facts = {"correlation_of_edges": float(torch.corrcoef(pairs)[0, 1]), "common_neighbours": _share(common)}
    if student.guess is not None and teacher.guess is not None and student.classes == teacher.classes:
        facts["equal_predictions"] = _share(student.guess == teacher.guess)
    return facts


def neighbours_of(seen: NetworkView, count: int) -> list[dict[str, Any]]:
    """The first images with prediction and nearest images."""
    rows = []
    logits = seen.features.logits
    for i in range(min(count, len(seen.ids))):
        row: dict[str, Any] = {"id": seen.ids[i], "label": seen.labels[i]}
        if logits is not None:
            confidence, guess = logits[i].softmax(0).max(0)
            row |= {"prediction": seen.name(int(guess)), "confidence": float(confidence)}
        row["neighbours"] = [{"id": seen.ids[j], "edge": float(seen.edges[i, j])} for j in seen.near[i].tolist()]
        rows.append(row)
    return rows


def _closest(seen: NetworkView, proxies: Float[Tensor, "c d"]) -> dict[str, float]:
    """Pairs of classes whose proxies lie closest, and their edges."""
    i, j = torch.triu_indices(len(proxies), len(proxies), offset=1)
    edges = cosine(proxies, proxies)[i, j]
    best = edges.topk(min(_PAIRS, len(edges))).indices.tolist()
    return {f"{seen.name(int(i[at]))} - {seen.name(int(j[at]))}": float(edges[at]) for at in best}


def _share(hits: Tensor) -> float:
    return float(hits.float().mean())
