"""graphkd store info, verify, repair, merge, import, export: what is done with stores."""

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Literal

from cyclopts import Parameter
from cyclopts.types import Directory, ExistingDirectory, ExistingFile, ExistingPath, PositiveFloat

from graphkd.cli.console import Console, listed
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Images, Output, Running, TeacherOptions, require_store
from graphkd.text import shown


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
        require_store(self.path)


def info(config: StoreInfo, *, console: Console) -> int:
    """What the manifest says."""
    from graphkd.data.store import tools

    facts = {"store": str(config.path), **tools.info(config.path)}
    told = facts | {
        "classes": ", ".join(facts["classes"] or ()) or "none",
        "absent": ", ".join(facts["absent"]) or "nothing",
    }
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
        require_store(self.path)


def verify(config: StoreVerify, *, console: Console) -> int:
    """Every file against its digest."""
    from graphkd.data.opening import ImageData
    from graphkd.data.store import tools

    console.remark(f"reading {config.path}")
    damaged = tools.verify(config.path, None if config.data is None else ImageData(data=config.data).pixels())
    lines = [f"{name}: {what}" for name, what in damaged.items()]
    again = f"graphkd store repair {config.path} --data FOLDER --teacher ..., as it was embedded"
    lines.append(f"mend it: {again}; one that was imported: delete it and import again")
    good = f"{config.path}: every byte as it was written"
    facts = {"store": str(config.path), "good": not damaged, "damaged": damaged}
    console.result(facts, "\n".join(map(shown, lines)) if damaged else good)
    return 1 if damaged else 0


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
    """Bring folders together into which several machines wrote parts of one store.

    Every file is compared with its digest on the way. Exit code 1 if parts are still missing afterwards.

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
    absent = tools.merge(config.parts, config.out)
    text = f"{config.out}: " + (f"still missing: {', '.join(absent)}" if absent else "a complete store")
    console.result({"store": str(config.out), "absent": absent}, text)
    return 1 if absent else 0


@Parameter(name="*")
@dataclass(frozen=True)
class StoreImport:
    """Make a store of vectors that another program computed.

    graphkd distill --store takes it in place of a teacher. Names of vectors must be the paths of the images below
    --data. Counts, widths, repeated names and numbers that are not finite are refused; a store is whole, or not there.

    Args:
        path: a .npy matrix with a text file of names, a .parquet file, or a folder: of clip-retrieval (img_emb/ and
            metadata/), of embedding.npy and names.txt, or of .parquet files (a data set of Hugging Face).
        out: folder of the store.
        names: text file of a matrix's names, one a line; default: names.txt beside it.
        relative_to: folder that all names begin with, which is taken off.
        embedding_column: of Parquet, lists of numbers.
        id_column: of Parquet, texts or whole numbers.
        proxies: .npy of one vector a class, such as CLIP's text embeddings, for methods that need class scores.
        classes: text file of class names, one a line.
        logit_scale: factor of the cosines with --proxies; 100 is CLIP's.
        dtype: of the numbers on disk; default: as they come, float64 as float32.

    Example::

        graphkd store import clip-out --relative-to /data/photos --out features
        graphkd store import embeddings.npy --names names.txt --out features
        graphkd store import data/train.parquet --embedding-column vector --id-column file_name --out features

        # text embeddings of the classes make a zero-shot classifier of it, which every method takes
        graphkd store import clip-out --proxies texts.npy --classes names.txt --out features
        graphkd distill --data photos --store features --method prg --student resnet18
    """

    path: ExistingPath
    _: KW_ONLY
    out: Directory
    names: ExistingFile | None = None
    relative_to: str | None = None
    embedding_column: str = "embedding"
    id_column: str = "id"
    proxies: ExistingFile | None = None
    classes: ExistingFile | None = None
    logit_scale: PositiveFloat = 100.0
    dtype: Literal["float32", "float16", "bfloat16", "int8"] | None = None
    output: Output = field(default_factory=Output)


def import_(config: StoreImport, *, console: Console) -> int:
    """Vectors of another program to a store."""
    from graphkd.data.store.imports import import_vectors
    from graphkd.data.store.vectors import open_vectors

    console.go_on = (f"finished shards are kept in {config.out}", "run the same command again")
    columns = {"embedding_column": config.embedding_column, "id_column": config.id_column}
    found = open_vectors(
        config.path,
        names=config.names,
        relative_to=config.relative_to,
        proxies=config.proxies,
        classes=config.classes,
        **columns,
    )
    console.remark(f"{config.path}: {found.form}, {len(found.ids)} vectors of width {found.widths['embedding']}")
    store = import_vectors(found, config.out, dtype=config.dtype, logit_scale=config.logit_scale)
    facts = {"store": str(config.out), "form": found.form, "samples": len(store), "embedding_dim": store.embedding_dim}
    facts |= {"num_classes": store.num_classes, "dtype": store.manifest.dtype, "first": store.ids[0]}
    console.result(facts, f"{store!r}, the first is called {store.ids[0]}")
    return 0


@Parameter(name="*")
@dataclass(frozen=True)
class StoreExport:
    """Write the vectors of a store for other programs; graphkd store import reads them again, bit for bit.

    Args:
        path: folder of the store.
        out: new folder for the files.
        form: npy writes embedding.npy and names.txt, parquet a table of id and embedding. Class scores, proxies and
            class names come along where the store has them.

    Example::

        graphkd store export features --out for-faiss
        graphkd store export features --form parquet --out for-spark
    """

    path: Path
    _: KW_ONLY
    out: Directory
    form: Literal["npy", "parquet"] = "npy"
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        require_store(self.path)


def export(config: StoreExport, *, console: Console) -> int:
    """A store to files of other programs."""
    from graphkd.data.store.exports import export_store

    files = export_store(config.path, config.out, config.form)
    facts = {"folder": str(config.out), "files": [each.name for each in files]}
    size = sum(each.stat().st_size for each in files)
    console.result(facts | {"bytes": size}, f"{config.out}: {', '.join(facts['files'])}, {size / 2**20:.1f} MiB")
    return 0
