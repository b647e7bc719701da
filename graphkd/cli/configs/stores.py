"""Configurations of what is done with stores: info, verify, repair, merge."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from graphkd.cli.errors import UsageError
from graphkd.cli.options import POSITIONAL
from graphkd.cli.parts import Images, Output, Running, Teaching, require_new_folder


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """What a store holds: samples, widths, classes, the teacher and the transform it was made with.

    Args:
        path: folder of the store.

    Example::

        graphkd store info features
    """

    path: Annotated[Path, POSITIONAL]
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        _require_store(self.path)


@dataclass(frozen=True, kw_only=True)
class StoreVerify:
    """Read every byte of a store and compare it with its digests; exit code 1 if something is damaged.

    Args:
        path: folder of the store.
        data: folder that was embedded: its files are compared with those that the teacher saw.

    Example::

        graphkd store verify features
        graphkd store verify features --data photos
    """

    path: Annotated[Path, POSITIONAL]
    data: Path | None = None
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        _require_store(self.path)
        if self.data is not None and not self.data.is_dir():
            raise UsageError(f"there is no folder --data {self.data}", "give the folder that was embedded")


@dataclass(frozen=True, kw_only=True)
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

    path: Annotated[Path, POSITIONAL]
    images: Images
    teaching: Teaching = field(default_factory=Teaching)
    running: Running = field(default_factory=Running)
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise UsageError(f"there is no store {self.path}", "give the folder that graphkd embed --out wrote")
        _ = self.teaching.asked


@dataclass(frozen=True, kw_only=True)
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

    parts: Annotated[tuple[Path, ...], POSITIONAL]
    out: Path
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        require_new_folder("out", self.out)
        for part in self.parts:
            if not part.is_dir():
                raise UsageError(f"there is no folder {part}", "give the folders that graphkd embed wrote")
        if len(self.parts) < 2:
            raise UsageError(
                f"expected several folders to merge, found {len(self.parts)}", "give all of them: A B --out C"
            )


def _require_store(path: Path) -> None:
    if not path.is_dir():
        raise UsageError(f"there is no store {path}", "give the folder that graphkd embed --out wrote")
    if not (path / "manifest.json").is_file():
        raise UsageError(f"{path} is no store: manifest.json is missing", "give the folder that graphkd embed wrote")
