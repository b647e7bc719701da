"""graphkd distill: a student trained on what a teacher says of images."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.types import Directory, ExistingDirectory, ExistingPath, NonNegativeInt, PositiveFloat
from cyclopts.validators import Number

from graphkd.cli.catalogue import methods, require_options
from graphkd.cli.commands import report
from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import STUDENT, Command, Images, TeacherOptions, require_count, require_run
from graphkd.files import local_path
from graphkd.models.installed import optimizers, require_network, trackers
from graphkd.registry import unknown
from graphkd.training.config import METHOD, TrainConfig

if TYPE_CHECKING:
    from graphkd.data.opening import Parts
    from graphkd.data.sources import ImageSource
    from graphkd.training.state import Result

_UPDATES, _LEAST_BATCH = 8, 32  # of an epoch, and images of a batch, that a default batch is made smaller for
_Share = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]
_TRAINING = Parameter(name="*", group=Group("training", sort_key=4))
_MAPPING = Parameter(metavar="OPTION=VALUE", accepts_keys=False, n_tokens=-1, consume_multiple=False)


@Parameter(name="*", group=Group("student", sort_key=3))
@dataclass(frozen=True, kw_only=True)
class Student:
    """Which network is trained, from what weights, on what views of the images.

    Args:
        student: any timm classifier by name; torchvision/NAME for torchvision's; hf:NAME or hf:FOLDER for one of
            transformers.
        student_head: classes gives it a classifier of the images' classes; none leaves a backbone whose output is an
            embedding: for methods that compare embeddings, and images without class names.
        student_pretrained: start from the library's weights, which are downloaded.
        init: start from the weights in this file (safetensors, or a torch state dict), or from what the run of this
            folder trained, its method's own parameters too; each must fit but a head of other classes, which stays
            fresh.
        size: side of its images, pixels.
        augment: auto crops at random with a border up to 64 pixels, and resizes random crops above; none shows the
            centre only.
        flip: show half of the images mirrored; not for digits and letters.
        student_maps: module paths of feature maps, for methods that compare maps (at, crg, fitnet, ...).
        teacher_maps: those of the teacher.
        student_tokens: module paths of token sequences, for methods that compare tokens (trg).
        teacher_tokens: those of the teacher.
    """

    student: str = "resnet18"
    student_head: Literal["classes", "none"] = "classes"
    student_pretrained: bool = False
    init: ExistingPath | None = None
    size: Annotated[int, Parameter(validator=Number(gt=0, lte=8192))] = 224
    augment: Literal["auto", "crop", "resized", "none"] = "auto"
    flip: bool = True
    student_maps: tuple[str, ...] = ()
    teacher_maps: tuple[str, ...] = ()
    student_tokens: tuple[str, ...] = ()
    teacher_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        both = self.init is not None and self.student_pretrained
        require(not both, "--init and --student-pretrained both name first weights", "give one of them")
        if self.init is not None and self.init.is_dir():
            require_run(self.init, STUDENT)
        require(
            self.student_head == "classes" or not self.student.startswith("hf:"),
            f"--student-head none: {self.student} without a classifier cannot be built again by its name",
            "give a network of timm or torchvision/NAME",
        )
        if not self.student.startswith("hf:"):
            require_network("student", self.student)


@dataclass(frozen=True, kw_only=True)
class Distill(Command):
    """Train a student on what a teacher says of your images.

    Labels are not used unless --labels asks for them. A part of the images is held out: on it the student is compared
    with its teacher, and scored where the images have labels.
    The run folder gets run.yaml (all options, resolved), metrics, checkpoints and report.md. A run that was interrupted
    goes on with --resume, bit for bit on one device.

    Args:
        method: graphkd methods explains each; combined is KD + mimicking + pseudo-labels, the best without labels in our
            evidence, or the parts that --set names; none trains on labels alone.
        set: an option of the method, such as temperature=2; repeat for more. graphkd methods NAME explains them.
        labels: no: never read. method: handed to a method that needs them (dkd). task: also learnt from, by
            cross-entropy.
        val: folder of images to score on; default: val/ in --data, else the part that is held out.
        held_out: share of the images that is kept for scoring where there is no other folder, 0 for none; default: a
            fifth, and without labels at most 2000 images.
        select: train on so many of the images (below 1 a share), those that graphkd select would choose by this
            teacher; what is held out is held out before.
        store: keep the teacher's features of --data here, or take those that graphkd embed kept or graphkd store import
            made, with or without the --teacher; of a store of random views the student sees the same crops.
        score_teacher: score the teacher on the same images before training.
        watch: images whose embeddings are kept at up to 11 epochs, for pictures; 0 for none.
        report: write report.html at the end; default where pip install 'graphkd[report]' was.
        run: run folder; default runs/NAME-NUMBER.
        resume: go on where the run stopped.
        dry_run: make a few updates, tell what the run would read, hold and take, and leave nothing on the disk.

    Example::

        # a CLIP teacher, no labels, a ResNet-18 student
        graphkd distill --data photos --teacher ViT-B-32 --pretrained openai --student resnet18 --epochs 100

        # another method with an option of its own, and a classifier as teacher
        graphkd distill --data photos --method rkd --set angle_weight=0.5 --labels task --teacher timm:resnet50 --pretrained default

        # a backbone that arranges images as CLIP does; no label, no class name
        graphkd distill --data photos --method rkd --student-head none --teacher ViT-B-32 --pretrained openai

        # the same again from the file of an earlier run, one thing changed; and a run that was interrupted
        graphkd distill --config runs/photos-1/run.yaml --lr 3e-4 --run runs/photos-slow
        graphkd distill --config runs/photos-1/run.yaml --resume

        # a run that is done, trained longer: a new one from its weights
        graphkd distill --config runs/photos-1/run.yaml --init runs/photos-1 --epochs 50 --lr 3e-4 --run runs/photos-longer
    """  # noqa: E501

    images: Images
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    student: Student = field(default_factory=Student)
    train: Annotated[TrainConfig, _TRAINING] = field(default_factory=TrainConfig)
    method: Annotated[str, Parameter(choices=(*methods(), "none"))] = METHOD
    set: Annotated[dict[str, Any], _MAPPING] = field(default_factory=dict)
    labels: Literal["no", "method", "task"] = "no"
    val: ExistingDirectory | None = None
    held_out: _Share | None = None
    select: PositiveFloat | None = None
    store: Directory | None = None
    score_teacher: bool = True
    watch: NonNegativeInt = 200
    report: bool | None = None
    run: Directory | None = None
    resume: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        require(
            self.method != "none" or self.labels == "task",
            "--method none leaves nothing to learn from",
            "add --labels task, or choose a --method",
        )
        require(
            self.student.student_head == "classes" or self.labels != "task",
            "--labels task trains a classifier, and --student-head none leaves none",
            "leave one of the two out",
        )
        if self.method != "none":
            if self.store is None or not (self.store / "manifest.json").is_file():
                _ = self.teaching.asked
            require_options(self.method, self.set)
        known = {"optimizer": optimizers(), "tracker": trackers()}
        for kind, name in (("optimizer", self.train.optimizer), *(("tracker", each) for each in self.train.trackers)):
            if known[kind] and name not in known[kind]:
                raise unknown(kind, name, list(known[kind]))
        if self.select is not None:
            require_count("--select", self.select)
            what = "--select asks a teacher which images to train on, and --method none has none"
            require(self.method != "none", what, "leave --select out, or choose a --method")
        keeps = self.store is None or not (self.student.teacher_maps or self.student.teacher_tokens)
        require(keeps, "a store keeps no maps and no tokens", "leave --store out for a method that needs them")


def run(config: Distill, *, console: Console) -> int:
    """Images and a teacher to a student. All that can be wrong is found before the teacher sees the images."""
    from graphkd.cli import first_look

    path = config.run or next_folder(config.images.data, config.resume)
    parts = first_look.parts_of(config, path, console)
    from graphkd.cli import config_file, method, scoring, select_for_run, teacher_features
    from graphkd.data.fingerprint import some
    from graphkd.files import one_writer
    from graphkd.training.devices import Ranks, make_accelerator
    from graphkd.training.run_folder import RunFolder, describe_student

    folder, pool = RunFolder(path), parts.train
    parts = select_for_run.stand_in(config, parts)
    config = _fitting(replace(config, run=path), parts, console)
    if config.dry_run:
        from graphkd.cli.dry_run import dry_run

        return dry_run(config, path, parts, console)
    accelerator = make_accelerator(config.train, path)
    ranks, device = Ranks(accelerator), accelerator.device
    if not accelerator.is_main_process:
        console.output = replace(console.output, quiet=True)
    teacher, names, step = method.prepare_step(config, parts.train, device, console)

    def describe() -> None:
        config_file.save(path, "distill", config)
        folder.write_student(describe_student(step.student, names, config.student.size))

    with first_look.no_litter(path), ExitStack() as held:
        ranks.first(lambda: held.enter_context(one_writer(path)))
        chosen = select_for_run.kept(config, pool, teacher)
        parts = parts if chosen is None else parts._replace(train=chosen.images(pool))
        folder.check(method.identity(config, step, parts.train, teacher), config.resume)
        if not folder.checkpoints.updates():  # else the run that is there may yet refuse to be gone on with
            ranks.first(describe)
        left = f"what was finished is kept in {path}" + (f" and {config.store}" if config.store else "")
        console.go_on = (left, f"go on with: graphkd distill --config {path / 'run.yaml'} --resume")
        if chosen is None and config.select is not None:
            chosen = select_for_run.choose(config, parts, pool, teacher, device, ranks, console)
            parts = parts._replace(train=chosen.images(pool))
        features = teacher_features.features_of(config, parts, teacher, device, console)
        before, answers = scoring.ask_before(config, parts, teacher, features, device, console)
        trainer = teacher_features.make_trainer(config, parts, step, teacher, features, answers, accelerator)
        epochs = f"{config.train.epochs} epoch{'' if config.train.epochs == 1 else 's'}"
        console.remark(f"classes: {some(list(names))}" if names else "no classes: the student is a backbone")
        taught = method.name_of(step)
        console.remark(f"{taught}: {epochs} of {len(parts.train)} images into {path}")
        result = trainer.fit(resume=config.resume, begun=describe)
        if accelerator.is_main_process:
            selected = None if chosen is None else select_for_run.facts_of(chosen, len(pool))
            _finish(config, result, taught, before, names, parts.scored, selected, console)
            if config.report:
                from graphkd.pictures.html import write_html_report

                console.remark(f"report: {write_html_report(result.run)}")
    return 0


def next_folder(data: str, resume: bool) -> Path:
    """The newest run on these images to resume, or a new one."""
    path = local_path(data).resolve()
    name = path.stem if path.is_file() else path.name
    numbers = [path.name.rpartition("-")[2] for path in Path("runs").glob(f"{name}-*")]
    newest = max((int(number) for number in numbers if number.isdigit()), default=0)
    return Path("runs") / f"{name}-{newest if resume and newest else newest + 1}"


def _fitting(config: Distill, parts: "Parts", console: Console) -> Distill:
    """Options of the loop that fit the images and exist; a default batch shrinks, so that an epoch has some updates."""
    from graphkd.cli import images
    from graphkd.models.huggingface import hf_config
    from graphkd.training.devices import check_trackers

    train, count = config.train, len(parts.train)
    if config.labels != "no":
        images.require_labels(parts.train, f"--labels {config.labels}")
    if config.student.student.startswith("hf:"):
        hf_config(config.student.student)
    check_trackers(train.trackers)
    if "batch_size" in console.given:
        require(
            train.batch_size <= count,
            f"--batch-size {train.batch_size} is more than the {count} images to train on",
            f"give --batch-size {count} or less, or more images",
        )
    elif train.batch_size > (size := min(count, max(_LEAST_BATCH, count // _UPDATES))):
        console.remark(f"batch size {train.batch_size} -> {size}: there are {count} images to train on")
        train = replace(train, batch_size=size)
    return replace(
        config,
        report=report.require_report(config.report, ", or add --no-report"),
        train=replace(train, progress=console.progress),
    )


def _finish(
    config: Distill,
    result: "Result",
    taught: str,
    before: dict[str, Any],
    names: Sequence[str],
    scored: "ImageSource | None",
    selected: dict[str, Any] | None,
    console: Console,
) -> None:
    """Table, report and results of a run that is done."""
    from graphkd.cli.quality import best_of, facts_of, lines_of
    from graphkd.cli.scoring import facts
    from graphkd.cli.select_for_run import line_of as line_of_selection
    from graphkd.files import write_json
    from graphkd.training.report import Row, write_report

    rows = [Row(name, scores["top1"]) for name, scores in before.items()]
    found: dict[str, Any] = {"run": str(result.run), "method": config.method, "student": config.student.student}
    found |= {"updates": result.updates, "seconds": round(result.seconds, 2), "teacher": before}
    text = f"trained in {result.seconds:.0f} s; nothing to score on (--held-out 0.1, or --val FOLDER)"
    notes: list[str] = []
    if selected is not None:
        found["selection"], notes = selected, [line_of_selection(selected)]
    if result.quality is not None and scored is not None:
        found["quality"] = facts_of(result.quality, names, scored.ids) | {"best": best_of(result.run)}
        notes = [*notes, *lines_of(found["quality"])]
    if result.scores is not None:
        found |= facts(result.scores)
        name = f"student, {taught}"
        rows.append(Row.of(name, result.model, result.scores.top1, result.seconds))
    if rows or notes:
        text = write_report(result.run / "report.md", rows, rows[0].name if before else None, notes=notes)
    write_json(result.run / "results.json", found)
    look = f"graphkd evaluate --model {result.run} --data FOLDER, or graphkd export {result.run}"
    console.result(found, text)
    console.remark(f"run folder: {result.run}; next: {look}")
