"""What one network's graph of some images says, and how far two networks' graphs agree."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from graphkd.cli import images, networks
from graphkd.cli.commands.inspect import Inspect
from graphkd.cli.console import Console
from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource, source_subset
from graphkd.data.transforms import CenterView, Transform
from graphkd.data.views import Batch, Views
from graphkd.features import Features
from graphkd.graphs.edges import NORMALISERS
from graphkd.graphs.graph import Graph
from graphkd.graphs.spectral import decomposed
from graphkd.typing import Float, Int, Tensor

_PAIRS, _SPECTRUM = 5, 12  # closest classes and smoothest eigenvalues that are told
_THUMBNAIL = 48  # pixels of an image in a picture


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
        embedding = torch.cat([each.tensor("embedding", "inspect") for each in found])
        logits = None if found[0].logits is None else torch.cat([each.tensor("logits", "inspect") for each in found])
        names, own = list(getattr(network, "classes", None) or source.classes or ()), list(source.classes or ())
        labels = [source.target(i) if names == own else None for i in range(len(source))]
        features = Features(embedding, logits, found[0].proxies, found[0].proxy_logits)
        return cls(features, names or None, list(source.ids), labels, min(k, len(source) - 1))

    @cached_property
    def graph(self) -> Graph:
        """Samples and class proxies, related by the cosine."""
        graph = Graph().add("sample", self.features.tensor("embedding", "inspect"))
        graph.connect("sample", "cosine", "sample")
        if self.features.proxies is not None:
            graph.add("class", self.features.proxies, scope="shared")
            graph.connect("sample", "cosine", "class").connect("class", "cosine", "class")
        return graph

    @cached_property
    def edges(self) -> Float[Tensor, "n n"]:
        """Cosines between the images."""
        return self.graph.edges("sample", "cosine", "sample").dense()

    @cached_property
    def nearest(self) -> tuple[Int[Tensor, "2 e"], Float[Tensor, " e"]]:
        """Edges to each image from its nearest others, in PyG's format."""
        return self.graph.edges("sample", "cosine", "sample").nearest(self.k)

    @property
    def near(self) -> Int[Tensor, "n k"]:
        """Each image's nearest others."""
        return self.nearest[0][0].view(len(self.ids), -1)

    @cached_property
    def guess(self) -> Int[Tensor, " n"] | None:
        """Predicted classes."""
        return None if self.features.logits is None else self.features.logits.argmax(1)

    def name(self, label: int) -> str:
        """Of a class."""
        return self.classes[label] if self.classes else str(label)


def views_of(config: Inspect, console: Console) -> tuple[ImageSource, dict[str, NetworkView]]:
    """The images, and what each network that was asked for says of them."""
    running, teaching = config.running, config.teaching
    asked: dict[str, tuple[Any, Transform]] = {}
    device, classes = networks.device_of(running.device), networks.run_classes(teaching)
    if config.model is not None:
        student, about = networks.open_student(config.model, config.model_from)
        asked["student"], classes = (student.to(device), CenterView(about["size"])), Classes(about["classes"])
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
    return source, seen


def described(seen: NetworkView) -> dict[str, Any]:
    """Size, edges, spectrum, how pure neighbourhoods are, and which classes lie closest."""
    n = len(seen.ids)
    outside = seen.edges[~torch.eye(n, dtype=torch.bool)]
    facts: dict[str, Any] = {
        "images": n,
        "embedding_dim": seen.graph["sample"].x.shape[1],
        "mean_edge": float(outside.mean()),
        "deviation_of_edges": float(outside.std()),
        "laplacian_eigenvalues": [float(value) for value in spectrum(seen)["images"][0, :_SPECTRUM]],
    }
    if None not in seen.labels:
        target = torch.tensor(seen.labels)
        facts["neighbours_of_one_label"] = _share(target[seen.near] == target[:, None])
        if seen.guess is not None:
            facts["top1"] = _share(seen.guess == target)
    if seen.guess is not None:
        facts["neighbours_of_one_prediction"] = _share(seen.guess[seen.near] == seen.guess[:, None])
    if seen.features.proxies is not None and len(seen.features.proxies) > 1:
        facts["closest_classes"] = _closest(seen)
    return facts


