"""Groups of options that several commands share; they know no torch, and refuse what is wrong at first sight."""

from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from cyclopts import Group, Parameter
from cyclopts.types import ExistingFile, NonNegativeInt, PositiveFloat, PositiveInt

from graphkd.cli.catalogue import DATA_SETS
from graphkd.cli.errors import UsageError, nearest, require
from graphkd.files import local_path
from graphkd.models.installed import LITE, clip_models, listed_network, require_network, timm_models
from graphkd.registry import unknown
from graphkd.teachers.clip_files import require_clip, require_clip_name
from graphkd.text import read_json, read_text

STUDENT = "student.json"  # in a run folder: what the trained network is
_SHIPPED, _LIST = "digits", ".txt"
_PROMPTS = ("imagenet", "cifar", "photo")
_ELSEWHERE = ("hf:", "hf-hub:", "local-dir:")  # before names of models that bring their weights
_DEVICES = ("auto", "cpu", "cuda", "mps")


@Parameter(name="*", group=Group("output", sort_key=6))
@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command says, and where its options stand.

    Args:
        config: YAML file of options; a flag goes before it. Every run saves its own, resolved, as run.yaml.
        quiet: results only: no progress, no remarks.
        json: one JSON object on standard output, for scripts; everything else goes to standard error.
        debug: show the traceback of an error.
    """

    config: Path | None = None
    quiet: bool = False
    json: bool = False
    debug: bool = False


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Command:
    """What a command without positional arguments takes; those with some declare ``output`` after them.

    Args:
        output: what it says.
    """

    output: Output = field(default_factory=Output)


@Parameter(name="*", group=Group("images", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class Images:
    """Which images, and how they are read.

    Args:
        data: a folder with one folder a class, or loose images (then with --classes), or shards (.tar, as webdataset
            writes them), or one with train/ and val/; a text file with the path of an image a line; the word digits
            (shipped with scikit-learn); or a torchvision data set, such as cifar100, kept in --root.
        classes: text file of class names, one a line, or 'folder<TAB>name' lines. Default: the folders' names.
        layout: how to read the folder.
        root: where torchvision keeps its data sets.
        download: let torchvision fetch the data set into --root where it is not there.
        split: of a torchvision data set, such as unlabeled of stl10; default: train, and test to score on.
        on_error: for an image that cannot be read; skip leaves out at most 1 % of the images, or one, and says which.
        max_megapixels: most pixels of an image that is read, in millions; a larger one cannot be read.
    """

    data: str
    classes: ExistingFile | None = None
    layout: Literal["auto", "classes", "flat", "shards"] = "auto"
    root: Path = Path("data")
    download: bool = False
    split: str | None = None
    on_error: Literal["stop", "skip"] = "stop"
    max_megapixels: PositiveFloat = 64.0

    def __post_init__(self) -> None:
        path = local_path(self.data)
        if path.exists() or self.data == _SHIPPED:
            require(
                self.split is None,
                f"--split {self.split} is for data sets of torchvision, and --data {self.data} is none",
                "leave --split out; of a folder with splits, give the folder of one",
            )
            listed = not path.is_file() or path.suffix == _LIST
            require(
                listed, f"--data {self.data} is a file, and no list of images ({_LIST})", "give a folder, or a list"
            )
            return
        is_name = len(path.parts) == 1 and path.suffix == ""
        hint = nearest(self.data, [_SHIPPED, *DATA_SETS]) if is_name else ""
        require(is_name and self.data in DATA_SETS, f"there is no folder --data {self.data}{hint}", _FOLDER)
        require(
            self.download or self.data == "imagenet" or local_path(self.root).is_dir(),
            f"there is no folder --root {self.root}, where torchvision would keep {self.data}",
            "add --download where there is a network, or give --root FOLDER of a copy",
        )


_FOLDER = "give a folder with one folder of images a class, loose images with --classes, or the word digits"


@Parameter(name="*", group=Group("teacher", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """Which network teaches, and how it is asked.

    Args:
        teacher: an open_clip name (ViT-B-32), an open_clip checkpoint with its config.json beside it or that
            config.json, hf-hub:ORG/NAME or local-dir:FOLDER for open_clip's files in one place; timm:NAME or
            torchvision:NAME for a classifier; hf:NAME or hf:FOLDER for a model of transformers (CLIP, SigLIP, any
            image classifier or backbone); lite0 or lite2, which know ImageNet's classes and come with an extra; or the
            run folder of a distilled student.
        pretrained: tag of the weights (open_clip), the word default (the library's own), or the path of a checkpoint.
        templates: prompts of a CLIP-like teacher: imagenet (80), cifar (18), photo (1), or a text file, one {} a line.
        prompt_weight: how the prompts of a class are weighed.
        quick_gelu: the activation of OpenAI's weights; set by the tag; give it yourself for a checkpoint file.
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
    teacher_size: PositiveInt | None = None
    text_cache: Path | None = None

    def __post_init__(self) -> None:
        asked, given = self.teacher or "", self.pretrained is not None
        require(
            bool(asked) or not given,
            "--pretrained says which weights, and --teacher is missing",
            "give --teacher NAME too",
        )
        require(
            self.templates in _PROMPTS or local_path(self.templates).is_file(),
            f"there are no templates {self.templates!r}{nearest(self.templates, _PROMPTS)}",
            "give imagenet, cifar, photo, or a text file with one prompt such as 'a photo of a {}.' a line",
        )
        self._check_prompts()
        require(
            not (given and (asked in LITE or asked.startswith(_ELSEWHERE))),
            f"--teacher {asked} brings its own weights",
            "leave --pretrained out",
        )
        require(
            given or not asked.startswith(("timm:", "torchvision:")),
            f"--teacher {asked} has no weights, and an untrained network teaches nothing",
            "give --pretrained default (downloads the library's) or --pretrained PATH of a checkpoint",
        )
        if asked:
            self._check_teacher(asked)

    def _check_teacher(self, asked: str) -> None:
        """Its name and its weights, as the installed libraries and the disk know them."""
        if asked.startswith(_ELSEWHERE) or (local_path(asked) / STUDENT).is_file():
            return
        _require_spelling(asked)
        if listed_network(asked) is None:
            require_clip(asked, self.pretrained)
        elif asked not in LITE:
            there = self.pretrained == "default" or local_path(str(self.pretrained)).is_file()
            what = f"there is no file {self.pretrained}, which --pretrained names"
            require(there, what, "give the path of a checkpoint, or the word default for the library's weights")

    def _check_prompts(self) -> None:
        path = local_path(self.templates)
        try:
            lines = read_text(path).splitlines() if path.is_file() else []
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot read --templates {path}: {error}", "give a UTF-8 text file, one prompt a line"
            ) from None
        for line in filter(str.strip, lines):
            require(
                line.count("{}") == 1,
                f"--templates {path}: the prompt {line[:80]!r} does not contain {{}} exactly once",
                "write {} where the class name goes, as in: a photo of a {}.",
            )

    @property
    def asked(self) -> str:
        """The teacher's name. Raises: UsageError where none was given."""
        require(
            self.teacher is not None,
            "no teacher was given",
            "give --teacher ViT-B-32 --pretrained openai, or --teacher timm:resnet50 --pretrained default, "
            "or the path of a checkpoint",
        )
        return str(self.teacher)


