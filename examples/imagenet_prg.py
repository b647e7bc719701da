"""Distil a CLIP model into a small classifier without a single label.

    python examples/imagenet_prg.py                     # embedded default: real handwritten digits, a stand-in teacher
    python examples/imagenet_prg.py --data DIR --teacher ViT-L-14-quickgelu --pretrained openai \\
        --student resnet18 --store features/            # ImageNet's train/ and val/, class folders, or loose images

Labels, where the images have them, are used to score and for the reference trained on labels; PRG never sees one.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

import torch
from jobs import Job, digits_job, user_job
from torch import nn

from graphkd import Distiller, Step, TrainConfig, Trainer, Views, create_distiller, create_student
from graphkd.cli.commands.distill import next_folder
from graphkd.errors import GraphKDError
from graphkd.pictures import missing
from graphkd.pictures.html import write_html_report
from graphkd.step import labelled_cross_entropy
from graphkd.training.report import Row, write_report
from graphkd.training.state import Result
from graphkd.training.strict_yaml import load_yaml
from graphkd.training.watch import Watch

METHODS = {
    "prg": "student, PRG",
    "kd": "student, plain KD",
    "mimic": "student, feature mimicking",
    "labels": "student, labels",
}


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = parser.add_argument_group("images (none: the digits that ship inside scikit-learn)")
    data.add_argument("--data", help="class folders, loose images, a folder with train/ and val/, or cifar100 ...")
    data.add_argument("--val", type=Path, help="labelled class folders to score on; default: a fifth of --data")
    data.add_argument("--classes", type=Path, help="class names, one a line, or 'folder<TAB>name' lines")
    data.add_argument("--layout", choices=("auto", "classes", "flat", "shards"), default="auto", help="of the folder")
    data.add_argument("--root", type=Path, default=Path("data"), help="where torchvision keeps cifar100, imagenet ...")
    data.add_argument("--split", help="of a torchvision data set, such as unlabeled of stl10; default: train")
    data.add_argument("--size", type=int, default=224, help="side of the student's images, pixels")
    data.add_argument("--on-error", choices=("stop", "skip"), default="stop", help="for an image that cannot be read")
    data.add_argument("--max-megapixels", type=float, default=64, help="larger images cannot be read")
    teacher = parser.add_argument_group("teacher")
    teacher.add_argument(
        "--teacher", default="ViT-L-14-quickgelu", help="open_clip name or JSON configuration; or lite0, lite2"
    )
    teacher.add_argument("--teacher-size", type=int, help="side of the images that lite0 and lite2 see, pixels")
    teacher.add_argument(
        "--pretrained",
        help="tag or path of the weights; default: openai, or those beside the JSON",
    )
    teacher.add_argument("--templates", help="imagenet (80), cifar (18), photo (1), a text file; default: by the data")
    teacher.add_argument("--prompt-weight", default="ratio", help="ratio, softmax, uniform")
    teacher.add_argument("--store", type=Path, help="keep the teacher's features here and never compute them again")
    run = parser.add_argument_group("training")
    run.add_argument("--student", help="any timm or torchvision name; default resnet18 (digits: test_efficientnet)")
    run.add_argument("--methods", default="prg,kd,mimic,labels", help="which students to train, by comma")
    run.add_argument(
        "--prg", action="append", default=[], metavar="OPTION=VALUE", help="option of PRGDistiller; repeat"
    )
    run.add_argument("--epochs", type=int)
    run.add_argument("--batch", type=int)
    run.add_argument("--chunk", type=int, help="images whose activations are held at once: a batch larger than memory")
    run.add_argument("--lr", type=float)
    run.add_argument("--precision", choices=("no", "bf16", "fp16"), default="no")
    run.add_argument("--workers", type=int, default=0)
    run.add_argument("--checkpoint-every", type=int, default=0, help="updates; each epoch ends with one anyway")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--seeds", type=int, default=1, help="repeat with this many seeds")
    run.add_argument("--run", type=Path, help="run folder; default runs/<job>-<number>")
    run.add_argument("--resume", action="store_true", help="go on where an interrupted run stopped")
    run.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Teacher, students, table and pictures of the PRG student."""
    args = arguments(given)
    logging.basicConfig(format="%(message)s")
    folder = args.run or next_folder(args.data or "digits", args.resume)
    tops: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(args.seed, args.seed + args.seeds):
        here = folder / f"seed{seed}" if args.seeds > 1 else folder
        job = digits_job(args, here, seed) if args.data is None else user_job(args, here, seed)
        for name, top1 in job.teacher_scores.items():
            tops.setdefault(name, []).append(top1)
        results = {name: train(name, job, args, here / name, seed) for name in wanted(args, job)}
        for name, result in results.items():
            seconds.setdefault(METHODS[name], []).append(result.seconds)
            if result.scores is not None:
                tops.setdefault(METHODS[name], []).append(result.scores.top1)
        if "prg" in results and not missing():
            print(f"the PRG student in pictures: {write_html_report(results['prg'].run, here / 'report.html')}")
        print(f"seed {seed}: teacher forwards: {len(job.asked)}, students in {here}")
    if not tops:
        print("no labelled images to score on: give some with --val DIR, one folder a class")
        return
    models = {METHODS[name]: result.model for name, result in results.items()}
    rows = [
        Row.of(name, models[name], top1, seconds[name]) if name in models else Row(name, top1)
        for name, top1 in tops.items()
    ]
    teacher = next(iter(job.teacher_scores))
    print(write_report(folder / "report.md", rows, teacher, f"Distilled without labels: {job.name}"))
    print(f"report: {folder / 'report.md'}")
    for name, each in tops.items():
        if name == METHODS["prg"] and mean(tops[teacher]) > 0:
            print(f"PRG reaches {100 * mean(each) / mean(tops[teacher]):.1f} % of its teacher")


