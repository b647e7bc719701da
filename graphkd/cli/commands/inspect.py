"""graphkd inspect: what one network or two say about a folder of images."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import (
    STUDENT,
    OfNetworks,
    require_at_least,
    require_new_folder,
    require_run,
)
from graphkd.text import shown

if TYPE_CHECKING:
    from graphkd.cli.graphs import NetworkView


@dataclass(frozen=True, kw_only=True)
class Inspect(OfNetworks):
    """What a teacher or student says about a folder: its graphs, neighbours and proxies.

    Shows each image's prediction and nearest images, the classes that lie closest, how well neighbours agree in their
    class, and the spectrum of the graph. With a student and a teacher also how far both graphs agree.

    Args:
        neighbours: nearest images per image.
        limit: images to look at; more are drawn evenly over the folder.
        show: images to print; the file of --out holds all.
        pictures: draw into this folder: the graph of images and class proxies, its spectrum, and of two networks the
            relation matrices.
        out: write everything to this JSON file: edges in PyG's edge_index format, neighbours, proxies.

    Example::

        # a student alone
        graphkd inspect --model runs/photos-1 --data photos

        # how much of its teacher's graph it has
        graphkd inspect --model runs/photos-1 --teacher ViT-B-32 --pretrained openai --data photos --out graph.json

        # the same as pictures
        graphkd inspect --model runs/photos-1 --teacher ViT-B-32 --pretrained openai --data photos --pictures drawn
    """

    neighbours: int = 5
    limit: int = 512
    show: int = 10
    pictures: Path | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        require(
            self.model is not None or self.teaching.teacher is not None,
            "expected --model or --teacher or both, found neither",
            "give --model runs/photos-1, or --teacher ViT-B-32 --pretrained openai",
        )
        if self.model is not None:
            require_run(self.model, STUDENT)
        require_new_folder("pictures", self.pictures)
        for name, least in (("neighbours", 1), ("limit", 3), ("show", 0)):
            require_at_least(name, getattr(self, name), least)


def run(config: Inspect, *, console: Console) -> int:
    """Graphs, neighbours and proxies of one network or two."""
    from graphkd.cli import config_file, graphs
    from graphkd.cli.commands.report import require_report

    if config.pictures is not None:
        require_report(asked=True)
    source, seen = graphs.views_of(config, console)
    facts: dict[str, Any] = {name: graphs.described(each) for name, each in seen.items()}
    if len(seen) == 2:
        facts["agreement"] = graphs.agreement(*seen.values())
    if config.out is not None:
        images = {name: graphs.neighbours_of(each, len(source)) for name, each in seen.items()}
        edges = {name: graphs.nearest_edges(each) for name, each in seen.items()}
        config_file.save_facts(config.out, {**facts, "images": images, "edges": edges}, config)
    if config.pictures is not None:
        for path in graphs.draw(config.pictures, seen, source):
            console.remark(f"drawn: {path}")
    console.result(facts, _text(facts, seen, config.show))
    return 0


def _text(facts: dict[str, Any], seen: dict[str, "NetworkView"], show: int) -> str:
    from graphkd.cli.graphs import neighbours_of

    lines: list[str] = []
    for name, each in seen.items():
        lines += [f"== {name}", *_lines(facts[name])]
        for row in neighbours_of(each, show):
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
    return " ".join(map(_written, value.values())) if isinstance(value, dict) else str(value)
