"""graphkd store info, graphkd store verify."""

import json
from textwrap import shorten

from graphkd.cli.configs.tools import StoreInfo, StoreVerify
from graphkd.cli.console import Console
from graphkd.data.folders import open_folder
from graphkd.data.store import EmbeddingStore
from graphkd.data.store_format import Manifest
from graphkd.errors import StoreError


def run(config: StoreInfo | StoreVerify, console: Console) -> int:
    """What was asked about a store."""
    return _verify(config, console) if isinstance(config, StoreVerify) else _info(config, console)


def _info(config: StoreInfo, console: Console) -> int:
    made = Manifest.read(config.path)
    present = len(list(config.path.glob("shard-*.json")))
    facts = {
        "store": str(config.path),
        "complete": made.shards is not None,
        "samples": made.samples,
        "shards": present,
        "of_shards": made.count,
        "widths": made.widths,
        "dtype": made.dtype,
        "bytes": sum(file.stat().st_size for file in config.path.iterdir() if file.is_file()),
        "classes": made.classes,
        "transform": json.loads(made.transform),
        "teacher": made.teacher,
    }
    console.result(facts, _text(facts))
    return 0


def _text(facts: dict[str, object]) -> str:
    shown = dict(facts)
    classes, teacher = shown["classes"], shown.pop("teacher")
    assert isinstance(teacher, dict)
    shown["classes"] = f"{len(classes)}: {', '.join(classes)}" if isinstance(classes, list) else "none"
    shown |= {f"teacher {key}": value for key, value in teacher.items()}
    shown = {key: shorten(str(value), 100, placeholder=" ...") for key, value in shown.items()}
    width = max(map(len, shown))
    return "\n".join(f"{key:{width}}  {value}" for key, value in shown.items())


def _verify(config: StoreVerify, console: Console) -> int:
    console.remark(f"reading {config.path}")
    try:
        store = EmbeddingStore(config.path)
        store.verify(None if config.data is None else open_folder(config.data))
    except StoreError as error:
        console.result({"store": str(config.path), "good": False, "problem": str(error)}, str(error))
        return 1
    good = {"store": str(config.path), "good": True, "samples": len(store)}
    console.result(good, f"{config.path}: {len(store)} samples, every byte as it was written")
    return 0