def wanted(args: argparse.Namespace, job: Job) -> list[str]:
    """Methods asked for that this job allows: training on labels needs labels."""
    asked = args.methods.split(",")
    for name in asked:
        if name not in METHODS:
            raise SystemExit(f"unknown method {name!r}: choose among {', '.join(METHODS)}")
    return [name for name in asked if name != "labels" or job.labelled]


def train(name: str, job: Job, args: argparse.Namespace, run: Path, seed: int) -> Result:
    """One student by one method; only ``labels`` is given labels."""
    torch.manual_seed(seed)
    student = create_student(args.student or job.student, len(job.classes))
    uses_labels = name == "labels"
    views = Views(job.train, student=job.student_view, teacher=job.teacher_view, seed=seed, labels=uses_labels)
    scored = None if job.scored is None else Views(job.scored, student=job.plain_view, labels=True)
    config = TrainConfig(
        epochs=args.epochs or job.epochs,
        batch_size=min(args.batch or job.batch, len(job.train)),
        chunk=args.chunk,
        lr=args.lr or job.lr,
        warmup_epochs=min(5, (args.epochs or job.epochs) / 10),
        precision=args.precision,
        workers=args.workers,
        checkpoint_every=args.checkpoint_every,
        evaluate_every=max(1, (args.epochs or job.epochs) // 10),
        log_every=10,
        seed=seed,
        progress=not args.quiet,
    )
    if uses_labels:
        step, features = Step(student, task=labelled_cross_entropy), None
    else:
        step, features = Step(student, distiller(name, student, job, args.prg)), job.features
    print(f"{METHODS[name]}: {config.epochs} epochs of {len(job.train)} images")
    watch = None
    if name == "prg" and job.scored is not None:
        looked_at = Views(job.scored, student=job.plain_view, teacher=job.teacher_view, labels=True)
        watch = Watch(looked_at, job.scored_features)
    beside = {"teacher": None if uses_labels else job.teacher, "scored": scored, "watch": watch}
    return Trainer(step, views, features, config, run, **beside).fit(resume=args.resume)


def distiller(name: str, student: nn.Module, job: Job, options: list[str]) -> Distiller:
    """The method of that name between student and teacher."""
    chosen = {"prg": dict(map(option, options)), "kd": {"weight": 1.0}}.get(name, {})
    return create_distiller(name, student, job.teacher, **chosen)


def option(text: str) -> tuple[str, object]:
    """``rho=0.7`` as a keyword argument."""
    name, equals, value = text.partition("=")
    if not equals:
        raise SystemExit(f"--prg takes OPTION=VALUE, found {text!r}")
    return name, load_yaml(value)


def guarded(job: Callable[[], None]) -> None:
    """Run a job; an error of graphkd ends it with its message."""
    try:
        job()
    except GraphKDError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    guarded(main)
