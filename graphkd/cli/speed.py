"""graphkd doctor --speed: what was measured on this machine, and what an epoch of ImageNet would take."""

from dataclasses import asdict
from typing import Any

from graphkd.cli.commands.doctor import Measured
from graphkd.cli.console import Console
from graphkd.data.opening import ImageData
from graphkd.training.devices import device_of
from graphkd.training.speed import IMAGENET, measure_speed

_PARTS = ("decode", "student_view", "teacher_view", "store", "teacher", "step")
_NAMED = 5  # unreadable images


def facts_of(measured: Measured, console: Console) -> dict[str, Any]:
    """What a script reads: what was measured, images a second of each part, and of training by either teacher."""
    device = device_of(measured.device)
    source = None if measured.data is None else ImageData(data=measured.data, say=console.remark).pixels()
    found = measure_speed(
        source,
        student=measured.student,
        method=measured.method,
        teacher=measured.teacher,
        size=measured.size,
        batch_size=measured.batch_size,
        processes=measured.workers,
        device=device,
        say=lambda line: console.remark(f"speed: {line}"),
    )
    facts = asdict(found)
    rates = {part: facts.pop(part) for part in _PARTS}
    asked = {name: getattr(measured, name) for name in ("student", "method", "teacher", "size")}
    asked["data"] = None if measured.data is None else str(measured.data)
    epochs = {
        f"{kind}_teacher": {
            "images_per_second": found.images_per_second(live),
            "limit": found.limit(live),
            "imagenet_epoch_hours": found.hours(live=live),
        }
        for kind, live in (("stored", False), ("live", True))
    }
    return {**asked, **facts, "images_per_second": rates, **epochs}


def lines_of(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    where, size, count = facts["device"], facts["size"], facts["processes"]
    of_images = f"{facts['data'] or 'made JPEG files of 256 to 500 pixels'}, {facts['file_bytes'] / 1000:.0f} kB each"
    of_parts = {
        "decode": f"decoded by one process: {of_images}",
        "student_view": f"random crops for the student, {size} pixels, by one process",
        "teacher_view": "views for the teacher, which only a live one needs, by one process",
        "store": "of a teacher's answers read from a store",
        "teacher": f"through the teacher {facts['teacher']} on the {where}",
        "step": f"trained: {facts['student']}, {facts['method']}, batches of {facts['batch_size']}, on the {where}",
    }
    lines = [f"images a second, each part alone ({count} processes would load images):"]
    lines += [f"  {_short(facts['images_per_second'][part])}  {text}" for part, text in of_parts.items()]
    if bad := facts["unreadable"]:
        more = ", ..." if len(bad) > _NAMED else ""
        lines.append(f"  {len(bad)} of the images cannot be read: {', '.join(bad[:_NAMED])}{more}")
    lines.append(f"an epoch of ImageNet-1k, {IMAGENET:,} images, computed from these:")
    for name in ("stored", "live"):
        each = facts[f"{name}_teacher"]
        lines.append(
            f"  {_short(each['imagenet_epoch_hours'])}  hours with a {name} teacher, at "
            f"{_short(each['images_per_second']).strip()} images a second; the limit is {each['limit']}"
        )
    return lines


def _short(value: float) -> str:
    return f"{value:9,.0f}" if value >= 100 else f"{value:9,.1f}"
