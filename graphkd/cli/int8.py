"""``graphkd export --int8``: the images that it is calibrated and judged on, and what is told of it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from graphkd.cli.config_file import read_config
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError, require
from graphkd.data.class_names import Classes
from graphkd.data.opening import ImageData
from graphkd.data.sources import ImageSource, SourceSubset, source_subset
from graphkd.data.tolerant import TolerantViews
from graphkd.data.transforms import Transform
from graphkd.deploy.int8 import best_int8, compare
from graphkd.deploy.sessions import latency
from graphkd.errors import DataError, GraphKDError
from graphkd.typing import Float, Tensor

FILE = "model.int8.onnx"
_CALIBRATED, _JUDGED, _FEW = 256, 2048, 64  # images at most, and too few to be divided
_TODO = "give --calibration FOLDER of images like those"


def images_of(run: Path, folder: Path | None, about: Mapping[str, Any]) -> tuple[ImageSource, ImageSource]:
    """Images to calibrate on, and others to judge by.

    Args:
        run: run folder, whose own images serve where ``folder`` is ``None``.
        folder: of images.
        about: of the student.

    Raises: UsageError where the run's own cannot be opened; DataError for a folder without images.
    """
    classes = Classes(about["classes"])
    return _own_images(run, classes) if folder is None else _halves(_opened(folder, classes))


def write_int8(
    to_calibrate: ImageSource, to_judge: ImageSource, view: Transform, out: Path, console: Console
) -> dict[str, Any]:
    """Write ``model.int8.onnx`` beside ``model.onnx``, and compare the two.

    Args:
        to_calibrate: images that fix the ranges of activations.
        to_judge: others.
        view: what the student is shown.
        out: where ``model.onnx`` is.

    Returns: JSON-ready: ways tried, agreement, top-1 before and after, bytes, latency.
    """
    to_choose, to_judge = _apart(to_judge)
    images, others = _tensor(to_calibrate, view), _tensor(to_choose, view)
    console.remark(f"8-bit integers: {len(images)} images to calibrate on, {len(to_judge)} others to judge by")
    files = {"float": out / "model.onnx", "int8": out / FILE}
    tried = best_int8(files["float"], files["int8"], images, others)
    views = TolerantViews(to_judge, student=view, labels=to_judge.target(0) is not None)
    loader = views.loader(32, shuffle=False, drop_last=False)
    found = compare(files["float"], files["int8"], console.bar(loader, len(loader), "judging"))
    sizes = {name: path.stat().st_size for name, path in files.items()}
    return {
        "file": FILE,
        "calibrated_on": len(images),
        "tried": tried,
        "images": found.images,
        **found.numbers(),
        "bytes": sizes,
        "size_ratio": sizes["int8"] / sizes["float"],
        "latency_ms": latency(files, images[:1]),
    }


def _own_images(run: Path, classes: Classes) -> tuple[ImageSource, ImageSource]:
    """What a run was trained on, to calibrate; what it was scored on, or else others of the same, to judge by."""
    options = next(
        (path for path in (run / "run.yaml", run.parent / "run.yaml") if path.is_file()), run
    )  # of best/ above
    require(options.is_file(), f"{run} does not say where its images are (it has no run.yaml)", _TODO)
    asked = read_config(options)
    known = {each.name for each in fields(ImageData)} - {"on_error", "say"}
    given = {name: value for name, value in asked.items() if name in known and value is not None}
    given |= {name: Path(given[name]) for name in ("classes", "root") if name in given}
    try:
        asked_for = asked.get("val"), asked.get("held_out"), classes, asked.get("seed", 0)
        parts = ImageData(**given, say=lambda line: None).parts_of_run(*asked_for)
    except GraphKDError as error:
        raise UsageError(f"the images of {run} cannot be opened: {error}", _TODO) from error
    if parts.scored is None:
        return _halves(parts.train)
    return _some(parts.train, _CALIBRATED), _some(parts.scored, _JUDGED)


def _opened(folder: Path, classes: Classes) -> ImageSource:
    """A folder of images, with labels where its class folders are those of the student."""
    data = ImageData(data=folder, say=lambda line: None)
    try:
        return data.open("test", classes)
    except DataError:
        return data.pixels()


def _halves(source: ImageSource) -> tuple[SourceSubset, SourceSubset]:
    """Every other image to calibrate on, the rest to judge by; one image alone serves for both."""
    first = source_subset(source, range(0, len(source), 2))
    second = source_subset(source, range(min(1, len(source) - 1), len(source), 2))
    return _some(first, _CALIBRATED), _some(second, _JUDGED)


def _apart(source: ImageSource) -> tuple[ImageSource, ImageSource]:
    """Every fourth image to choose a way by, the rest to judge it by; a few images serve for both."""
    if len(source) < _FEW:
        return source, source
    rest = [at for at in range(len(source)) if at % 4]
    return _some(source_subset(source, range(0, len(source), 4)), _CALIBRATED), source_subset(source, rest)


def _some(source: ImageSource, count: int) -> SourceSubset:
    """At most so many images, spread evenly."""
    count = min(count, len(source))
    return source_subset(source, [at * len(source) // count for at in range(count)])


def _tensor(source: ImageSource, view: Transform) -> Float[Tensor, "b 3 h w"]:
    portions = TolerantViews(source, student=view).loader(32, shuffle=False, drop_last=False)
    batches = [each.batch.student for each in portions if each.batch is not None]
    require(bool(batches), "none of the images to calibrate on can be read", _TODO)
    return torch.cat(batches)


def text(found: Mapping[str, Any], out: Path) -> list[str]:
    """What is told to people."""
    *_, taken = found["tried"]
    tried = "; ".join(f"{name}: {100 * each:.1f} %" for name, each in found["tried"].items())
    before, after = found["latency_ms"]["float"], found["latency_ms"]["int8"]
    lines = [
        f"{out / FILE}: {found['size_ratio']:.2f} of the size ({found['bytes']['int8'] / 2**20:.1f} MiB)",
        f"  the same answer for {100 * found['agreement']:.2f} % of {found['images']} images{_top1(found)}",
        f"  ranges of activations: {taken}, from {found['calibrated_on']} images",
        f"  one image takes {_time(after)}, in float {_time(before)}, on {after['threads']} threads here",
    ]
    if len(found["tried"]) > 1:
        lines.append(f"  tried, with the share of equal answers on images set apart for that: {tried}")
    if found["agreement"] < 0.99:
        lines.append("  more than one answer in a hundred has changed: look at these images before you use it")
    return lines


def _time(found: Mapping[str, float]) -> str:
    return f"{found['median']:.2f} ms ({found['p10']:.2f} to {found['p90']:.2f})"


def _top1(found: Mapping[str, Any]) -> str:
    if found["top1_float"] is None:
        return ""
    return f"; top-1 {100 * found['top1_int8']:.2f} %, in float {100 * found['top1_float']:.2f} %"