def agreement(student: NetworkView, teacher: NetworkView) -> dict[str, float]:
    """How far two graphs of the same images agree.

    Returns: correlation of the edges between images; share of each image's k neighbours that are neighbours for both;
    share of equal predictions; correlation of the edges between images and classes.
    """
    outside = ~torch.eye(len(student.ids), dtype=torch.bool)
    facts = {"correlation_of_edges": _correlation(student.edges[outside], teacher.edges[outside])}
    common = (student.near[:, :, None] == teacher.near[:, None, :]).any(2)
    facts["common_neighbours"] = _share(common)
    both = student.features.logits is not None and teacher.features.logits is not None
    same_classes = both and student.classes == teacher.classes
    if same_classes and student.features.logits.shape == teacher.features.logits.shape:  # type: ignore[union-attr]
        assert student.guess is not None
        assert teacher.guess is not None
        facts["equal_predictions"] = _share(student.guess == teacher.guess)
        if "class" in student.graph.node_types and "class" in teacher.graph.node_types:
            blocks = [each.graph.edges("sample", "cosine", "class").dense() for each in (student, teacher)]
            facts["correlation_of_class_edges"] = _correlation(*(block.flatten() for block in blocks))
    return facts


def neighbours_of(seen: NetworkView, count: int) -> list[dict[str, Any]]:
    """The first images with prediction, nearest images and nearest classes."""
    rows = []
    logits = seen.features.logits
    scores = None if logits is None else logits.softmax(1)
    near_classes = None
    if "class" in seen.graph.node_types:
        edges = seen.graph.edges("sample", "cosine", "class").dense()
        near_classes = edges.topk(min(3, edges.shape[1]), dim=1)
    for i in range(min(count, len(seen.ids))):
        row: dict[str, Any] = {"id": seen.ids[i], "label": seen.labels[i]}
        if scores is not None and seen.guess is not None:
            row |= {"prediction": seen.name(int(seen.guess[i])), "confidence": float(scores[i].max())}
        row["neighbours"] = [{"id": seen.ids[j], "edge": float(seen.edges[i, j])} for j in seen.near[i].tolist()]
        if near_classes is not None:
            pairs = zip(near_classes.indices[i].tolist(), near_classes.values[i].tolist(), strict=True)
            row["proxies"] = [{"class": seen.name(label), "edge": edge} for label, edge in pairs]
        rows.append(row)
    return rows


def nearest_edges(seen: NetworkView) -> dict[str, list[Any]]:
    """Edges to each image from its nearest others as PyG has them: ``edge_index`` (2, n * k), ``edge_attr``."""
    edge_index, edge_attr = seen.nearest
    return {"edge_index": edge_index.tolist(), "edge_attr": edge_attr.tolist()}


def class_edges(seen: NetworkView) -> Float[Tensor, "n c"]:
    """Cosines between images and class proxies, each image's mean subtracted."""
    edges = seen.graph.edges("sample", "cosine", "class")
    return replace(edges, normalise=NORMALISERS.get("center")).dense()


def spectrum(seen: NetworkView) -> dict[str, Float[Tensor, "1 n"]]:
    """Eigenvalues of the Laplacian of the images' graph, as one level."""
    laplacian = seen.graph.edges("sample", "cosine", "sample").laplacian()
    return {"images": decomposed(torch.linalg.eigvalsh, laplacian)[0][None]}


def draw(folder: Path, seen: dict[str, NetworkView], source: ImageSource) -> list[Path]:
    """Write the pictures of one network or two; returns their paths."""
    from graphkd.pictures import draw_proxy_graph, draw_relations, draw_spectra, save_picture

    first = next(iter(seen.values()))
    labels = None if None in first.labels else torch.tensor(first.labels)
    alike = {name: each for name, each in seen.items() if each.classes == first.classes}
    edges = {name: class_edges(each) for name, each in alike.items() if "class" in each.graph.node_types}
    figures = {"spectrum": draw_spectra(**{"student": {}, **{name: spectrum(each) for name, each in seen.items()}})}
    if edges:
        small = torch.stack([CenterView(_THUMBNAIL)(source.image(i)) for i in range(len(source))])
        figures["graph"] = draw_proxy_graph(edges, small, labels, first.classes)
    if len(seen) == 2:
        teacher, student = seen["teacher"], seen["student"]
        figures["relations"] = draw_relations(teacher.edges, student.edges, labels, first.classes)
    return [save_picture(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _closest(seen: NetworkView) -> list[dict[str, Any]]:
    """Pairs of classes whose proxies lie closest."""
    edges = seen.graph.edges("class", "cosine", "class").dense()
    i, j = torch.triu_indices(len(edges), len(edges), offset=1)
    values, order = edges[i, j].sort(descending=True)
    pairs = [(seen.name(int(i[at])), seen.name(int(j[at]))) for at in order[:_PAIRS]]
    return [{"classes": f"{a} - {b}", "edge": float(value)} for (a, b), value in zip(pairs, values, strict=False)]


def _share(hits: Tensor) -> float:
    return float(hits.float().mean())


def _correlation(x: Tensor, y: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])
