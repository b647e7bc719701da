"""What a command finds in folders before torch is loaded: where it has to refuse, it does so at once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import STUDENT, Images, TeacherOptions
from graphkd.data.class_names import Classes
from graphkd.data.opening import ImageData, Parts, hold_out
from graphkd.errors import CheckpointError, GraphKDError
from graphkd.files import local_path
from graphkd.models.installed import LITE
from graphkd.text import read_json

if TYPE_CHECKING:
    from graphkd.cli.commands.distill import Distill


def image_data(images: Images, console: Console) -> ImageData:
    """The images that the options name; what is left out of them is remarked."""
    return ImageData(**vars(images), say=console.remark)


def parts_of(config: "Distill", run: Path, console: Console) -> Parts:
    """The images of a run. Raises: UsageError for a run folder that holds a run, and for classes without names."""
    require_free(run, config.resume)
    data = image_data(config.images, console)
    backbone = config.student.student_head == "none"
    trained = None if backbone else run_classes(config.teaching) or store_classes(config)
    parts = data.parts(config.val, config.held_out, trained)
    if config.method != "none" and not backbone:
        require_names(config.teaching, parts.whole.classes)
    if parts.scored is not None or parts.whole.target(0) is not None:
        return parts
    return hold_out(parts.whole, config.held_out, config.train.seed)  # with torch, so last


def require_names(teaching: TeacherOptions, classes: object) -> None:
    """Refuse images without class names where the teacher is surely a CLIP. Raises: UsageError."""
    asked = teaching.teacher or ""
    other = not asked or asked in LITE or asked.startswith(("timm:", "torchvision:", "hf:"))
    if not other and not (local_path(asked) / STUDENT).is_file():
        require_texts(asked, classes)


def require_texts(teacher: str, classes: object) -> None:
    """Raises: UsageError where a CLIP has no class names to read."""
    what = f"--teacher {teacher} tells classes apart by their names, and these images have none"
    require(classes is not None, what, "give --classes names.txt, one name a line")


def require_free(run: Path, resume: bool) -> None:
    """Refuse to begin where a run is. Raises: UsageError."""
    require(
        resume or not any((run / "checkpoints").glob("update-*")),
        f"{run} holds a run already",
        "add --resume to go on with it, or choose another --run",
    )


@contextmanager
def no_litter(run: Path) -> Iterator[None]:
    """A run that is refused before it trains leaves no folder where none was."""
    new = not run.exists()
    try:
        yield
    except GraphKDError:
        if new and not (run / "metrics.jsonl").exists():  # else it trained, and its readings may say why it ended
            for name in ("run.yaml", STUDENT):
                (run / name).unlink(missing_ok=True)
            with suppress(OSError):  # something of others is in it
                run.rmdir()
                run.parent.rmdir()
        raise


def run_classes(teaching: TeacherOptions) -> Classes | None:
    """The classes of a run folder that teaches; ``None`` for any other teacher."""
    if teaching.teacher is None or not (local_path(teaching.teacher) / STUDENT).is_file():
        return None
    return Classes(described_run(local_path(teaching.teacher))["classes"]) or None  # a backbone has none


def teaches_alone(config: "Distill") -> bool:
    """Whether a store stands in for a teacher that was not named."""
    return config.teaching.teacher is None and config.store is not None and (config.store / "manifest.json").is_file()


def store_classes(config: "Distill") -> Classes | None:
    """The classes of a store that stands in for a teacher; ``None`` for any other, and for one that cannot be read."""
    if not teaches_alone(config):
        return None
    with suppress(OSError, ValueError):  # whoever reads the store says what is wrong with it
        names = read_json(local_path(str(config.store)) / "manifest.json", 1 << 26)["classes"]
        return None if names is None else Classes(names)
    return None


def described_run(run: Path) -> dict[str, Any]:
    """What is known of a run's student: its classes are a mapping from id to name, or names in older files."""
    try:
        about: dict[str, Any] = {"mean": None, "std": None} | read_json(run / STUDENT)
        named = isinstance(about["student"], str) and len(about["classes"]) == about["num_classes"]
        if not named and about["student"] is not None:
            raise ValueError("it does not name a student and each of its classes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run / STUDENT} is damaged ({error}): train again, or restore the file") from error
    return about
