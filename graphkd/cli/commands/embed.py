"""graphkd embed: a teacher's features of every image, kept in a store."""

from dataclasses import dataclass, field
from typing import Any, Literal

from cyclopts.types import Directory, PositiveInt

from graphkd.cli.console import Console
from graphkd.cli.errors import require
from graphkd.cli.option_groups import Command, Images, Running, TeacherOptions, require_other
from graphkd.files import local_path

_AGAIN = "run the same command again: it computes only what is missing"


@dataclass(frozen=True, kw_only=True)
class Embed(Command):
    """Ask a teacher about every image once, and keep the answers in a store.

    An interrupted command goes on where it stopped: run it again. A store that is complete is not computed again.

    Args:
        out: folder of the store; made where it is missing.
        dtype: of embedding and logits on disk; half precision halves the files, int8 (a scale and an offset a row)
            quarters them.
        shard_size: samples per file; default a 32nd of all, at least 4096.
        views: of each image; what was drawn for each is kept beside its features, and distill shows the student the
            same crops.
        augment: the teacher sees the centre (none), a random crop with a border (crop) or a random part of the image,
            resized (resized); several views need crop or resized.
        flip: show half of the augmented views mirrored; not for digits and letters.

    Example::

        # a CLIP teacher and a folder of class folders
        graphkd embed --data photos --teacher ViT-B-32 --pretrained openai --out features

        # loose images, class names in a file, half precision
        graphkd embed --data loose --classes names.txt --teacher ViT-B-32 --pretrained openai --dtype float16 --out features

        # four random views of each image, an eighth of the size on disk
        graphkd embed --data photos --teacher ViT-B-32 --pretrained openai --views 4 --augment resized --dtype int8 --out crops

        # then train from it, as often as you like
        graphkd distill --data photos --teacher ViT-B-32 --pretrained openai --store features
    """  # noqa: E501

    images: Images
    teaching: TeacherOptions = field(default_factory=TeacherOptions)
    out: Directory
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    shard_size: PositiveInt | None = None
    views: PositiveInt = 1
    augment: Literal["none", "crop", "resized"] = "none"
    flip: bool = True
    running: Running = field(default_factory=Running)

    def __post_init__(self) -> None:
        _ = self.teaching.asked
        require_other("--out", self.out, local_path(self.images.data))
        require(
            self.views == 1 or self.augment != "none",
            f"--views {self.views} would be the same view each time",
            "add --augment resized, or --augment crop",
        )


def run(config: Embed, *, console: Console) -> int:
    """Images to a store."""
    from graphkd.cli import first_look

    source = first_look.image_data(config.images, console).open()
    first_look.require_names(config.teaching, source.classes)
    from graphkd.cli import config_file, images, networks
    from graphkd.data.store.embed import embed
    from graphkd.teachers.base import count_batches

    device = networks.device_of(config.running.device)
    teacher = networks.open_teacher(config.teaching, source.classes, device)
    view = networks.teacher_view(teacher, config.teaching.teacher_size)
    if config.augment != "none":
        view = images.random_view(view, config.augment, config.flip)
    console.remark(f"{len(source)} images, teacher {config.teaching.asked} on {device}")
    console.go_on = (f"finished shards are kept in {config.out}", _AGAIN)
    asked = count_batches(teacher)
    store = embed(
        teacher,
        source,
        config.out,
        transform=view,
        batch_size=config.running.batch_size,
        workers=config.running.workers,
        dtype=config.dtype,
        shard_size=config.shard_size,
        views=config.views,
        device=device,
        progress=console.bars,
    )
    config_file.save(config.out, "embed", config)
    facts: dict[str, Any] = {
        "store": str(config.out),
        "samples": len(store),
        "embedding_dim": store.embedding_dim,
        "num_classes": store.num_classes,
        "classes": store.classes and list(store.classes),
        "dtype": config.dtype,
        "views": config.views,
        "bytes": sum(file.stat().st_size for file in config.out.iterdir()),
        "teacher_batches": len(asked),
    }
    console.result(facts, f"{store!r}: {facts['bytes'] / 2**20:.1f} MiB, {len(asked)} batches asked of the teacher")
    return 0