@Parameter(name="*", group=Group("running", sort_key=5))
@dataclass(frozen=True, kw_only=True)
class Running:
    """Where and in what portions a network runs.

    Args:
        device: auto takes a GPU where there is one; or cpu, cuda, cuda:1.
        batch_size: images per forward pass.
        workers: processes that load images; 0 loads in this one.
    """

    device: str = "auto"
    batch_size: PositiveInt = 64
    workers: NonNegativeInt = 0

    def __post_init__(self) -> None:
        require_device(self.device)


@dataclass(frozen=True, kw_only=True)
class OfNetworks(Command):
    """A command that looks at a student, a teacher or both.

    Args:
        model: run folder of graphkd distill or of a Trainer.
        model_from: function that builds the network of a run whose student is a module of your own, as
            package.module:function; it is called without arguments.
    """

    images: Images
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    running: Running = field(default_factory=Running)
    model: Path | None = None
    model_from: str | None = None


def require_teacher_network(asked: str) -> None:
    """Raises: UsageError, UnknownNameError for a teacher whose network cannot be built by its name, without weights."""
    _require_spelling(asked)
    if listed_network(asked) is None:
        require(
            not asked.startswith(_ELSEWHERE) and not local_path(asked).exists(),
            f"--teacher {asked} is no network that can be built without its weights",
            "give a name of open_clip such as ViT-B-32, timm:NAME, torchvision:NAME, lite0 or lite2",
        )
        require_clip_name(asked)


