"""graphkd select: the images of an unlabelled pool that are worth distilling on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.types import ExistingDirectory, ExistingFile, PositiveFloat
from cyclopts.validators import Number

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Command, Running, TeacherOptions, require_count, require_other, require_store
from graphkd.deploy.chosen import FORMATS
from graphkd.files import local_path
from graphkd.text import shown

_Share = Annotated[float, Parameter(validator=Number(gte=0, lte=1))]


@Parameter(name="*", group=Group("images", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class Pool:
    """The images to choose from; no label is read.

    Args:
        data: a folder, searched to the bottom; shards (.tar); a text file with the path of an image a line; or the word
            digits. With --store it may be left out: then the pool is all that the store holds.
        store: folder that graphkd embed wrote: what the teacher said is read there, and no image is.
        classes: of a CLIP-like teacher: text file of class names, one a line.
        on_error: for an image that cannot be read; skip counts it and never chooses it.
        max_megapixels: most pixels of an image that is read, in millions; a larger one cannot be read.
    """

    data: str | None = None
    store: ExistingDirectory | None = None
    classes: ExistingFile | None = None
    on_error: Literal["stop", "skip"] = "skip"
    max_megapixels: PositiveFloat = 64.0

    def __post_init__(self) -> None:
        if self.data is not None:
            found = self.data == "digits" or local_path(self.data).exists()
            todo = "give a folder of images, a text file of paths, or the word digits"
            require(found, f"there is no --data {self.data}", todo)
        if self.store is not None:
            require_store(self.store)
            what = "--classes and --teacher are known to a store"
            require(self.classes is None, what, "leave them out, or leave --store out")


@dataclass(frozen=True, kw_only=True)
class Select(Command):
    """Choose images of an unlabelled pool to distil on: those of which a teacher is surest, in equal shares of classes.

    The teacher sees each image once, and four numbers of each are kept. An interrupted command goes on where it
    stopped: run it again. Beside the file or folder stands a picture of what was taken and left.

    Args:
        number: how many; below 1 a share of the pool.
        out: file to write: .txt, the paths of the chosen images, which --data takes; .csv, .jsonl or .parquet, a row
            for each image of the pool with name, class, score and whether it was kept. With --link or --copy a folder.
        link: put the chosen images into --out, as second names of the files, which take no space.
        copy: the same with copies.
        score: what images are ranked by: confidence in the likeliest class; margin, its distance to the next one; or
            entropy of all classes, the lowest first.
        balance: class gives each of the teacher's classes an equal share and fills up with the best of the rest;
            global takes the best of all.
        band: lowest and highest confidence of an image that may be chosen.
        class_confidence: leave a class out if the confidence of the pool's images in it is lower on average; it
            attracts images of no known class.

    Example::

        # a fifth of a pool by a CLIP teacher, then a student of it
        graphkd select --data pool --classes names.txt --teacher ViT-B-32 --pretrained openai --number 0.2 --out list.txt
        graphkd distill --data list.txt --classes names.txt --teacher ViT-B-32 --pretrained openai

        # from a store, as often as you like: nobody is asked again; no image of which the teacher is less than 70 % sure
        graphkd select --store features --data pool --number 5000 --band 0.7 1 --out chosen --link
    """  # noqa: E501

    pool: Pool = field(default_factory=Pool)
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    running: Running = field(default_factory=Running)
    number: PositiveFloat
    out: Path
    link: bool = False
    copy: bool = False
    score: Literal["confidence", "margin", "entropy"] = "confidence"
    balance: Literal["class", "global"] = "class"
    band: tuple[float, float] = (0.0, 1.0)
    class_confidence: _Share = 0.0

    def __post_init__(self) -> None:
        given = self.pool.data is not None or self.pool.store is not None
        require(given, "no images were given", "give --data FOLDER, or --store FOLDER, or both")
        require_count("--number", self.number)
        fits = len(self.band) == 2 and 0 <= self.band[0] <= self.band[1] <= 1
        told = " ".join(f"{each:g}" for each in self.band)
        require(fits, f"--band {told} is no band of confidence", "give the lowest and the highest: --band 0.7 1")
        if self.pool.store is None:
            _ = self.teaching.asked
        else:
            what = f"--teacher {self.teaching.teacher} is not asked where there is a --store"
            require(self.teaching.teacher is None, what, "leave one of them out")
        self._check_out()

    def _check_out(self) -> None:
        data = local_path(self.pool.data or "")
        inside = data.is_dir() and self.pool.data is not None and self.out.resolve().is_relative_to(data.resolve())
        what = f"--out {self.out} lies in --data {self.pool.data}, and the next command would read its images"
        require(not inside, what, "give a place beside it")
        if self.pool.data is not None:
            require_other("--out", self.out, data)
        require(not (self.link and self.copy), "--link and --copy were both given", "give one of them")
        if not (self.link or self.copy):
            require(not self.out.is_dir(), f"--out {self.out} is a folder", "add --link or --copy, or give a file")
            todo = f"give a name that ends in {', '.join(FORMATS)}, or add --link or --copy for a folder"
            require(self.out.suffix in FORMATS, f"--out {self.out} does not say what format it has", todo)
            return
        require(self.pool.data is not None, "a store holds no images to put into a folder", "give --data FOLDER too")
        require(not self.out.exists(), f"--out {self.out} is there already", "choose another folder, or remove it")


def run(config: Select, *, console: Console) -> int:
    """Images that were chosen, to a file or a folder."""
    from graphkd.cli import selecting

    facts = selecting.to_files(config, console)
    files = [facts["out"], *([facts["picture"]] if facts["picture"] else [])]
    console.result(facts, "\n".join(map(shown, [*selecting.lines_of(facts), f"written: {', '.join(files)}"])))
    return 0
