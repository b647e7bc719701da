"""What ``graphkd predict`` does: the images and the classifier that it is asked for, and where predictions go."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graphkd.cli import networks, opened
from graphkd.cli.commands.predict import AnyImages, Predict
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError
from graphkd.data.class_names import read_class_names
from graphkd.data.datasets import digits_source
from graphkd.data.decoding import SUFFIXES
from graphkd.data.folders import FlatFolderSource, has_shards
from graphkd.data.shards import ShardSource
from graphkd.data.sources import FileSource, ImageSource
from graphkd.deploy.class_folders import ClassFolders
from graphkd.deploy.classifier import Classifier, predictions
from graphkd.deploy.predict import Summary, finish, predict
from graphkd.deploy.tables import facts, write_csv
from graphkd.files import local_path
from graphkd.text import read_text

_LIST = 1 << 32  # bytes of a list of paths


def to_file(config: Predict, out: Path, console: Console) -> Summary:
    """Predictions to a file, and images to class folders."""
    part = out.with_name(f"{out.name}.part")
    console.go_on = (f"whole lines are kept in {part}", "run the same command again: it goes on there")
    root = config.move or config.copy
    folders = None if root is None else ClassFolders(root, config.move is not None, config.above)
    done = finish(out, format=config.format, folders=folders) if part.exists() else None
    if done is not None:
        return done
    classifier, source = _classifier(config), images_of(config.images)
    if part.exists():
        console.remark(f"going on with {part}")
    return predict(
        classifier,
        source,
        out,
        format=config.format,
        top=config.top,
        batch_size=config.running.batch_size,
        workers=config.running.workers,
        on_error=config.images.on_error,
        folders=folders,
        progress=lambda loader: console.bar(loader, len(loader), "predicting"),
    )


def to_console(config: Predict, console: Console) -> int:
    """Predictions to standard output: CSV line by line, or one JSON object, which holds all of them."""
    console.go_on = ("nothing was kept", "run the command again; with --out it goes on where it stopped")
    classifier, source = _classifier(config), images_of(config.images)
    rows = predictions(
        classifier,
        source,
        top=config.top,
        batch_size=config.running.batch_size,
        workers=config.running.workers,
        on_error=config.images.on_error,
    )
    if config.output.json:
        console.result({"predictions": [facts(row) for row in rows]}, "")
    else:
        write_csv(rows, console.stdout, min(config.top, len(classifier.classes)))
    return 0


def _classifier(config: Predict) -> Classifier:
    if config.model is not None:
        return opened.open_classifier(config.model, config.model_from, config.running.device)
    given = config.images.classes
    classes = read_class_names(given) if given is not None else networks.run_classes(config.teaching)
    names: Any = classes
    return opened.teaching_classifier(config.teaching, names, networks.device_of(config.running.device))


def images_of(images: AnyImages) -> ImageSource:
    """Images without labels: of a folder, of shards, one alone, or those that a text file names."""
    path, limit = local_path(images.data), images.max_megapixels
    if path.is_dir():
        if has_shards(path):
            return ShardSource(path, max_megapixels=limit)
        return FlatFolderSource(path, max_megapixels=limit)
    if not path.exists():
        return digits_source()
    names = [str(path)] if path.suffix.lower() in SUFFIXES else _listed(path)
    return FileSource(".", names, max_megapixels=limit)


def _listed(path: Path) -> list[str]:
    try:
        lines = read_text(path, _LIST).splitlines()
    except (OSError, ValueError) as error:
        what = f"--data {path} is neither an image nor a text file of paths: {error}"
        raise UsageError(what, "give a folder, an image, or a UTF-8 text file with a path a line") from error
    names = [os.path.normpath(line.strip()) for line in lines if line.strip()]
    if not names or len(set(names)) < len(names):
        twice = _first_twice(names)
        what = f"--data {path} names no image" if twice is None else f"--data {path} names {twice} twice"
        raise UsageError(what, "write the path of an image a line, each once")
    return names


def _first_twice(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
