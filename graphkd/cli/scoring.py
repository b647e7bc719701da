"""Scores of students and teachers as JSON-ready data and as text."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch

from graphkd.cli import images, networks, opened
from graphkd.cli.commands.distill import Distill
from graphkd.cli.commands.evaluate import Evaluate
from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import TeacherOptions, is_backbone
from graphkd.cli.quality import facts_of as quality_facts
from graphkd.cli.quality import teaching_of_run
from graphkd.cli.teacher_features import TeacherFeatures
from graphkd.data.class_names import Classes
from graphkd.data.opening import Parts
from graphkd.data.sources import ImageSource
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.views import Batch, Views
from graphkd.features import Features
from graphkd.pictures.facts import per_class as per_class
from graphkd.teachers.base import Teacher
from graphkd.teachers.clip import CLIPTeacher
from graphkd.text import shown
from graphkd.training.embedding_quality import LEAST, EmbeddingQuality, embeddings_of
from graphkd.training.metrics import Counts, Scores, evaluate
from graphkd.training.quality import Answering, Answers, Quality, replies, unsure_warning
from graphkd.typing import Tensor

_BATCH = 256  # images that a teacher is asked about at once
ZERO_SHOT, WEIGHTED = "teacher, zero-shot (mean texts)", "teacher, weighted prompt logits"


class Found(NamedTuple):
    """What ``graphkd evaluate`` finds.

    Args:
        classes: their names.
        scores: by labels, by name of the network; empty without labels.
        quality: of a student beside its teacher, JSON-ready; ``None`` without a teacher.
    """

    classes: list[str] | None
    scores: dict[str, Scores]
    quality: dict[str, Any] | None = None


def of_teacher(config: Evaluate, console: Console) -> Found:
    """Scores of the teacher that was asked for."""
    running, device = config.running, networks.device_of(config.running.device)
    source = images.image_data(config.images, console).open("test", networks.run_classes(config.teaching))
    teacher = opened.open_teaching(config.teaching, source.classes, device)
    view = networks.teacher_view(teacher, config.teaching.teacher_size)
    batches = images.labelled_batches(source, view, running, console)
    found = teacher_scores(teacher, batches, lambda batch: teacher(batch.student.to(device)), device)
    return Found(Classes(source.classes or ()).distinct or None, found)


def of_student(config: Evaluate, console: Console) -> Found:
    """A student scored by labels where there are some, and compared with a teacher: the one asked for, else its own."""
    assert config.model is not None
    if is_backbone(config.model):
        return _of_backbone(config, console)
    running, name = config.running, str(config.model)
    student = opened.open_classifier(config.model, config.model_from, running.device)
    source = images.image_data(config.images, console).open("test", student.classes)
    teaching = _teaching(config, source)
    if teaching is None:
        batches = images.labelled_batches(source, student.view, running, console)
        return Found(student.names, {name: evaluate(student.model, batches, student.device)})
    where, names = networks.device_of(running.device), student.names
    teacher = opened.open_teaching(teaching, source.classes, where)
    same = len(names) == teacher.num_classes and Classes(teacher.classes or names).distinct == names
    require(same, f"the classes of {teaching.teacher} are not those of {name}", "give a teacher of the same classes")
    seen, labelled = networks.teacher_view(teacher, teaching.teacher_size), source.target(0) is not None
    loader = Views(source, student=student.view, teacher=seen, labels=labelled).loader(
        running.batch_size, shuffle=False, drop_last=False, workers=running.workers
    )
    asked = Answering(len(source), where)

    def both() -> Iterator[Batch]:
        for batch in console.bar(loader, len(loader), "comparing"):
            asked.add(batch.index, teacher(batch.teacher.to(where)).tensor("logits", "scoring"))
            yield batch

    scores, own = replies(student.model, both(), len(source), student.device)
    quality = quality_facts(Quality(own, asked.read()), names, source.ids)
    return Found(names, {} if scores is None else {name: scores}, quality)


def _of_backbone(config: Evaluate, console: Console) -> Found:
    """A student without classes beside a teacher: the one asked for, else its own."""
    assert config.model is not None
    require(
        opened.onnx_file(config.model) is None,
        f"{config.model} is an exported backbone, which is compared as a run",
        "give --model the run folder",
    )
    running, where = config.running, networks.device_of(config.running.device)
    source = images.image_data(config.images, console).open("test")
    needed = f"{len(source)} images are too few to compare two backbones: {LEAST} are needed"
    require(len(source) >= LEAST, needed, "give --data with more images")
    teaching = _teaching(config, source, labels_will_do=False)
    assert teaching is not None
    teacher = networks.open_teacher(teaching, None, where, headless=True)
    student, about = networks.open_student(config.model, config.model_from)
    view, seen = opened.student_view(about, config.model), networks.teacher_view(teacher, teaching.teacher_size)
    views = Views(source, student=view, teacher=seen, labels=source.target(0) is not None)
    loader = views.loader(running.batch_size, shuffle=False, drop_last=False, workers=running.workers)
    model = student.to(where)

    def both(batch: Batch) -> Features:
        ours, theirs = (each.tensor("embedding", "scoring") for each in (model(batch.student), teacher(batch.teacher)))
        return Features(torch.cat([ours, theirs], 1))

    batches = (batch.to(where) for batch in console.bar(loader, len(loader), "comparing"))
    whole, labels = embeddings_of(both, batches, len(source), where)
    ours, theirs = whole.tensor_split([student.embedding_dim], 1)
    return Found(None, {}, quality_facts(EmbeddingQuality(ours, theirs, labels), None, source.ids))


def _teaching(config: Evaluate, source: ImageSource, labels_will_do: bool = True) -> TeacherOptions | None:
    """The teacher to compare with: the one asked for, else without labels the run's; ``None`` where labels will do."""
    if config.teaching.teacher is not None:
        return config.teaching
    if labels_will_do and source.target(0) is not None:
        return None
    assert config.model is not None
    own = teaching_of_run(config.model)
    require(
        own is not None,
        f"{'these images have no labels' if labels_will_do else 'labels alone do not score a backbone'}, and nothing "
        f"tells who taught {config.model}",
        "give --teacher (and --pretrained) to compare it with"
        + (", or a folder with one folder a class" if labels_will_do else ""),
    )
    return own


