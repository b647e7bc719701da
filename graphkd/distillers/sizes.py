"""Widths of the features of student and teacher, read off a Tap, a Teacher, a store, or the Features of one batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from graphkd.errors import ArgumentTypeError, MissingFeatureError, OptionError, ShapeError
from graphkd.features import Features
from graphkd.registry import unknown

MapPairs = Mapping[str, str] | None


@dataclass(frozen=True)
class Sizes:
    """What is known of one network.

    Args:
        embedding_dim: width of the embedding.
        num_classes: number of logits.
        maps: channels of each map, known only from a batch.
        tokens: width of the tokens of each sequence, known only from a batch.
        samples: length of a store.
    """

    embedding_dim: int | None = None
    num_classes: int | None = None
    maps: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    samples: int | None = None

    @classmethod
    def of(cls, source: Any) -> "Sizes":
        """The sizes of a Tap, a Teacher, a store, or Features."""
        if not isinstance(source, Features):
            samples = len(source) if hasattr(source, "__len__") else None
            return cls(getattr(source, "embedding_dim", None), getattr(source, "num_classes", None), samples=samples)
        width, classes = (None if x is None else x.shape[-1] for x in (source.embedding, source.logits))
        maps = {name: each.shape[1] for name, each in (source.maps or {}).items()}
        return cls(width, classes, maps, {name: each.shape[2] for name, each in (source.tokens or {}).items()})


def measure(
    student: Any, teacher: Any, names: Sequence[str], reader: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The sizes of those names.

    Args:
        student, teacher: a Tap, a Teacher, a store, or Features.
        names: arguments of a constructor.
        reader: who asks, for the message.
        options: other arguments; ``maps`` or ``pairs`` say which of them are compared.

    Raises: MissingFeatureError for a size that neither tells; ArgumentTypeError where one is a plain network.
    """
    s, t = Sizes.of(student), Sizes.of(teacher)
    found: dict[str, Any] = {
        "student_dim": s.embedding_dim,
        "teacher_dim": t.embedding_dim,
        "num_classes": s.num_classes if s.num_classes is not None else t.num_classes,
        "num_samples": t.samples,
    }
    for name, part in (("channels", "maps"), ("token_dims", options.get("on", "tokens"))):
        if name not in names:
            continue
        widths = getattr(s, part), getattr(t, part)
        if all(widths):
            pairs = pair_names(options.get(part, options.get("pairs")), *widths, part, reader)
            found[name] = [(widths[0][a], widths[1][b]) for a, b in pairs]
    for name in names:
        if found.get(name) is None:
            refuse_plain(student, teacher)
            raise MissingFeatureError(
                f"{reader} needs {name}, which neither {type(student).__name__} nor {type(teacher).__name__} tells: "
                f"give {name}=..., or Features of one batch: between(student(images), teacher(images))"
            )
    return {name: found[name] for name in names}


def without_classes(student: Any) -> bool:
    """Whether a student is a backbone: it has an embedding, and is known to have no classes."""
    found = Sizes.of(student)
    return found.embedding_dim is not None and found.num_classes is None


def refuse_plain(student: Any, teacher: Any) -> None:
    """Say what to do with a network that gives no Features. Raises: ArgumentTypeError."""
    for side, source, remedy in (("student", student, "Tap(...)"), ("teacher", teacher, "ClassifierTeacher(...)")):
        if isinstance(source, nn.Module) and not hasattr(source, "embedding_dim"):
            raise ArgumentTypeError(
                f"the {side} is a plain {type(source).__name__}, which gives no Features: wrap it in {remedy}"
            )


def pair_names(
    pairs: MapPairs, student: Mapping[str, Any], teacher: Mapping[str, Any], part: str, reader: str
) -> list[tuple[str, str]]:
    """Which of the student's maps (or tokens) meets which of the teacher's: as given, or in order.

    Raises: UnknownNameError for a name that is absent; ShapeError for different numbers of them.
    """
    if pairs is None:
        if len(student) != len(teacher):
            raise ShapeError(
                f"{reader} pairs {part} in order, and the student has {len(student)} ({', '.join(student)}), the "
                f"teacher {len(teacher)} ({', '.join(teacher)}): name the pairs, {part}={{student: teacher}}"
            )
        return list(zip(student, teacher, strict=True))
    if not pairs:
        raise OptionError(f"{reader} has no {part} to compare: name at least one pair, {part}={{student: teacher}}")
    for known, names in ((student, pairs.keys()), (teacher, pairs.values())):
        for name in names:
            if name not in known:
                raise unknown(f"one of the {part}", name, list(known))
    return list(pairs.items())
