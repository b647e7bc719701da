"""What ``graphkd select`` and ``graphkd distill --select`` do: score a pool, choose, write, draw, and tell of it."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from graphkd.cli import networks, opened
from graphkd.cli.commands.select import Select
from graphkd.cli.console import Console
from graphkd.cli.option_groups import require_size
from graphkd.data.class_names import read_class_names
from graphkd.data.opening import open_unlabelled
from graphkd.data.pool import PoolScores, score_pool
from graphkd.data.selection import Selection, select
from graphkd.data.sources import ImageSource
from graphkd.data.store.format import Array
from graphkd.data.store.read import EmbeddingStore
from graphkd.deploy.chosen import require_files, require_format, write_chosen, write_folder
from graphkd.errors import DataError
from graphkd.files import one_writer

_NAMED = 5  # unreadable images that a summary names
_SHOWN = 10  # classes that a summary lists at each end


def to_files(config: Select, console: Console) -> dict[str, Any]:
    """A list, a table or a folder of what was chosen, and the picture; returns what is told."""
    out, part, folder = config.out, config.out.with_name(f"{config.out.name}.part"), config.link or config.copy
    source = None if config.pool.data is None else open_unlabelled(config.pool.data, config.pool.max_megapixels)
    if folder and source is not None:
        require_files(source)
    else:
        require_format(out)
    with one_writer(out.parent, out.name):
        scores = _scores(config, source, part, console)
        require_readable(scores, part)
        options = {name: getattr(config, name) for name in ("score", "balance", "band", "class_confidence")}
        chosen = select(scores, config.number, **options)
        if folder and source is not None:
            write_folder(out, chosen, source, copy=config.copy)
        else:
            write_chosen(out, scores, chosen, source)
        picture = draw(out.with_name(f"{out.stem}-selection.png"), scores, chosen, source)
        part.unlink(missing_ok=True)
    return {"out": str(out), **facts_of(scores, chosen), "picture": picture and str(picture)}


def _scores(config: Select, source: ImageSource | None, part: Path, console: Console) -> PoolScores:
    pool, running = config.pool, config.running

    def bar(batches: Any) -> Any:
        return console.bar(batches, len(batches), "scoring")

    if pool.store is not None:
        store = EmbeddingStore(pool.store)
        require_size("--number", config.number, len(store if source is None else source))
        return score_pool(store, source, progress=bar)
    assert source is not None
    require_size("--number", config.number, len(source))
    names: Any = read_class_names(pool.classes) if pool.classes else networks.run_classes(config.teaching)
    device = networks.device_of(running.device)
    teacher = opened.open_teaching(config.teaching, names, device)
    console.go_on = (f"what the teacher said is kept in {part}", "run the same command again: it goes on there")
    console.remark(f"{'going on with' if part.exists() else 'scoring'} {len(source)} images by {config.teaching.asked}")
    return score_pool(
        teacher,
        source,
        transform=networks.teacher_view(teacher, config.teaching.teacher_size),
        batch_size=running.batch_size,
        workers=running.workers,
        device=device,
        on_error=pool.on_error,
        part=part,
        progress=bar,
    )


def draw(path: Path, scores: PoolScores, chosen: Selection, source: ImageSource | None) -> Path | None:
    """The picture, where matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return None
    from graphkd.pictures.canvas import save_picture
    from graphkd.pictures.selection import draw_selection

    return save_picture(draw_selection(scores, chosen, source), path)


def require_readable(scores: PoolScores, part: Path) -> None:
    """Raises: DataError where no image of the pool can be read; the next call looks at them again."""
    if (scores.label < 0).all():
        part.unlink(missing_ok=True)
        raise DataError(f"none of {len(scores)} images can be read, such as {scores.ids[0]}: look at the files")


def facts_of(scores: PoolScores, chosen: Selection) -> dict[str, Any]:
    """What is told of a selection, JSON-ready."""
    left = scores.label >= 0
    left[chosen.indices] = False
    values, names = scores.values(chosen.options["score"]), chosen.class_names
    not_taken = np.bincount(scores.label[left], minlength=len(names)).tolist()
    return {
        "images": len(scores),
        "taken": len(chosen),
        "left": int(left.sum()),
        "unreadable": len(scores.unread),
        "unreadable_examples": scores.unread[:_NAMED],
        **{name: value for name, value in chosen.options.items() if name != "n"},
        "scores_taken": _range(values[chosen.indices]),
        "scores_left": _range(values[left]),
        "classes_taken": dict(zip(names, chosen.histogram, strict=True)),
        "classes_left": dict(zip(names, not_taken, strict=True)),
        "attractors": [names[label] for label in chosen.attractors],
    }


def _range(values: Array) -> list[float] | None:
    return [float(values.min()), float(values.max())] if len(values) else None


def lines_of(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    score = f"{facts['score']} {_told(facts['scores_taken'])}"
    left = f", those left {_told(facts['scores_left'])}" if facts["left"] else ""
    lines = [f"{facts['taken']} of {facts['images']} images taken: {score}{left}"]
    counts = facts["classes_taken"]
    order = sorted(counts, key=lambda name: -counts[name])
    shown = order if len(order) <= 2 * _SHOWN else [*order[:_SHOWN], *order[-_SHOWN:]]
    width = max(map(len, shown))
    lines += [f"  {name:{width}}  {counts[name]:6} taken {facts['classes_left'][name]:6} left" for name in shown]
    if len(shown) < len(order):
        lines.insert(1 + _SHOWN, f"  ... {len(order) - len(shown)} classes of {counts[order[_SHOWN]]} or fewer")
    if facts["attractors"]:
        out = ", ".join(facts["attractors"])
        lines.append(f"classes left out, of less than {facts['class_confidence']:g} confidence on average: {out}")
    if facts["unreadable"]:
        lines.append(f"cannot be read: {facts['unreadable']}, such as {', '.join(facts['unreadable_examples'])}")
    return lines


def _told(values: list[float]) -> str:
    return f"{values[0]:.3f} to {values[1]:.3f}"
