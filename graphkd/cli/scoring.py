"""Scores of students and teachers as JSON-ready data and as text."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from graphkd.cli import images, networks, opened
from graphkd.cli.commands.distill import Distill
from graphkd.cli.commands.evaluate import Evaluate
from graphkd.cli.console import Console
from graphkd.cli.teacher_features import TeacherFeatures
from graphkd.data.class_names import Classes
from graphkd.data.opening import Parts
from graphkd.data.views import Batch, Views
from graphkd.features import Features
from graphkd.pictures.facts import per_class as per_class
from graphkd.teachers.base import Teacher
from graphkd.teachers.clip import CLIPTeacher
from graphkd.text import shown
from graphkd.training.metrics import Counts, Scores, evaluate

ZERO_SHOT, WEIGHTED = "teacher, zero-shot (mean texts)", "teacher, weighted prompt logits"


def scores_of(config: Evaluate, console: Console) -> tuple[list[str] | None, dict[str, Scores]]:
    """Names of the classes, and the scores of the student or teacher that ``graphkd evaluate`` is asked about."""
    running, data = config.running, images.image_data(config.images, console)
    if config.model is None:
        device = networks.device_of(running.device)
        source = data.open("test", networks.run_classes(config.teaching))
        teacher = opened.open_teaching(config.teaching, source.classes, device)
        view = networks.teacher_view(teacher, config.teaching.teacher_size)
        batches = images.labelled_batches(source, view, running, console)
        found = teacher_scores(teacher, batches, lambda batch: teacher(batch.student.to(device)), device)
        return Classes(source.classes or ()).distinct or None, found
    student = opened.open_classifier(config.model, config.model_from, running.device)
    source = data.open("test", student.classes)
    batches = images.labelled_batches(source, student.view, running, console)
    return student.names, {str(config.model): evaluate(student.model, batches, student.device)}


@torch.no_grad()
def teacher_scores(
    teacher: Teacher, loader: Iterable[Batch], features: Callable[[Batch], Features], device: torch.device
) -> dict[str, Scores]:
    """Scores by name; a CLIP-like teacher has two, by averaged texts and by weighted prompts, from one pass.

    Args:
        loader: labelled batches.
        features: the teacher's, live or stored, of a batch.
        device: where the teacher is.
    """
    counts: dict[str, Counts] = {}
    for batch in loader:
        given = features(batch).to(device)
        weighted = given.tensor("logits", "scoring")
        logits = {"teacher": weighted}
        if isinstance(teacher, CLIPTeacher):
            logits = {ZERO_SHOT: teacher.zero_shot(given.tensor("embedding", "scoring")), WEIGHTED: weighted}
        assert batch.target is not None
        for name, each in logits.items():
            counts.setdefault(name, Counts(each.shape[1], device)).update(each, batch.target)
    return {name: each.scores() for name, each in counts.items()}


def score_before(
    config: Distill,
    parts: Parts,
    teacher: Teacher | None,
    features: TeacherFeatures,
    device: torch.device,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """The teacher on the scored images, told before anything is trained."""
    if teacher is None or teacher.num_classes is None or parts.scored is None or features.scored is None:
        return {}  # nobody knows the classes, or there are no images to score on
    views = Views(parts.scored, student=networks.teacher_view(teacher, config.teaching.teacher_size), labels=True)
    loader = views.loader(256, shuffle=False, drop_last=False, workers=config.train.workers)
    found = teacher_scores(teacher, loader, features.scored, device)
    for name, scores in found.items():
        console.remark(f"{name}: {100 * scores.top1:.2f} % of {scores.images} images that are only scored on")
    return {name: facts(scores) for name, scores in found.items()}


def facts(scores: Scores) -> dict[str, Any]:
    """Scores as JSON-ready data."""
    return {**scores.numbers(), "images": scores.images}


def text(name: str, found: dict[str, Any]) -> str:
    """Scores for people."""
    top5 = f"   top-5 {100 * found['top5']:.2f} %" if "top5" in found else ""
    top1, mean_class, gap = (100 * found[key] for key in ("top1", "mean_class", "calibration_error"))
    each = f"mean of classes {mean_class:.2f} %   calibration error {gap:.2f} %   {found['images']} images"
    lines = [f"{shown(name)}: top-1 {top1:.2f} %{top5}   {each}"]
    rows = [(shown(row["class"]), row) for row in found.get("per_class", [])]
    width = max((len(each) for each, _ in rows), default=0)
    for each, row in rows:
        right = "     -" if row["right"] is None else f"{100 * row['right']:6.2f}"
        mistaken = f"   taken for {shown(row['taken_for'])}" if row["taken_for"] else ""
        lines.append(f"  {each:{width}}  {right} % of {row['images']}{mistaken}")
    return "\n".join(lines)
