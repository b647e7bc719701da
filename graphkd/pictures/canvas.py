"""Shared by all pictures: a canvas without a display, colours for colour-blind readers, safe names, saving."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import torch

from graphkd.errors import NonFiniteError, OptionError, ShapeError
from graphkd.files import local_path, write_file
from graphkd.text import shown
from graphkd.typing import Int, Tensor

P = ParamSpec("P")
T = TypeVar("T")

NAMED: Final = 40  # classes up to which each one is named beside a matrix
NEUTRAL: Final = "#9a9a9a"
STUDENT: Final = "#d55e00"
TEACHER: Final = "#0072b2"
# Okabe and Ito's colours without black and yellow, which drown in axes and in white paper, then four of Paul Tol's
COLOURS: Final = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#882255", "#999933", "#332288", "#888888",
)  # fmt: skip
# after Paul Tol's muted scheme, for classes, of which there are more
CLASS_COLOURS: Final = (
    "#332288", "#cc6677", "#117733", "#88ccee", "#882255", "#999933", "#aa4499", "#44aa99", "#ddaa33", "#555555",
)  # fmt: skip
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
FORMATS: Final = ("png", "svg")
_STYLE: Final = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "graphkd",  # the same picture is the same file
    "svg.fonttype": "path",
}
_LONGEST = 24  # characters of a name that is drawn
_FULL_SIZE = 16  # names beside a matrix up to which they are of full size


def drawn(draw: Callable[P, T]) -> Callable[P, T]:
    """Let a function draw in our style, whatever the user's own settings are."""

    @wraps(draw)
    def inside(*args: P.args, **options: P.kwargs) -> T:
        import matplotlib

        style: Any = {**matplotlib.rcParamsDefault, **_STYLE, "backend": matplotlib.rcParams["backend"]}
        with matplotlib.rc_context(style):
            return draw(*args, **options)

    return inside


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Any, list[Any]]:
    """A figure of that many inches, and its axes row by row; no global state of pyplot, no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def save_picture(figure: Any, path: Path | str) -> Path:
    """Write a figure as PNG or SVG, by the suffix; folders are made, the file is there whole or not at all.

    Raises: OptionError for another suffix.
    """
    path = local_path(path)
    kind = path.suffix[1:].lower()
    if kind not in FORMATS:
        raise OptionError(f"pictures are png or svg, found {path.name!r}: end the name in .png or .svg")
    write_file(path, picture_bytes(figure, kind))
    return path


@drawn
def picture_bytes(figure: Any, kind: str = "png") -> bytes:
    """A figure as a file of that kind."""
    drawing = BytesIO()
    figure.savefig(drawing, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return drawing.getvalue()


def label(text: object, longest: int = _LONGEST) -> str:
    """A name as it can be drawn: on one line, not too long, and never read as a formula."""
    plain = shown(" ".join(str(text).split()))
    tail = longest // 3  # long names often differ at their end
    plain = plain if len(plain) <= longest else f"{plain[: longest - 1 - tail].rstrip()}…{plain[-tail:].lstrip()}"
    return plain.replace("$", r"\$")


def finite(name: str, values: Tensor) -> Tensor:
    """Values on the host in float32. Raises: NonFiniteError, for a picture would hide what is NaN or infinite."""
    values = values.detach().float().cpu()
    broken = int((~values.isfinite()).sum())
    if broken:
        raise NonFiniteError(f"{broken} of {values.numel()} values of the {name} are NaN or infinite: nothing to draw")
    return values


def known_labels(labels: Int[Tensor, " n"] | None, count: int, classes: Sequence[str] | None) -> Int[Tensor, " n"]:
    """Labels on the host, all 0 where there are none.

    Raises: ShapeError for labels of other samples, or outside the classes.
    """
    if labels is None:
        return torch.zeros(count, dtype=torch.long)
    labels = labels.cpu().long()
    if labels.shape != (count,):
        raise ShapeError(f"expected a label for each of {count} samples, found {tuple(labels.shape)}")
    if classes is not None and count and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise ShapeError(f"labels {int(labels.min())} to {int(labels.max())} do not fit {len(classes)} class names")
    return labels


def name_of(classes: Sequence[str] | None, number: int) -> str:
    """Of a class, as it is drawn."""
    return label(number if classes is None else classes[number])


def name_size(names: Sequence[str]) -> float:
    """Size of the letters of that many names beside a matrix."""
    return 9 if len(names) <= _FULL_SIZE else 6.5


def name_columns(axis: Any, at: Sequence[float], names: Sequence[str]) -> None:
    """Names below the columns of a matrix, slanted where they are long."""
    slant = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names), default=0) > 2 else {}
    axis.set_xticks(at, names, fontsize=name_size(names), **slant)


def styles(labels: Int[Tensor, " n"], most: int = len(CLASS_COLOURS) * 2) -> dict[int, tuple[str, str]]:
    """Colour and marker of each class that occurs, no two alike; of very many, only the commonest have their own."""
    common = [number for number, _ in Counter(labels.tolist()).most_common(most)]
    return {
        number: (CLASS_COLOURS[place % len(CLASS_COLOURS)], MARKERS[place % len(MARKERS)])  # 10 and 7: all differ
        for place, number in enumerate(sorted(common))
    }
