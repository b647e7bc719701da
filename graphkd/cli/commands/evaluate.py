"""graphkd evaluate: scores of a student, an exported model or a teacher, by labels or by what the teacher says."""

from dataclasses import dataclass
from typing import Any

from graphkd.cli.console import Console
from graphkd.cli.option_groups import OfNetworks, require_classifier


@dataclass(frozen=True, kw_only=True)
class Evaluate(OfNetworks):
    """Score a student or a teacher: top-1, top-5, calibration, each class.

    A CLIP-like teacher is scored zero-shot, by averaged text embeddings and by weighted prompt logits. On images without
    labels a student is compared with the teacher of its run: agreement, confidence, calibration, classes in effect. With
    --teacher it is compared with that one, on labelled images too.

    Args:
        model: run folder of graphkd distill or of a Trainer, a folder of graphkd export, or one of its .onnx files.
        per_class: also each class: images, share right, and what it is taken for.

    Example::

        # a distilled student on other images
        graphkd evaluate --model runs/photos-1 --data more-photos

        # a student beside a teacher, whether the images have labels or not
        graphkd evaluate --model runs/photos-1 --teacher ViT-B-32 --pretrained openai --data more-photos

        # what a teacher can do before you learn from it
        graphkd evaluate --teacher ViT-B-32 --pretrained openai --data photos

        # in a script
        graphkd evaluate --model runs/photos-1 --data more-photos --json | python -c 'import json,sys; print(json.load(sys.stdin)["top1"])'
    """  # noqa: E501

    per_class: bool = True

    def __post_init__(self) -> None:
        require_classifier(self.model, self.teaching.teacher, both=True)


def run(config: Evaluate, *, console: Console) -> int:
    """Scores of a student, an exported model or a teacher."""
    from graphkd.cli import scoring
    from graphkd.cli.quality import lines_of

    console.go_on = ("nothing is written before the end", "run the command again")
    look = scoring.of_teacher if config.model is None else scoring.of_student
    classes, found, quality = look(config, console)
    each = {name: scoring.facts(scores) for name, scores in found.items()}
    if config.per_class:
        for name, scores in found.items():
            each[name]["per_class"] = scoring.per_class(scores.confusion, classes)
    lines = [scoring.text(name, scores) for name, scores in each.items()]
    data: dict[str, Any] = next(iter(each.values())) if len(each) == 1 else dict(each)
    if quality is not None:
        first, *others = lines_of(quality)
        lines += [f"{config.model}: {first}", *others]
        data["quality"] = quality if config.per_class else {**quality, "per_class": None}
    console.result(data, "\n".join(lines))
    return 0
