"""graphkd evaluate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from graphkd.cli.configs.look import Evaluate
from graphkd.cli.console import Console
from graphkd.cli.errors import UsageError
from graphkd.cli.images import image_data, require_labels
from graphkd.cli.networks import device_of, open_student, open_teacher, run_classes, teacher_view
from graphkd.cli.parse import resolved
from graphkd.cli.scoring import facts, teacher_scores, text
from graphkd.data.class_names import Classes
from graphkd.data.sources import ImageSource
from graphkd.data.transforms import CenterView, Transform
from graphkd.data.views import Views
from graphkd.files import write_json
from graphkd.text import read_json
from graphkd.training.metrics import Scores, evaluate
from graphkd.typing import Tensor


def run(config: Evaluate, console: Console) -> int:
    """Scores of a student, an exported model or a teacher."""
    console.go_on = ("nothing is written before the end", "run the command again")
    classes, found = _student(config, console) if config.model is not None else _teacher(config, console)
    each = {name: facts(scores, classes, config.per_class) for name, scores in found.items()}
    data = next(iter(each.values())) if len(each) == 1 else each
    console.result(data, "\n".join(text(name, scores) for name, scores in each.items()))
    if config.out is not None:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(config.out, {"scores": each, "options": resolved(config)})
    return 0


def _student(config: Evaluate, console: Console) -> tuple[list[str] | None, dict[str, Scores]]:
    device = device_of(config.running.device)
    assert config.model is not None
    model: Callable[[Tensor], Any]
    if config.model.suffix == ".onnx":
        (model, about), device = _exported(config.model), torch.device("cpu")
    else:
        tap, about = open_student(config.model, config.which)
        model = tap.to(device)
    source = image_data(config.images, console).open("test", about["classes"])
    batches = _loader(config, source, CenterView(about["size"]), console)
    return Classes(about["classes"]).distinct, {str(config.model): evaluate(model, batches, device)}


def _teacher(config: Evaluate, console: Console) -> tuple[list[str] | None, dict[str, Scores]]:
    device = device_of(config.running.device)
    source = image_data(config.images, console).open("test", run_classes(config.teaching))
    teacher = open_teacher(config.teaching, source.classes, device)
    if teacher.num_classes is None:
        raise UsageError(
            "this teacher has no class scores for these images: its own classes are others, or it has none",
            "evaluate a CLIP-like teacher, or a classifier of these classes",
        )
    batches = _loader(config, source, teacher_view(teacher, config.teaching.teacher_size), console)
    found = teacher_scores(teacher, batches, lambda batch: teacher(batch.student.to(device)), device)
    return Classes(source.classes or ()).distinct or None, found


def _loader(config: Evaluate, source: ImageSource, view: Transform, console: Console) -> Any:
    require_labels(source, "scoring")
    views = Views(source, student=view, labels=True)
    loader = views.loader(config.running.batch_size, shuffle=False, drop_last=False, workers=config.running.workers)
    batches: Any = console.bar(loader, len(loader), "scoring")
    return batches


def _exported(path: Path) -> tuple[Callable[[Tensor], Tensor], dict[str, Any]]:
    """An ONNX model of ``graphkd export`` as a callable, run by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    try:
        about: dict[str, Any] = read_json(path.with_name("export.json"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path.with_name('export.json')}: {error}", "export the student again") from error

    def logits(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    return logits, about
