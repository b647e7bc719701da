"""graphkd inspect."""

from pathlib import Path
from typing import Any, Final

import torch

from graphkd.cli.configs.look import Inspect
from graphkd.cli.console import Console
from graphkd.cli.graphs import Seen, agreement, class_edges, described, nearest_edges, neighbours_of, spectrum
from graphkd.cli.images import image_data
from graphkd.cli.networks import device_of, open_student, open_teacher, run_classes, teacher_view
from graphkd.cli.parse import resolved
from graphkd.cli.reporting import require_report
from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource, source_subset
from graphkd.data.transforms import CenterView, Transform
from graphkd.data.views import Views
from graphkd.features import Features
from graphkd.files import write_json
from graphkd.text import shown

_THUMBNAIL: Final = 48  # pixels of an image in a picture


@torch.no_grad()
def run(config: Inspect, console: Console) -> int:
    """Graphs, neighbours and proxies of one network or two."""
    device = device_of(config.running.device)
    networks: dict[str, tuple[Any, Transform]] = {}
    classes = run_classes(config.teaching)
    if config.model is not None:
        tap, about = open_student(config.model)
        networks["student"], classes = (tap.to(device), CenterView(about["size"])), Classes(about["classes"])
    source = _some(image_data(config.images, console).open("test", classes), config.limit)
    if config.teaching.teacher is not None:
        teacher = open_teacher(config.teaching, source.classes, device)
        networks["teacher"] = teacher, teacher_view(teacher, config.teaching.teacher_size)
    if config.pictures is not None:
        require_report(asked=True)
    k = min(config.neighbours, len(source) - 1)
    seen = {}
    for name, (network, view) in networks.items():
        features = _features(network, source, view, config, device, console, name)
        names = list(getattr(network, "classes", None) or source.classes or ())
        seen[name] = Seen(features, names or None, list(source.ids), _labels(source, names), k)
    facts: dict[str, Any] = {name: described(each) for name, each in seen.items()}
    if len(seen) == 2:
        facts["agreement"] = agreement(*seen.values())
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        images = {name: neighbours_of(each, len(source)) for name, each in seen.items()}
        edges = {name: nearest_edges(each) for name, each in seen.items()}
        write_json(config.out, {**facts, "images": images, "edges": edges, "options": resolved(config)})
    if config.pictures is not None:
        _draw(config.pictures, seen, source, console)
    console.result(facts, _text(facts, seen, config))
    return 0


def _draw(folder: Path, seen: dict[str, Seen], source: ImageSource, console: Console) -> None:
    """The pictures of one network or two."""
    from graphkd.pictures import draw_proxy_graph, draw_relations, draw_spectra, save_picture

    first = next(iter(seen.values()))
    labels = None if None in first.labels else torch.tensor(first.labels)
    alike = {name: each for name, each in seen.items() if each.classes == first.classes}
    edges = {name: class_edges(each) for name, each in alike.items() if "class" in each.graph.node_types}
    figures = {"spectrum": draw_spectra(**{"student": {}, **{name: spectrum(each) for name, each in seen.items()}})}
    if edges:
        images = torch.stack([CenterView(_THUMBNAIL)(source.image(i)) for i in range(len(source))])
        figures["graph"] = draw_proxy_graph(edges, images, labels, first.classes)
    if len(seen) == 2:
        teacher, student = seen["teacher"], seen["student"]
        figures["relations"] = draw_relations(teacher.edges, student.edges, labels, first.classes)
    for name, figure in figures.items():
        console.remark(f"drawn: {save_picture(figure, folder / f'{name}.png')}")


def _some(source: ImageSource, limit: int) -> ImageSource:
    """At most so many images, spread evenly."""
    if len(source) <= limit:
        return source
    return source_subset(source, [position * len(source) // limit for position in range(limit)])


def _labels(source: ImageSource, names: list[str]) -> list[int | None]:
    """Labels of the images; none where the network's classes are others than theirs."""
    same = names == list(source.classes or ())
    return [source.target(i) if same else None for i in range(len(source))]


def _features(
    network: Any,
    source: ImageSource,
    view: Transform,
    config: Inspect,
    device: torch.device,
    console: Console,
    name: str,
) -> Features:
    """One record over all images, on the CPU."""
    loader = Views(source, student=view).loader(
        config.running.batch_size, shuffle=False, drop_last=False, workers=config.running.workers
    )
    found: list[Features] = []
    for batch in console.bar(loader, len(loader), name):
        found.append(network(batch.student.to(device)).to("cpu").as_float32())
    embedding = torch.cat([each.tensor("embedding", "inspect") for each in found])
    logits = None if found[0].logits is None else torch.cat([each.tensor("logits", "inspect") for each in found])
    return Features(embedding, logits, found[0].proxies, found[0].proxy_logits)


def _text(facts: dict[str, Any], seen: dict[str, Seen], config: Inspect) -> str:
    lines: list[str] = []
    for name, each in seen.items():
        lines += [f"== {name}", *_lines(facts[name])]
        for row in neighbours_of(each, config.show):
            near = ", ".join(f"{other['id']} {other['edge']:.2f}" for other in row["neighbours"])
            said = f"{row['prediction']} {100 * row['confidence']:.0f} %  " if "prediction" in row else ""
            lines.append(shown(f"  {row['id']}: {said}near {near}"))
    if "agreement" in facts:
        lines += ["== student and teacher", *_lines(facts["agreement"])]
    return "\n".join(lines)


def _lines(facts: dict[str, Any]) -> list[str]:
    width = max(map(len, facts))
    return [shown(f"  {key.replace('_', ' '):{width}}  {_written(value)}") for key, value in facts.items()]


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return ", ".join(map(_written, value)) or "none"
    if isinstance(value, dict):
        return " ".join(map(_written, value.values()))
    return str(value)
