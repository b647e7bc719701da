"""graphkd distill."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from graphkd.cli.config_file import write_config
from graphkd.cli.configs.train import Distill
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError
from graphkd.cli.images import Parts, open_parts, require_classes, require_labels, training_view
from graphkd.cli.method import make_distiller
from graphkd.cli.networks import open_teacher, save_student, teacher_view
from graphkd.cli.parse import resolved
from graphkd.cli.scoring import facts, teacher_scores
from graphkd.data.batch import Batch
from graphkd.data.embed import embed
from graphkd.data.fingerprint import some
from graphkd.data.store import EmbeddingStore
from graphkd.data.transforms import CenterView
from graphkd.data.views import Views
from graphkd.features import Features
from graphkd.step import Step, labelled_cross_entropy
from graphkd.students import create_student
from graphkd.tap import Tap
from graphkd.teachers.base import Teacher
from graphkd.training.checkpoint import Checkpoints, write_json
from graphkd.training.devices import make_accelerator
from graphkd.training.loop import Trainer
from graphkd.training.report import Row, write_report
from graphkd.training.state import Result


class Teaching(NamedTuple):
    """A teacher and its features of batches of the training and of the scored images."""

    teacher: Teacher
    store: EmbeddingStore | None
    features: Callable[[Batch], Features]
    scored: Callable[[Batch], Features]


def run(config: Distill, console: Console) -> int:
    """Images and a teacher to a student."""
    config = replace(config, run=config.run or _next_folder(config.images.data, config.resume))
    folder = _folder(config)
    parts = open_parts(config.images, config.val, config.held_out, console)
    if config.labels != "no":
        require_labels(parts.train, f"--labels {config.labels}")
    config = _fitting(config, parts, console)
    accelerator = make_accelerator(config.train, folder)
    with accelerator.main_process_first():  # one process embeds, the others find the store
        teaching = None if config.method == "none" else _teaching(config, parts, accelerator.device, console)
    before = _score(config, parts, teaching, accelerator.device, console)
    trainer, tap, names = _trainer(config, parts, teaching, accelerator)
    if accelerator.is_main_process:
        write_config(folder / "run.yaml", "distill", resolved(config))
        save_student(folder, config.student.student, tap, names, config.student.size)
    again = f"graphkd distill --config {folder / 'run.yaml'} --resume"
    console.go_on = (f"checkpoints are kept in {folder}, one at the end of each epoch", f"go on with: {again}")
    console.remark(f"{config.method}: {config.train.epochs} epochs of {len(parts.train)} images into {folder}")
    result = trainer.fit(resume=config.resume)
    if accelerator.is_main_process:
        _finish(config, result, before, console)
    return 0


def _folder(config: Distill) -> Path:
    """The run folder. Raises: UsageError where it holds a run and none is to be resumed."""
    assert config.run is not None
    if Checkpoints(config.run / "checkpoints").updates() and not config.resume:
        raise UsageError(f"{config.run} holds a run already", "add --resume to go on with it, or choose another --run")
    return config.run


def _next_folder(data: str, resume: bool) -> Path:
    """The newest run on these images to resume, or a new one."""
    name = Path(data).expanduser().resolve().name
    numbered = [path for path in Path("runs").glob(f"{name}-*") if path.name.rpartition("-")[2].isdigit()]
    made = sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]))
    if resume and made:
        return made[-1]
    return Path("runs") / f"{name}-{int(made[-1].name.rpartition('-')[2]) + 1 if made else 1}"


def _fitting(config: Distill, parts: Parts, console: Console) -> Distill:
    """A default batch larger than the data becomes the data; one that was asked for is refused by the loop."""
    train, count = config.train, len(parts.train)
    if train.batch_size > count and "batch_size" not in console.given:
        console.remark(f"batch size {train.batch_size} -> {count}: there are no more images")
        train = replace(train, batch_size=count)
    return replace(config, train=replace(train, progress=console.progress))


def _teaching(config: Distill, parts: Parts, device: torch.device, console: Console) -> Teaching:
    student, classes = config.student, parts.train.classes
    teacher = open_teacher(config.teaching, classes, device, student.teacher_maps, student.teacher_tokens)
    if teacher.classes is not None and classes is not None and list(teacher.classes) != list(classes):
        theirs, ours = some(list(teacher.classes)), some(list(classes))
        raise UsageError(
            f"the teacher's classes are {theirs}, those of the images {ours}",
            "give images of the teacher's classes, or --classes with its names in its order",
        )

    def live(batch: Batch) -> Features:
        return teacher(batch.teacher.to(device))

    if config.store is None:
        return Teaching(teacher, None, live, live)
    console.go_on = (f"finished shards are kept in {config.store}", "run the same command again")
    options: dict[str, Any] = {"transform": _view(config, teacher), "device": device, "progress": console.progress}
    whole = embed(teacher, parts.whole, config.store, workers=config.train.workers, **options)
    store = whole.for_source(parts.train)
    if parts.scored is None or parts.train is parts.whole:
        return Teaching(teacher, store, lambda batch: store[batch.index], live)
    held_out = whole.for_source(parts.scored)
    return Teaching(teacher, store, lambda batch: store[batch.index], lambda batch: held_out[batch.index])


def _view(config: Distill, teacher: Teacher) -> CenterView:
    return teacher_view(teacher, config.teaching.teacher_size)


def _score(
    config: Distill, parts: Parts, teaching: Teaching | None, device: torch.device, console: Console
) -> dict[str, dict[str, Any]]:
    """The teacher on the scored images, told before anything is trained."""
    if teaching is None or parts.scored is None or not config.score_teacher or teaching.teacher.num_classes is None:
        return {}
    views = Views(parts.scored, student=_view(config, teaching.teacher), labels=True)
    loader = views.loader(256, shuffle=False, drop_last=False, workers=config.train.workers)
    found = teacher_scores(teaching.teacher, loader, teaching.scored, device)
    for name, scores in found.items():
        console.remark(f"{name}: {100 * scores.top1:.2f} % of {scores.images} images that are only scored on")
    return {name: facts(scores, None, per_class=False) for name, scores in found.items()}


def _trainer(
    config: Distill, parts: Parts, teaching: Teaching | None, accelerator: Any
) -> tuple[Trainer, Tap, Sequence[str]]:
    """The loop over a fresh student, that student, and the names of its classes."""
    chosen, seed, train = config.student, config.train.seed, config.train
    names = (teaching and teaching.teacher.classes) or require_classes(parts.train)
    torch.manual_seed(seed)
    tap = create_student(
        chosen.student,
        len(names),
        pretrained=chosen.student_pretrained,
        maps=chosen.student_maps,
        tokens=chosen.student_tokens,
    )
    task = labelled_cross_entropy if config.labels == "task" else None
    methods = [] if teaching is None else [make_distiller(config, tap, teaching.teacher, teaching.store, parts.train)]
    view = training_view(chosen.size, chosen.augment, chosen.flip)
    own_view = teaching is not None and teaching.store is None
    views = Views(
        parts.train,
        student=view,
        teacher=_view(config, teaching.teacher) if teaching is not None and own_view else "shared",
        seed=seed,
        labels=config.labels != "no",
    )
    scored = None if parts.scored is None else Views(parts.scored, student=CenterView(chosen.size), labels=True)
    features = None if teaching is None else teaching.features
    assert config.run is not None
    step = Step(tap, *methods, task=task)
    trainer = Trainer(step, views, features, train, config.run, scored=scored, accelerator=accelerator)
    return trainer, tap, names


def _finish(config: Distill, result: Result, before: dict[str, Any], console: Console) -> None:
    """Table, report and results of a run that is done."""
    rows = [Row(name, scores["top1"]) for name, scores in before.items()]
    found: dict[str, Any] = {"run": str(result.run), "method": config.method, "student": config.student.student}
    found |= {"updates": result.updates, "seconds": round(result.seconds, 2), "teacher": before}
    text = f"trained in {result.seconds:.0f} s; no labelled images to score on (--val FOLDER)"
    if result.scores is not None:
        found |= facts(result.scores, None, per_class=False)
        name = f"student, {config.method}"
        rows.append(Row.of(name, result.model, result.scores.top1, result.seconds))
        text = write_report(result.run / "report.md", rows, rows[0].name if before else None)
    write_json(result.run / "results.json", found)
    look = f"graphkd evaluate --model {result.run} --data FOLDER, or graphkd export {result.run}"
    console.result(found, text)
    console.remark(f"run folder: {result.run}; next: {look}")
