"""The report of a run as one HTML file without script: it needs no network and no other file."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import graphkd
from graphkd.files import local_path, write_file
from graphkd.pictures.canvas import picture_bytes
from graphkd.pictures.facts import Facts, per_class
from graphkd.pictures.gallery import Section, gallery
from graphkd.text import shown
from graphkd.training.watch import Watched

REPORT = "report.html"
_PAGE = Path(__file__).parent / "page"
_LONGEST = 400  # characters of a value that are shown
_NUMBERS = {
    "top1": "top-1 (%)",
    "top5": "top-5 (%)",
    "mean_class": "mean of classes (%)",
    "calibration_error": "calibration error (%)",
}


def write_html_report(
    run: Path | str, path: Path | str | None = None, *, sections: Sequence[Section] | None = None
) -> Path:
    """Write the report of a run, finished or interrupted, from its folder alone.

    The file is self-contained: pictures are inlined, no request leaves it, it has no script, and its policy lets a
    browser run none. Names are escaped. Its size is bounded: one or two pictures a section, thumbnails of at most 40
    images, one row a class.

    Args:
        run: the folder.
        path: of the report; default ``report.html`` in the run folder.
        sections: the run's :func:`~graphkd.pictures.gallery.gallery`, where it was drawn already.

    Returns: the path.
    Raises: CheckpointError for damaged files, or where the report cannot be written.
    Example: ``write_html_report("runs/photos-1")``
    """
    run = local_path(run)
    path = run / REPORT if path is None else local_path(path)
    sections = gallery(run) if sections is None else sections
    facts, watched = Facts.read(run), Watched.read(run)
    page = render(
        "report.html",
        title=f"{facts.options.get('method', 'run')}: {run.resolve().name}",
        summary=[*_summary(facts, watched), *_embeddings(facts)],
        scores=_scores(facts),
        quality=_quality(facts),
        options=_pairs(facts.options),
        machine=_machine(facts.environment),
        sections=sections,
        classes=_classes(facts, watched),
    )
    write_file(path, page)
    return path


def render(template: str, **values: Any) -> str:
    """A self-contained page of that template, whose policy lets a browser run no script; names are escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_PAGE), autoescape=True, undefined=StrictUndefined, finalize=_safe
    )
    environment.filters["inlined"] = lambda figure: b64encode(picture_bytes(figure)).decode()
    style = (_PAGE / "report.css").read_text(encoding="utf-8")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = environment.get_template(template)
    return page.render(version=graphkd.__version__, style=style, policy=policy, **values)


def _safe(value: Any) -> Any:
    """A value of the page without characters that hide or reverse the text around them."""
    return shown(value) if type(value) is str else value  # the style is marked as the page's own


def _summary(facts: Facts, watched: Watched | None) -> list[tuple[str, str]]:
    options, last = facts.options, facts.lines[-1] if facts.lines else {}
    seconds = facts.scores.get("seconds", facts.quality.get("seconds"))
    teacher = " ".join(_shown(options[name]) for name in ("teacher", "pretrained") if options.get(name))
    rows: dict[str, Any] = {
        "method": options.get("method"),
        "student": options.get("student"),
        "teacher": teacher,
        "images": options.get("data"),
        "epochs": f"{facts.epochs:g} of {options['epochs']}" if "epochs" in options else f"{facts.epochs:g}",
        "updates": last.get("update"),
        "seconds of training": None if seconds is None else f"{seconds:.1f}",
        "scored images": facts.scores.get("images"),
        "watched images": len(watched.ids) if watched else None,
        "run folder": str(facts.run),
    }
    return [(name, _shown(value)) for name, value in rows.items() if value not in (None, "")]


def _scores(facts: Facts) -> list[dict[str, Any]]:
    """Student and teacher, a row each."""
    networks: dict[str, Mapping[str, Any]] = {**facts.teacher, "student": facts.scores}
    rows = []
    for name, scores in networks.items():
        cells = [_percent(scores.get(key)) for key in _NUMBERS] if isinstance(scores, Mapping) else []
        if any(cell != "-" for cell in cells):
            rows.append({"name": name, "cells": cells})
    return [{"name": "network", "cells": list(_NUMBERS.values())}, *rows] if rows else []


def _quality(facts: Facts) -> list[tuple[str, str]]:
    """The comparison with the teacher in a few rows."""
    if not facts.quality:
        return []
    found = facts.quality

    def both(name: str, scale: float, digits: int) -> str:
        ours, theirs = (scale * found[f"{side}_{name}"] for side in ("student", "teacher"))
        return f"{ours:.{digits}f} (teacher {theirs:.{digits}f})"

    return [
        ("agreement with the teacher (%)", _percent(found["agreement"])),
        ("calibration error to the teacher (%)", _percent(found["calibration_to_teacher"])),
        ("mean confidence (%)", both("confidence", 100, 1)),
        ("mean entropy of the class probabilities (nats)", both("entropy", 1, 2)),
        (f"classes in effect, of {found['classes']:g}", both("classes", 1, 1)),
        ("images, never trained on", f"{found['images']:g}"),
    ]


def _embeddings(facts: Facts) -> list[tuple[str, str]]:
    """The comparison of a backbone with its teacher, where the run is of one."""
    found: Mapping[str, Any] = next((line for line in reversed(facts.lines) if "cosine" in line), {})
    rows = [("nearest neighbours in common with the teacher (%)", _percent(found.get("agreement")))] if found else []
    rows += [("cosine to the teacher's embedding, linearly", f"{found['cosine']:.3f}")] if found else []
    for name, what in (("knn", "k-nearest-neighbour accuracy (%)"), ("linear_probe", "linear probe (%)")):
        if name in found:
            rows.append((what, f"{_percent(found[name])} (teacher {_percent(found.get(f'teacher_{name}'))})"))
    return rows


def _classes(facts: Facts, watched: Watched | None) -> list[dict[str, Any]]:
    """A row each, those that are most often mistaken first."""
    if facts.confusion is None:
        return []
    rows = per_class(facts.confusion, facts.classes or (watched.classes if watched else None))
    return sorted(rows, key=lambda row: 2.0 if row["right"] is None else row["right"])


def _percent(value: Any) -> str:
    return f"{100 * value:.2f}" if isinstance(value, int | float) else "-"


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name), _shown(value)) for name, value in values.items()]


def _machine(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    versions = environment.get("versions")
    flat = {name: value for name, value in environment.items() if name != "versions"}
    return _pairs({**flat, **(versions if isinstance(versions, Mapping) else {})})


def _shown(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