@torch.no_grad()
def teacher_scores(
    teacher: Teacher | EmbeddingStore,
    loader: Iterable[Batch],
    features: Callable[[Batch], Features],
    device: torch.device,
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


@torch.no_grad()
def ask_before(
    config: Distill,
    parts: Parts,
    teacher: Teacher | EmbeddingStore | None,
    features: TeacherFeatures,
    device: torch.device,
    console: Console,
) -> tuple[dict[str, dict[str, Any]], Answers | Tensor | None]:
    """The teacher asked once about the scored images, before anything is trained: its scores by labels, its answers.

    Of a backbone these are its embeddings.
    """
    source, give = parts.scored, features.scored
    if teacher is None or source is None or give is None:
        return {}, None
    if config.student.student_head == "none":
        return {}, _embeddings(config, source, teacher, features, device, console)
    labelled = source.target(0) is not None
    if teacher.num_classes is None and not labelled:
        console.remark(f"{len(source)} held-out images: a teacher without class scores cannot be compared on them")
    if teacher.num_classes is None or (labelled and not config.score_teacher):
        return {}, None
    asked = Answering(len(source), device)

    def answer(batch: Batch) -> Features:
        given = give(batch).to(device)
        asked.add(batch.index, given.tensor("logits", "scoring"))
        return given

    batches: Iterable[Batch] = _positions(source, labelled)
    if isinstance(teacher, Teacher) and not features.stored:
        views = Views(source, student=networks.teacher_view(teacher, config.teaching.teacher_size), labels=labelled)
        batches = views.loader(_BATCH, shuffle=False, drop_last=False, workers=config.train.workers)
    found = {}
    if labelled:
        found = teacher_scores(teacher, batches, answer, device)
    else:
        for batch in batches:
            answer(batch)
    for name, scores in found.items():
        console.remark(f"{name}: {100 * scores.top1:.2f} % of {scores.images} images that are only scored on")
    answers = asked.read()
    confidence = float(answers.confidence.mean())
    sure = f"confidence {100 * confidence:.1f} %"
    in_effect = f"{answers.effective_classes:.1f} of {answers.classes} classes in effect"
    console.remark(f"teacher: {sure}, {in_effect}, on {len(answers)} held-out images")
    if unsure := unsure_warning(confidence, answers.classes):
        console.remark(unsure)
    return {name: facts(scores) for name, scores in found.items()}, answers


def _embeddings(
    config: Distill,
    source: ImageSource,
    teacher: Teacher | EmbeddingStore,
    features: TeacherFeatures,
    device: torch.device,
    console: Console,
) -> Tensor | None:
    """The teacher's embeddings of the scored images; ``None`` of too few to compare."""
    assert features.scored is not None
    if len(source) < LEAST:
        console.remark(f"{len(source)} held-out images are too few to compare with the teacher: {LEAST} are needed")
        return None
    batches: Iterable[Batch] = _positions(source, False)
    if isinstance(teacher, Teacher) and not features.stored:
        views = Views(source, student=networks.teacher_view(teacher, config.teaching.teacher_size))
        batches = views.loader(_BATCH, shuffle=False, drop_last=False, workers=config.train.workers)
    return embeddings_of(features.scored, batches, len(source), device)[0]


def _positions(source: ImageSource, labelled: bool) -> Iterator[Batch]:
    """Batches without pixels, of which a store is asked by position."""
    for start in range(0, len(source), _BATCH):
        index = torch.arange(start, min(start + _BATCH, len(source)))
        blank = torch.empty(len(index), 3, 0, 0)
        target = torch.tensor([source.target(at) for at in index.tolist()]) if labelled else None
        yield Batch(blank, blank, index, target)


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
