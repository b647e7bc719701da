"""graphkd inspect: what one network or two say about a folder of images."""

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt
from cyclopts.validators import Number

from graphkd.cli.console import Console, listed
from graphkd.cli.errors import require
from graphkd.cli.option_groups import (
    STUDENT,
    OfNetworks,
    require_run,
)
from graphkd.text import shown


@dataclass(frozen=True, kw_only=True)
class Inspect(OfNetworks):
    """What a teacher or student says about a folder: its graphs, neighbours and proxies.

    Shows each image's prediction and nearest images, the classes that lie closest, how well neighbours agree in their
    class. With a student and a teacher also how far both graphs agree.

    Args:
        neighbours: nearest images per image.
        limit: images to look at; more are drawn evenly over the folder.
        show: images to print.

    Example::

        # a student alone
        graphkd inspect --model runs/photos-1 --data photos

        # how much of its teacher's graph it has
        graphkd inspect --model runs/photos-1 --teacher ViT-B-32 --pretrained openai --data photos
    """

    neighbours: PositiveInt = 5
    limit: Annotated[int, Parameter(validator=Number(gte=3))] = 512
    show: NonNegativeInt = 10

    def __post_init__(self) -> None:
        require(
            self.model is not None or self.teaching.teacher is not None,
            "expected --model or --teacher or both, found neither",
            "give --model runs/photos-1, or --teacher ViT-B-32 --pretrained openai",
        )
        if self.model is not None:
            require_run(self.model, STUDENT)


def run(config: Inspect, *, console: Console) -> int:
    """Graphs, neighbours and proxies of one network or two."""
    from graphkd.cli import graphs

    seen = graphs.views_of(config, console)
    facts: dict[str, Any] = {name: graphs.described(each) for name, each in seen.items()}
    lines = []
    for name, each in seen.items():
        rows = graphs.neighbours_of(each, config.show)
        lines += [f"== {name}", *_told(facts[name]), *map(_line, rows)]
        facts[name]["neighbours"] = rows
    if len(seen) == 2:
        facts["agreement"] = graphs.agreement(*seen.values())
        lines += ["== student and teacher", *_told(facts["agreement"])]
    console.result(facts, "\n".join(map(shown, lines)))
    return 0


def _told(facts: dict[str, Any]) -> list[str]:
    return [f"  {line}" for line in listed({name: _written(value) for name, value in facts.items()})]


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_written(each)}" for name, each in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _line(row: dict[str, Any]) -> str:
    near = ", ".join(f"{other['id']} {other['edge']:.2f}" for other in row["neighbours"])
    said = f"{row['prediction']} {100 * row['confidence']:.0f} %  " if "prediction" in row else ""
    return f"  {row['id']}: {said}near {near}"
