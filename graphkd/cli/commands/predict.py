"""graphkd predict: what a student, an exported model or a teacher says of any images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.types import Directory, ExistingFile, PositiveFloat, PositiveInt
from cyclopts.validators import Number

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Command, Running, TeacherOptions, is_backbone, require_classifier, require_other
from graphkd.deploy.tables import SUFFIXES
from graphkd.files import local_path
from graphkd.text import shown


@Parameter(name="*", group=Group("images", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class AnyImages:
    """Images that need no labels.

    Args:
        data: a folder, searched to the bottom; shards (.tar); an image; a text file with the path of an image a line,
            relative to the current folder; or the word digits.
        classes: of a CLIP-like teacher: text file of class names, one a line.
        on_error: for an image that cannot be read; skip notes and counts it and goes on.
        max_megapixels: most pixels of an image that is read, in millions; a larger one cannot be read.
    """

    data: str
    classes: ExistingFile | None = None
    on_error: Literal["stop", "skip"] = "skip"
    max_megapixels: PositiveFloat = 64.0

    def __post_init__(self) -> None:
        found = self.data == "digits" or local_path(self.data).exists()
        todo = "give a folder of images, an image, a text file of paths, or the word digits"
        require(found, f"there is no --data {self.data}", todo)


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Say what is in images: the likeliest classes of each, with confidences.

    Without --out, CSV goes to standard output. With it the file is there whole or not at all, and an interrupted command
    goes on where it stopped: run it again. Images are prepared as the run prepared its own.

    Args:
        model: run folder of graphkd distill or of a Trainer, a folder of graphkd export, or one of its .onnx files.
        model_from: function that builds the network of a run whose student is a module of your own, as
            package.module:function; it is called without arguments.
        out: file to write.
        format: of that file; default by its suffix: .csv, .jsonl, .parquet, or .json for the labels of FiftyOne.
        top: classes of each image, best first.
        move: put the images into one folder a class, below this one; none is overwritten, and --out must be new.
        copy: the same with copies.
        above: of --move and --copy: images of less confidence, in [0, 1], stay where they are.

    Example::

        # a distilled student on new images
        graphkd predict --model runs/photos-1 --data new-photos --out guesses.csv

        # one image
        graphkd predict --model runs/photos-1 --data cat.jpg

        # label a pool by a teacher: what it is sure of goes into class folders
        graphkd predict --teacher ViT-B-32 --pretrained openai --classes names.txt --data pool --out guesses.csv --move sorted --above 0.9
    """  # noqa: E501

    images: AnyImages
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    running: Running = field(default_factory=Running)
    model: Path | None = None
    model_from: str | None = None
    out: Path | None = None
    format: Literal["csv", "jsonl", "parquet", "fiftyone"] | None = None
    top: PositiveInt = 3
    move: Directory | None = None
    copy: Directory | None = None
    above: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.0

    def __post_init__(self) -> None:
        require_classifier(self.model, self.teaching.teacher)
        if self.model is not None:
            what = f"{self.model} has no classes to predict: it is a backbone, which gives embeddings"
            require(not is_backbone(self.model), what, f"run graphkd embed --teacher {self.model} --data ... --out ...")
        require(
            self.model is None or self.images.classes is None,
            "--classes names the classes of a teacher, and --model knows its own",
            "leave --classes out",
        )
        require(self.move is None or self.copy is None, "--move and --copy were both given", "give one of them")
        if self.out is None:
            asked = "--format" if self.format else "--move" if self.move else "--copy" if self.copy else None
            require(asked is None, f"{asked} needs a file that keeps the predictions", "give --out guesses.csv")
            return
        require(not self.out.is_dir(), f"--out {self.out} is a folder", "give a file, such as guesses.csv")
        require_other("--out", self.out, local_path(self.images.data))
        known = self.format is not None or self.out.suffix.lower() in SUFFIXES
        todo = f"give a name that ends in {', '.join(SUFFIXES)}, or --format"
        require(known, f"--out {self.out} does not say what format it has", todo)
        self._check_folders()

    def _check_folders(self) -> None:
        folder, data = self.move or self.copy, local_path(self.images.data)
        require(folder is not None or self.above == 0, "--above is for --move and --copy", "give one of them too")
        if self.move is not None and self.out is not None:  # as predict, which looks into the journal as well
            new = not self.out.exists() or self.out.with_name(f"{self.out.name}.part").exists()
            what = f"{self.out} is there, and may be all that tells of images that were moved before"
            require(new, what, "choose another file to write")
        if folder is not None and data.is_dir():
            inside = folder.resolve().is_relative_to(data.resolve())
            what = f"{folder} lies in --data {data}, and the next run would read its images again"
            require(not inside, what, "give a folder beside it")


def run(config: Predict, *, console: Console) -> int:
    """Predictions to a file or to standard output."""
    from graphkd.cli import predicting

    if config.out is None:
        return predicting.to_console(config, console)
    summary = predicting.to_file(config, config.out, console)
    console.result(_facts(config, summary), _text(config, summary))
    blocked = summary.placed is not None and (summary.placed.in_the_way or summary.placed.missing)
    return 1 if blocked else 0


def _facts(config: Predict, summary: Any) -> dict[str, Any]:
    facts = {
        "file": str(config.out),
        "images": summary.images,
        "unreadable": summary.unreadable,
        "unreadable_examples": summary.examples,
        "mean_confidence": summary.confidence,
        "classes": dict(summary.classes.most_common()),
    }
    if summary.placed is not None:
        facts |= {"folder": str(config.move or config.copy), **vars(summary.placed)}
    return facts


def _text(config: Predict, summary: Any) -> str:
    confidence = f"mean confidence {100 * summary.confidence:.1f} %"
    lines = [f"{config.out}: {summary.images} images, {confidence}"]
    width = max(map(len, map(shown, summary.classes)), default=0)
    lines += [f"  {shown(name):{width}}  {count}" for name, count in summary.classes.most_common()]
    if summary.unreadable:
        lines.append(f"cannot be read: {summary.unreadable}, such as {', '.join(map(shown, summary.examples))}")
    if summary.placed is not None:
        lines += _placed(config, summary.placed)
    return "\n".join(lines)


def _placed(config: Predict, placed: Any) -> list[str]:
    did = f"moved to {config.move}" if config.move else f"copied to {config.copy}"
    lines = [f"{did}: {placed.placed.total()} images; {placed.uncertain} below --above {config.above:g} stay"]
    for what, names in (("another file is in the way of", placed.in_the_way), ("no longer there:", placed.missing)):
        if names:
            lines.append(f"{what} {len(names)}, such as {', '.join(map(shown, names[:5]))}")
    return lines
