"""graphkd distill."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from graphkd.cli.answers import Answers, answers_of, resized, view_for
from graphkd.cli.classifiers import require_network
from graphkd.cli.config_file import write_config
from graphkd.cli.configs.train import Distill
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError
from graphkd.cli.images import image_data, require_classes, require_labels, training_view
from graphkd.cli.method import make_distiller, rehearse, require_optimizer
from graphkd.cli.networks import open_teacher, run_classes, save_student
from graphkd.cli.parse import resolved
from graphkd.cli.reporting import require_report, write_pictures
from graphkd.cli.scoring import facts, teacher_scores
from graphkd.data.class_names import Classes
from graphkd.data.fingerprint import some
from graphkd.data.opening import Parts
from graphkd.data.transforms import CenterView
from graphkd.data.views import Views
from graphkd.files import local_path, one_writer, write_json
from graphkd.models.freezing import freeze
from graphkd.models.students import create_student
from graphkd.models.tap import Tap
from graphkd.models.weights import load_weights
from graphkd.step import Step, labelled_cross_entropy
from graphkd.teachers.base import Teacher
from graphkd.training.agreement import of_method, of_source, of_teacher
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.devices import Ranks, check_trackers, make_accelerator
from graphkd.training.loop import Trainer
from graphkd.training.report import Row, write_report
from graphkd.training.run_folder import RunFolder
from graphkd.training.state import Result
from graphkd.training.watch import Watch


def run(config: Distill, console: Console) -> int:
    """Images and a teacher to a student. All that can be wrong is found before the teacher sees the images."""
    config = replace(config, run=config.run or _next_folder(config.images.data, config.resume))
    folder = RunFolder(_folder(config))
    parts = image_data(config.images, console).parts(config.val, config.held_out, run_classes(config.teaching))
    config = _fitting(config, parts, console)
    accelerator = make_accelerator(config.train, folder.path)
    ranks = Ranks(accelerator)
    device = accelerator.device
    if not accelerator.is_main_process:
        console.output = replace(console.output, quiet=True)
    teacher = _teacher(config, parts, device)
    tap, names = _student(config, parts, teacher, console)
    step = _step(config, tap, teacher, parts)
    if teacher is not None:
        rehearse(step, teacher, config, parts.train, device)

    def describe() -> None:
        write_config(folder.path / "run.yaml", "distill", resolved(config))
        save_student(folder.path, config.student.student, tap, names, config.student.size)

    with ExitStack() as held:
        ranks.first(lambda: held.enter_context(one_writer(folder.path)))
        folder.check(_identity(config, step, parts, teacher), config.resume)
        if not folder.checkpoints.updates():  # else the run that is there may yet refuse to be gone on with
            ranks.first(describe)
        again = f"graphkd distill --config {folder.path / 'run.yaml'} --resume"
        left = f"what was finished is kept in {folder.path}" + (f" and {config.store}" if config.store else "")
        console.go_on = (left, f"go on with: {again}")
        answers = None if teacher is None else answers_of(config, parts, teacher, device, console)
        before = {} if teacher is None else _score(config, parts, teacher, answers, device, console)
        trainer = _trainer(config, parts, step, teacher, answers, accelerator)
        epochs = f"{config.train.epochs} epoch{'' if config.train.epochs == 1 else 's'}"
        console.remark(f"classes: {some(list(names))}")
        console.remark(f"{config.method}: {epochs} of {len(parts.train)} images into {folder.path}")
        result = trainer.fit(resume=config.resume, begun=describe)
        if accelerator.is_main_process:
            _finish(config, result, before, console)
            write_pictures(config.report, result, trainer.accelerator.trackers, console)
    return 0


def _identity(config: Distill, step: Step, parts: Parts, teacher: Teacher | None) -> dict[str, Any]:
    """What a run that is resumed has to share with this command, as far as it is known before the teacher is asked."""
    known = {**of_method(config.train, step), **of_source(parts.train, config.labels != "no"), **of_teacher(teacher)}
    return {name: value for name, value in known.items() if name != "store"}


def _folder(config: Distill) -> Path:
    """The run folder. Raises: UsageError where it holds a run and none is to be resumed."""
    assert config.run is not None
    if Checkpoints(config.run / "checkpoints").updates() and not config.resume:
        raise UsageError(f"{config.run} holds a run already", "add --resume to go on with it, or choose another --run")
    return config.run


def _next_folder(data: str, resume: bool) -> Path:
    """The newest run on these images to resume, or a new one."""
    name = local_path(data).resolve().name
    numbered = [path for path in Path("runs").glob(f"{name}-*") if path.name.rpartition("-")[2].isdigit()]
    made = sorted(numbered, key=lambda path: int(path.name.rpartition("-")[2]))
    if resume and made:
        return made[-1]
    return Path("runs") / f"{name}-{int(made[-1].name.rpartition('-')[2]) + 1 if made else 1}"


def _fitting(config: Distill, parts: Parts, console: Console) -> Distill:
    """Options of the loop that fit the images and exist; a default batch may shrink, one asked for may not."""
    train, count = config.train, len(parts.train)
    if config.labels != "no":
        require_labels(parts.train, f"--labels {config.labels}")
    if parts.scored is not None:
        require_labels(parts.scored, "scoring")
    require_network("student", config.student.student)
    require_optimizer(train.optimizer)
    check_trackers(train.trackers)
    config = replace(config, report=require_report(config.report))
    if train.batch_size > count:
        if "batch_size" in console.given:
            raise UsageError(
                f"--batch-size {train.batch_size} is more than the {count} images to train on",
                f"give --batch-size {count} or less, or more images",
            )
        console.remark(f"batch size {train.batch_size} -> {count}: there are no more images")
        train = replace(train, batch_size=count)
    return replace(config, train=replace(train, progress=console.progress))


def _teacher(config: Distill, parts: Parts, device: torch.device) -> Teacher | None:
    if config.method == "none":
        return None
    student = config.student
    return open_teacher(config.teaching, parts.train.classes, device, student.teacher_maps, student.teacher_tokens)


def _student(config: Distill, parts: Parts, teacher: Teacher | None, console: Console) -> tuple[Tap, Classes]:
    """A student with its first weights, and its classes."""
    chosen = config.student
    given = parts.train.classes or (teacher and teacher.classes)
    names = Classes(given) if given else require_classes(parts.train)
    torch.manual_seed(config.train.seed)
    tap = create_student(
        chosen.student,
        len(names),
        pretrained=chosen.student_pretrained,
        maps=chosen.student_maps,
        tokens=chosen.student_tokens,
    )
    if chosen.init is not None and (fresh := load_weights(tap, chosen.init)):
        console.remark(f"{chosen.init} has a head of other classes: {', '.join(fresh)} start fresh")
    freeze(tap, config.train.freeze)
    return tap, names


def _step(config: Distill, tap: Tap, teacher: Teacher | None, parts: Parts) -> Step:
    task = labelled_cross_entropy if config.labels == "task" else None
    methods = [] if teacher is None else [make_distiller(config, tap, teacher, parts.train)]
    return Step(tap, *methods, task=task)


def _score(
    config: Distill, parts: Parts, teacher: Teacher, answers: Answers | None, device: torch.device, console: Console
) -> dict[str, dict[str, Any]]:
    """The teacher on the scored images, told before anything is trained."""
    if parts.scored is None or answers is None or not config.score_teacher or teacher.num_classes is None:
        return {}
    views = Views(parts.scored, student=view_for(config, teacher), labels=True)
    loader = views.loader(256, shuffle=False, drop_last=False, workers=config.train.workers)
    found = teacher_scores(teacher, loader, answers.scored, device)
    for name, scores in found.items():
        console.remark(f"{name}: {100 * scores.top1:.2f} % of {scores.images} images that are only scored on")
    return {name: facts(scores, None, per_class=False) for name, scores in found.items()}


def _trainer(
    config: Distill, parts: Parts, step: Step, teacher: Teacher | None, answers: Answers | None, accelerator: Any
) -> Trainer:
    chosen = config.student
    live = teacher is not None and config.store is None
    replay = None if answers is None else answers.replay
    own = training_view(chosen.size, chosen.augment, chosen.flip)
    views = Views(
        parts.train,
        student=own if replay is None else resized(replay, chosen.size),
        teacher=view_for(config, teacher) if teacher is not None and live else "shared",
        seed=config.train.seed,
        labels=config.labels != "no",
        replay=replay,
    )
    scored = None if parts.scored is None else Views(parts.scored, student=CenterView(chosen.size), labels=True)
    features = None if answers is None else answers.train
    assert config.run is not None
    more: dict[str, Any] = {"accelerator": accelerator, "watch": _watch(config, parts, teacher, answers)}
    more["teacher"] = answers and answers.teacher
    return Trainer(step, views, features, config.train, config.run, scored=scored, **more)


def _watch(config: Distill, parts: Parts, teacher: Teacher | None, answers: Answers | None) -> Watch | None:
    """What pictures are made of: held-out images where there are some, whose labels colour them and do no more."""
    if not config.watch:
        return None
    source = parts.train if parts.scored is None else parts.scored
    view = CenterView(config.student.size)
    seen = view if teacher is None else view_for(config, teacher)
    views = Views(source, student=view, teacher=seen, labels=parts.scored is not None)
    stored = parts.scored is None and answers is not None and answers.replay is None  # for these very views
    ask = answers and (answers.train if stored else answers.scored)
    return Watch(views, ask, config.watch)


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