def _require_spelling(asked: str) -> None:
    """Raises: UnknownNameError where timm or torchvision do not have it, or another name of a teacher is nearest."""
    network = listed_network(asked)
    if network is not None:
        require_network("teacher", network)
    elif not local_path(asked).exists():
        others = [*LITE, f"timm:{asked}"] if asked in timm_models() else list(LITE)
        known = [*others, *clip_models()]
        if set(get_close_matches(asked, known, n=1)) & set(others):
            raise unknown("teacher", asked, known)


def require_device(name: str) -> None:
    """Raises: UsageError for what is no device's name; whether it is here, torch knows."""
    kind, _, number = name.partition(":")
    require(
        kind in _DEVICES and (not number or number.isdigit()),
        f"unknown device {name!r}{nearest(name, _DEVICES)}",
        "give auto, cpu, cuda or cuda:1",
    )


def require_run(path: Path, *files: str) -> None:
    """Raises: UsageError for a path that is no run folder; one of the files shows that it is one."""
    missing = f"{' and '.join(files)} {'is' if len(files) == 1 else 'are'} missing"
    todo = "give the folder that graphkd distill named at its end, such as runs/photos-1"
    require(any((path / name).is_file() for name in files), f"{path} is no run folder: {missing}", todo)


def is_backbone(model: Path) -> bool:
    """Whether a run's or an export's student has no classes: its output is an embedding."""
    for file in (model / STUDENT, model / "export.json", model.parent / "export.json"):
        with suppress(OSError, ValueError, AttributeError):
            return bool(read_json(file).get("num_classes") == 0)
    return False


def require_store(path: Path) -> None:
    """Raises: UsageError for a path that is no store."""
    there = (path / "manifest.json").is_file()
    require(there, f"{path} is no store: manifest.json is missing", "give the folder that graphkd embed --out wrote")


def require_other(flag: str, path: Path, data: Path) -> None:
    """Raises: UsageError for a path that would be written over the images, or over their list."""
    same = data.exists() and path.resolve() == data.resolve()
    require(not same, f"{flag} {path} is what --data names, and would be overwritten", "give another name")


def require_count(flag: str, number: float) -> None:
    """Raises: UsageError for what is neither a number of images nor a share of them."""
    what = f"{flag} {number:g} is no whole number"
    require(number < 1 or float(number).is_integer(), what, "give how many images, or a share of them below 1")


def require_size(flag: str, number: float, total: int, held_out: int = 0) -> None:
    """Raises: UsageError for more images than there are beside those that are held out, or none."""
    beside = f" to choose from: {held_out} of {total + held_out} are held out" if held_out else ""
    require(number <= total, f"{flag} {number:g} is more than the {total} images{beside}", f"give {total} or fewer")
    require(number >= 1 or number * total >= 1, f"{flag} {number:g} of {total} images is none", "give a larger share")


def require_classifier(model: Path | None, teacher: str | None, both: bool = False) -> None:
    """Raises: UsageError unless there is one of the two, or ``both``, and the model a run folder or an export."""
    require(
        (model is None) != (teacher is None) or (both and model is not None),
        f"expected --model or --teacher, found {'neither' if model is None else 'both'}",
        "give --model runs/photos-1 for a student, or --teacher ViT-B-32 --pretrained openai",
    )
    if model is None or ((model / "export.json").is_file() and (model / "model.onnx").is_file()):
        return
    if model.suffix == ".onnx":
        whole = model.is_file() and model.with_name("export.json").is_file()
        what = f"there is no {model} with an export.json beside it"
        require(whole, what, "give a model.onnx that graphkd export wrote; after an interruption export it again")
    else:
        require_run(model, STUDENT)


Teaching = TeacherOptions  # its earlier name
