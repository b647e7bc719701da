"""graphkd embed."""

from graphkd.cli.config_file import write_config
from graphkd.cli.configs.train import Embed
from graphkd.cli.console import Console
from graphkd.cli.images import image_data, training_view
from graphkd.cli.networks import device_of, open_teacher, teacher_view
from graphkd.cli.parse import resolved
from graphkd.data.store.embed import embed
from graphkd.data.transforms import Transform
from graphkd.teachers.base import count_batches


def run(config: Embed, console: Console) -> int:
    """Images to a store."""
    source = image_data(config.images, console).open()
    device = device_of(config.running.device)
    teacher = open_teacher(config.teaching, source.classes, device)
    view: Transform = teacher_view(teacher, config.teaching.teacher_size)
    if config.augment != "none":
        side = view.spec["size"]
        view = training_view(side if isinstance(side, int) else max(side), config.augment, config.flip)
    console.remark(f"{len(source)} images, teacher {config.teaching.asked} on {device}")
    console.go_on = (
        f"finished shards are kept in {config.out}",
        "run the same command again: it computes only what is missing",
    )
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
    write_config(config.out / "run.yaml", "embed", resolved(config))
    size = sum(file.stat().st_size for file in config.out.iterdir())
    facts = {
        "store": str(config.out),
        "samples": len(store),
        "embedding_dim": store.embedding_dim,
        "num_classes": store.num_classes,
        "classes": store.classes and list(store.classes),
        "dtype": config.dtype,
        "views": config.views,
        "bytes": size,
        "teacher_batches": len(asked),
    }
    done = f"asked the teacher for {len(asked)} batches" if asked else "complete already"
    console.result(facts, f"{store!r}: {size / 2**20:.1f} MiB, {done}")
    return 0
