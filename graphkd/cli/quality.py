"""Quality without labels as JSON-ready data and as text."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from graphkd.cli.config_file import read_config
from graphkd.cli.option_groups import TeacherOptions
from graphkd.pictures.facts import class_agreement
from graphkd.text import shown
from graphkd.training.embedding_quality import NEIGHBOURS, EmbeddingQuality
from graphkd.training.quality import AnyQuality, unsure_warning
from graphkd.training.run_folder import BEST, read_metrics

_LISTED = 10  # images that are listed by name
_TOLD = 3  # classes that are told in text


def facts_of(quality: AnyQuality, classes: Sequence[str] | None, ids: Sequence[str]) -> dict[str, Any]:
    """A comparison as JSON-ready data.

    Args:
        classes: names.
        ids: of the images.
    """
    if isinstance(quality, EmbeddingQuality):
        return {**quality.numbers(), "images": quality.images}
    names = classes if classes and len(classes) == quality.teacher.classes else None

    def rows(positions: list[int]) -> list[dict[str, Any]]:
        found = []
        for at in positions:
            row: dict[str, Any] = {"id": ids[at]}
            for side, each in (("student", quality.student), ("teacher", quality.teacher)):
                guess = int(each.guess[at])
                row |= {side: names[guess] if names else str(guess), f"{side}_confidence": float(each.confidence[at])}
            found.append(row)
        return found

    return {
        **quality.numbers(),
        "images": quality.images,
        "collapsed": quality.collapsed,
        "warning": quality.warning if quality.collapsed else None,
        "teacher_warning": unsure_warning(quality.numbers()["teacher_confidence"], quality.teacher.classes),
        "per_class": class_agreement(quality.pairs, quality.teacher.classes, names),
        "disagreed": rows(quality.disagreed(_LISTED)),
        "least_certain": rows(quality.least_certain(_LISTED)),
    }


def lines_of(found: dict[str, Any]) -> list[str]:
    """The same for people, a line each."""
    if "cosine" in found:
        return _lines_of_embeddings(found)
    gap, count = f"calibration error to it {100 * found['calibration_to_teacher']:.2f} %", found["images"]
    sure = f"confidence {100 * found['student_confidence']:.1f} % (teacher {100 * found['teacher_confidence']:.1f} %)"
    spread = f"entropy {found['student_entropy']:.2f} (teacher {found['teacher_entropy']:.2f}) nats"
    in_effect = f"classes in effect {found['student_classes']:.1f} (teacher {found['teacher_classes']:.1f})"
    lines = [f"agreement with the teacher {100 * found['agreement']:.2f} % of {count} images   {gap}"]
    lines += [f"{sure}   {spread}   {in_effect} of {len(found['per_class'])}"]
    mistaken = [row for row in found["per_class"] if row["taken_for"]]
    told = [
        f"{shown(row['class'])} {100 * row['agreement']:.0f} % of {row['teacher']}, taken for {shown(row['taken_for'])}"
        for row in sorted(mistaken, key=lambda row: (row["agreement"], -row["teacher"]))[:_TOLD]
    ]
    lines += [f"least agreement: {'; '.join(told)}"] if told else []
    lines += [found[name] for name in ("warning", "teacher_warning") if found[name]]
    best = found.get("best")
    if best is not None and best["agreement"] > found["agreement"]:
        after = f"the student after epoch {best['epoch']:g} agreed more"
        lines.append(f"{after}, {100 * best['agreement']:.2f} %: {best['run']}")
    return lines


def _lines_of_embeddings(found: dict[str, Any]) -> list[str]:
    same = f"{100 * found['agreement']:.2f} % of the {NEIGHBOURS} nearest neighbours in common with the teacher"
    lines = [f"{same}   cosine to its embedding {found['cosine']:.3f}   {found['images']} images"]
    for name, what in (("knn", "k-nearest-neighbour accuracy"), ("linear_probe", "linear probe")):
        if name in found:
            lines.append(f"{what} {100 * found[name]:.2f} % (teacher {100 * found[f'teacher_{name}']:.2f} %)")
    return lines


def teaching_of_run(model: Path) -> TeacherOptions | None:
    """The teacher of a run, as its ``run.yaml`` tells; ``None`` where none does.

    Args:
        model: the run folder, its ``best/``, or a model that was exported from it.
    """
    for folder in (model, *model.resolve().parents[:2]):
        if (folder / "run.yaml").is_file():
            found = read_config(folder / "run.yaml")
            options = {each.name: found[each.name] for each in fields(TeacherOptions) if each.name in found}
            options["text_cache"] = Path(options["text_cache"]) if options.get("text_cache") else None
            if options.get("teacher"):  # an export has a run.yaml too, which tells of none
                return TeacherOptions(**options)
    return None


def best_of(run: Path) -> dict[str, Any] | None:
    """The best student that a run kept, ``None`` for none."""
    scored = [line for line in read_metrics(run / "metrics.jsonl") if "agreement" in line]
    if not scored or not (run / BEST).is_dir():
        return None
    best = max(scored, key=lambda line: float(line["agreement"]))
    return {"run": str(run / BEST), "epoch": best["epoch"], "agreement": best["agreement"]}
