"""Groups of options that several commands share; they know no torch, and refuse what is wrong at first sight."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graphkd.cli.catalogue import data_sets
from graphkd.cli.errors import UsageError, flag_of, nearest
from graphkd.files import local_path
from graphkd.text import read_text

_SHIPPED = "digits"


@dataclass(frozen=True, kw_only=True)
class Output:
    """output

    Args:
        quiet: results only: no progress, no remarks.
        json: one JSON object on standard output, for scripts; everything else goes to standard error.
        debug: show the traceback of an error.
    """

    quiet: bool = False
    json: bool = False
    debug: bool = False


@dataclass(frozen=True, kw_only=True)
class Images:
    """images

    Args:
        data: a folder with one folder a class, or loose images (then with --classes), or shards (.tar, as webdataset
            writes them), or one with train/ and val/; the word digits (shipped with scikit-learn); or a torchvision
            data set, such as cifar100, kept in --root.
        classes: text file of class names, one a line, or 'folder<TAB>name' lines. Default: the folders' names.
        layout: how to read the folder.
        root: where torchvision keeps its data sets.
        split: of a torchvision data set, such as unlabeled of stl10; default: train, and test to score on.
        on_error: for an image that cannot be read; skip leaves out at most 1 % of the images, or one, and says which.
        max_megapixels: most pixels of an image that is read, in millions; a larger one cannot be read.
    """

    data: str
    classes: Path | None = None
    layout: Literal["auto", "classes", "flat", "shards"] = "auto"
    root: Path = Path("data")
    split: str | None = None
    on_error: Literal["stop", "skip"] = "stop"
    max_megapixels: float = 64.0

    def __post_init__(self) -> None:
        require_file("classes", self.classes)
        if not 0 < self.max_megapixels < float("inf"):
            raise UsageError(f"--max-megapixels must be > 0, found {self.max_megapixels}", "give --max-megapixels 64")
        path = local_path(self.data)
        if path.is_dir() or self.data == _SHIPPED:
            if self.split is not None:
                raise UsageError(
                    f"--split {self.split} is for data sets of torchvision, and --data {self.data} is none",
                    "leave --split out; of a folder with splits, give the folder of one",
                )
            return
        if path.exists():
            raise UsageError(f"--data {self.data} is a file, not a folder", "give a folder of images")
        if len(path.parts) == 1 and path.suffix == "":
            if self.data in data_sets():
                return
            hint = nearest(self.data, [_SHIPPED, *data_sets()])
            raise UsageError(f"there is no folder --data {self.data}{hint}", _FOLDER)
        raise UsageError(f"there is no folder --data {self.data}", _FOLDER)


_FOLDER = "give a folder with one folder of images a class, loose images with --classes, or the word digits"


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """teacher

    Args:
        teacher: an open_clip name (ViT-B-32), an open_clip checkpoint with its config.json beside it or that
            config.json, hf-hub:ORG/NAME or local-dir:FOLDER for open_clip's files in one place; timm:NAME or
            torchvision:NAME for a classifier; hf:NAME or hf:FOLDER for a model of transformers (CLIP, SigLIP, any
            image classifier or backbone); or the run folder of a distilled student.
        pretrained: tag of the weights (open_clip), the word default (the library's own), or the path of a checkpoint.
        templates: prompts of a CLIP-like teacher: imagenet (80), cifar (18), photo (1), or a text file, one {} a line.
        prompt_weight: how the prompts of a class are weighed.
        quick_gelu: the activation of OpenAI's weights; taken from the tag, to be said for a checkpoint file.
        teacher_precision: of its network; fp32 is the default on a CPU, fp16 on a GPU.
        teacher_size: side of its images, pixels; default: the network's own.
        text_cache: folder that keeps the prompts' embeddings; default: graphkd/text in the user's cache folder.
    """

    teacher: str | None = None
    pretrained: str | None = None
    templates: str = "imagenet"
    prompt_weight: Literal["ratio", "softmax", "uniform"] = "ratio"
    quick_gelu: bool | None = None
    teacher_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    teacher_size: int | None = None
    text_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.pretrained is not None and self.teacher is None:
            raise UsageError("--pretrained says which weights, and --teacher is missing", "give --teacher NAME too")
        require_at_least("teacher_size", self.teacher_size, 1)
        named = self.templates in ("imagenet", "cifar", "photo")
        if not named and not local_path(self.templates).is_file():
            hint = nearest(self.templates, ("imagenet", "cifar", "photo"))
            raise UsageError(
                f"there are no templates {self.templates!r}{hint}",
                "give imagenet, cifar, photo, or a text file with one prompt such as 'a photo of a {}.' a line",
            )
        self._check_prompts()
        for prefix in ("hf:", "hf-hub:", "local-dir:"):
            if (self.teacher or "").startswith(prefix) and self.pretrained is not None:
                raise UsageError(f"--teacher {self.teacher} brings its own weights", "leave --pretrained out")
        for prefix in ("timm:", "torchvision:"):
            if (self.teacher or "").startswith(prefix) and self.pretrained is None:
                raise UsageError(
                    f"--teacher {self.teacher} has no weights, and an untrained network teaches nothing",
                    "give --pretrained default (downloads the library's) or --pretrained PATH of a checkpoint",
                )

    def _check_prompts(self) -> None:
        path = local_path(self.templates)
        try:
            lines = read_text(path).splitlines() if path.is_file() else []
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot read --templates {path}: {error}", "give a UTF-8 text file, one prompt a line"
            ) from None
        for line in lines:
            if line.strip() and line.count("{}") != 1:
                raise UsageError(
                    f"--templates {path}: the prompt {line[:80]!r} does not contain {{}} exactly once",
                    "write {} where the class name goes, as in: a photo of a {}.",
                )

    @property
    def asked(self) -> str:
        """The teacher's name. Raises: UsageError where none was given."""
        if self.teacher is None:
            raise UsageError(
                "no teacher was given",
                "give --teacher ViT-B-32 --pretrained openai, or --teacher timm:resnet50 --pretrained default, "
                "or the path of a checkpoint",
            )
        return self.teacher


@dataclass(frozen=True, kw_only=True)
class Running:
    """running

    Args:
        device: auto takes a GPU where there is one; or cpu, cuda, cuda:1.
        batch_size: images per forward pass.
        workers: processes that load images; 0 loads in this one.
    """

    device: str = "auto"
    batch_size: int = 64
    workers: int = 0

    def __post_init__(self) -> None:
        kind, _, number = self.device.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (number and not number.isdigit()):
            hint = nearest(self.device, ("auto", "cpu", "cuda", "mps"))
            raise UsageError(f"unknown device {self.device!r}{hint}", "give auto, cpu, cuda or cuda:1")
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("workers", self.workers, 0)


def require_at_least(name: str, value: float | None, least: float) -> None:
    """Raises: UsageError for a number that is too small."""
    if value is not None and value < least:
        raise UsageError(f"{flag_of(name)} must be >= {least}, found {value}", f"give {flag_of(name)} {least} or more")


def require_file(name: str, path: Path | None) -> None:
    """Raises: UsageError for a path that is no file."""
    if path is not None and not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"{flag_of(name)} {path} {found}", "give the path of a file")


def require_new_folder(name: str, path: Path | None) -> None:
    """Raises: UsageError for a path to write to that is a file."""
    if path is not None and path.is_file():
        raise UsageError(f"{flag_of(name)} {path} is a file", "give a folder; it is made where it is missing")


def require_run(path: Path) -> None:
    """Raises: UsageError for a path that is no run folder of ``graphkd distill``."""
    if not path.is_dir():
        raise UsageError(f"there is no run folder {path}", "give the folder that graphkd distill named at its end")
    if not (path / "student.json").is_file():
        raise UsageError(
            f"{path} is no run folder of graphkd distill: student.json is missing",
            "give the folder that graphkd distill named at its end, such as runs/photos-1",
        )
