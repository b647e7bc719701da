"""What ``graphkd predict`` does: the images and the classifier that it is asked for, and where predictions go."""

from pathlib import Path
from typing import Any

from graphkd.cli import networks, opened
from graphkd.cli.commands.predict import Predict
from graphkd.cli.console import Console
from graphkd.data.class_names import read_class_names
from graphkd.data.opening import open_unlabelled
from graphkd.deploy.class_folders import ClassFolders
from graphkd.deploy.classifier import Classifier, predictions
from graphkd.deploy.predict import Summary, finish, predict
from graphkd.deploy.tables import facts, write_csv
from graphkd.files import local_path


def to_file(config: Predict, out: Path, console: Console) -> Summary:
    """Predictions to a file, and images to class folders."""
    part = out.with_name(f"{out.name}.part")
    console.go_on = (f"whole lines are kept in {part}", "run the same command again: it goes on there")
    root = config.move or config.copy
    folders = None if root is None else ClassFolders(root, config.move is not None, config.above)
    classifier, data = _classifier(config), local_path(config.images.data)
    if part.exists() and config.move is not None and data.is_dir():
        done = finish(classifier, data, out, format=config.format, top=config.top, folders=folders)
        if done is not None:
            return done
    source = open_unlabelled(data, config.images.max_megapixels)
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
    classifier, source = _classifier(config), open_unlabelled(config.images.data, config.images.max_megapixels)
    found = predictions(
        classifier,
        source,
        top=config.top,
        batch_size=config.running.batch_size,
        workers=config.running.workers,
        on_error=config.images.on_error,
    )
    summary = Summary()
    rows = summary.counting(found)
    if config.output.json:
        console.result({"predictions": [facts(row) for row in rows]}, "")
    else:
        write_csv(rows, console.stdout, min(config.top, len(classifier.classes)))
    summary.require_readable()
    return 0


def _classifier(config: Predict) -> Classifier:
    if config.model is not None:
        return opened.open_classifier(config.model, config.model_from, config.running.device)
    given = config.images.classes
    classes = read_class_names(given) if given is not None else networks.run_classes(config.teaching)
    names: Any = classes
    return opened.teaching_classifier(config.teaching, names, networks.device_of(config.running.device))
