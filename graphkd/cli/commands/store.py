"""graphkd store info, verify, repair, merge."""

import json
from textwrap import shorten
from typing import Any

from graphkd.cli.answers import stored_view
from graphkd.cli.configs.stores import StoreInfo, StoreMerge, StoreRepair, StoreVerify
from graphkd.cli.console import Console
from graphkd.cli.images import image_data
from graphkd.cli.networks import device_of, open_teacher, teacher_view
from graphkd.data.opening import ImageData
from graphkd.data.store.embed import EmbedJob
from graphkd.data.store.tools import info, merge, repair, verify
from graphkd.text import shown


def run(config: StoreInfo | StoreVerify | StoreRepair | StoreMerge, console: Console) -> int:
    """What was asked about a store."""
    match config:
        case StoreInfo():
            return _info(config, console)
        case StoreVerify():
            return _verify(config, console)
        case StoreRepair():
            return _repair(config, console)
    return _merge(config, console)


def _info(config: StoreInfo, console: Console) -> int:
    found = info(config.path)
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
    console.result(facts, _text(facts))
    return 0


def _text(facts: dict[str, Any]) -> str:
    rows = dict(facts)
    classes, teacher, absent = rows["classes"], rows.pop("teacher"), rows["absent"]
    rows["classes"] = f"{len(classes)}: {', '.join(classes)}" if classes else "none"
    rows["absent"] = ", ".join(absent) or "nothing"
    rows |= {f"teacher {key}": value for key, value in teacher.items()}
    rows = {key: shorten(str(value), 100, placeholder=" ...") for key, value in rows.items()}
    width = max(map(len, rows))
    return "\n".join(shown(f"{key:{width}}  {value}") for key, value in rows.items())


def _verify(config: StoreVerify, console: Console) -> int:
    console.remark(f"reading {config.path}")
    found = verify(config.path, None if config.data is None else ImageData(data=config.data).pixels())
    lines = [f"{name}: {what}" for name, what in found.damaged.items()]
    lines += [f"{name}: the image changed since it was embedded" for name in found.changed]
    facts = {"store": str(config.path), "good": found.whole, "files": len(found.files)}
    facts |= {"damaged": found.damaged, "changed": list(found.changed)}
    good = f"{config.path}: {len(found.files)} files, every byte as it was written"
    remedy = f"mend it: graphkd store repair {config.path} --data FOLDER --teacher ..., as it was embedded"
    console.result(facts, good if found.whole else "\n".join(map(shown, [*lines, remedy])))
    return 0 if found.whole else 1


def _repair(config: StoreRepair, console: Console) -> int:
    source, device = image_data(config.images, console).open(), device_of(config.running.device)
    teacher = open_teacher(config.teaching, source.classes, device)
    console.go_on = (f"finished shards are kept in {config.path}", "run the same command again")
    view = stored_view(config.path) or teacher_view(teacher, config.teaching.teacher_size)
    job = EmbedJob(teacher, source, view, config.running.batch_size, config.running.workers, device, console.bars)
    found = repair(config.path, job)
    facts = {"store": str(config.path), "damaged": found.damaged, "embedded": found.embedded}
    text = f"{config.path}: {len(found.damaged)} damaged files mended, {found.embedded} images embedded again"
    console.result(facts, text if found.damaged else f"{config.path}: nothing was damaged")
    return 0


def _merge(config: StoreMerge, console: Console) -> int:
    console.go_on = (f"what was copied is kept in {config.out}", "run the same command again")
    found = merge(config.parts, config.out)
    facts = {"store": str(config.out), "samples": found.samples, "written": found.written, "absent": list(found.absent)}
    missing = f"; still missing: {', '.join(found.absent)}" if found.absent else ""
    console.result(facts, f"{config.out}: {found.samples} samples, {found.written} shards written{missing}")
    return 1 if found.absent else 0
