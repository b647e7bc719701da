"""graphkd store info, verify, repair, merge: what is done with stores."""

import json
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from textwrap import shorten

from cyclopts import Parameter
from cyclopts.types import Directory, ExistingDirectory

from graphkd.cli.console import Console, listed
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Images, Output, Running, TeacherOptions
from graphkd.text import shown

_EMBEDDED = "give the folder that graphkd embed --out wrote"


@Parameter(name="*")
@dataclass(frozen=True)
class StoreInfo:
    """What a store holds: samples, widths, classes, the teacher and the transform it was made with.

    Args:
        path: folder of the store.

    Example::

        graphkd store info features
    """

    path: Path
    _: KW_ONLY
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        _require_store(self.path)


def info(config: StoreInfo, *, console: Console) -> int:
    """What the manifest says."""
    from graphkd.data.store import tools

    found = tools.info(config.path)
    made = found.manifest
    facts = {
        "store": str(config.path),
        "complete": found.complete,
        "absent": list(found.absent),
        "samples": made.samples,
        "shards": made.count,
        "widths": {"embedding": made.embedding_dim, "logits": made.num_classes},
        "dtype": made.dtype,
        "views": made.views,
        "bytes": found.bytes,
        "classes": made.classes,
        "transform": json.loads(made.transform),
        "teacher": made.teacher,
    }
    told = {**facts, "classes": ", ".join(made.classes or ()) or "none", "absent": ", ".join(found.absent) or "nothing"}
    told |= {f"teacher {key}": value for key, value in told.pop("teacher").items()}
    short = {key: shorten(str(value), 100, placeholder=" ...") for key, value in told.items()}
    console.result(facts, "\n".join(listed(short)))
    return 0


@Parameter(name="*")
@dataclass(frozen=True)
class StoreVerify:
    """Read every byte of a store and compare it with its digests; exit code 1 if something is damaged.

    Args:
        path: folder of the store.
        data: folder that was embedded: its files are compared with those that the teacher saw.

    Example::

        graphkd store verify features
        graphkd store verify features --data photos
    """

    path: Path
    _: KW_ONLY
    data: ExistingDirectory | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        _require_store(self.path)


def verify(config: StoreVerify, *, console: Console) -> int:
    """Every file against its digest."""
    from graphkd.data.opening import ImageData
    from graphkd.data.store import tools

    console.remark(f"reading {config.path}")
    found = tools.verify(config.path, None if config.data is None else ImageData(data=config.data).pixels())
    lines = [f"{name}: {what}" for name, what in found.damaged.items()]
    lines += [f"{name}: the image changed since it was embedded" for name in found.changed]
    facts = {"store": str(config.path), "good": found.whole, "files": len(found.files)}
    facts |= {"damaged": found.damaged, "changed": list(found.changed)}
    good = f"{config.path}: {len(found.files)} files, every byte as it was written"
    remedy = f"mend it: graphkd store repair {config.path} --data FOLDER --teacher ..., as it was embedded"
    console.result(facts, good if found.whole else "\n".join(map(shown, [*lines, remedy])))
    return 0 if found.whole else 1


@Parameter(name="*")
@dataclass(frozen=True)
class StoreRepair:
    """Ask the teacher again about what is damaged or missing in a store, and about nothing else.

    Images and teacher must be those that the store was made with; a difference is named. A lost manifest is made again.

    Args:
        path: folder of the store.

    Example::

        graphkd store repair features --data photos --teacher ViT-B-32 --pretrained openai

        # the same from the options that graphkd embed saved
        graphkd store repair features --config features/run.yaml
    """

    path: ExistingDirectory
    _: KW_ONLY
    images: Images
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    running: Running = field(default_factory=Running)
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        _ = self.teaching.asked


def repair(config: StoreRepair, *, console: Console) -> int:
    """The damaged samples, asked for again."""
    from graphkd.cli import images, networks, teacher_features
    from graphkd.data.store import tools
    from graphkd.data.store.embed import EmbedJob

    source, device = images.image_data(config.images, console).open(), networks.device_of(config.running.device)
    teacher = networks.open_teacher(config.teaching, source.classes, device)
    console.go_on = (f"finished shards are kept in {config.path}", "run the same command again")
    view = teacher_features.stored_view(config.path) or networks.teacher_view(teacher, config.teaching.teacher_size)
    job = EmbedJob(teacher, source, view, config.running.batch_size, config.running.workers, device, console.bars)
    found = tools.repair(config.path, job)
    facts = {"store": str(config.path), "damaged": found.damaged, "embedded": found.embedded}
    text = f"{config.path}: {len(found.damaged)} damaged files mended, {found.embedded} images embedded again"
    console.result(facts, text if found.damaged else f"{config.path}: nothing was damaged")
    return 0


@Parameter(name="*")
@dataclass(frozen=True)
class StoreMerge:
    """Bring several folders together in one store; every file is compared with its digest on the way.

    Folders into which several machines wrote parts of one store become that store. Complete stores of different images,
    made alike, become one store of all of them. Exit code 1 if parts are still missing afterwards.

    Args:
        parts: the folders; they stay as they are.
        out: folder of the merged store.

    Example::

        graphkd store merge machine0 machine1 --out features
    """

    parts: tuple[Path, ...]
    _: KW_ONLY
    out: Directory
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        for part in self.parts:
            require(part.is_dir(), f"there is no folder {part}", "give the folders that graphkd embed wrote")
        found = f"expected several folders to merge, found {len(self.parts)}"
        require(len(self.parts) >= 2, found, "give all of them: A B --out C")


def merge(config: StoreMerge, *, console: Console) -> int:
    """Several folders as one store."""
    from graphkd.data.store import tools

    console.go_on = (f"what was copied is kept in {config.out}", "run the same command again")
    found = tools.merge(config.parts, config.out)
    facts = {"store": str(config.out), "samples": found.samples, "written": found.written, "absent": list(found.absent)}
    missing = f"; still missing: {', '.join(found.absent)}" if found.absent else ""
    console.result(facts, f"{config.out}: {found.samples} samples, {found.written} shards written{missing}")
    return 1 if found.absent else 0


def _require_store(path: Path) -> None:
    require((path / "manifest.json").is_file(), f"{path} is no store: manifest.json is missing", _EMBEDDED)
