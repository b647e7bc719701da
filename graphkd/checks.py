"""What every loss checks and prepares once: its tensors and their shapes."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import reduce, wraps
from inspect import signature
from itertools import chain, repeat
from typing import Any, Final, ParamSpec, Protocol, cast, get_args

import torch
from jaxtyping import AbstractArray

from graphkd import distributed
from graphkd.errors import ArgumentTypeError, ShapeError
from graphkd.features import COMPUTE, PARTS, Features, ordinary
from graphkd.typing import Tensor

P = ParamSpec("P")
_SIDES: Final = ("student", "teacher")
_REAL: Final = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})


class TensorLoss(Protocol[P]):
    """A loss of the samples that it is given; ``over_ranks`` is the same loss over the samples of all ranks.

    A distiller's term calls ``over_ranks`` with tensors that are checked and prepared already.
    """

    over_ranks: Callable[P, Tensor]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """The loss of these samples."""


def tensor_loss(function: Callable[P, Tensor]) -> TensorLoss[P]:
    """Make a public loss: checked tensors, full precision, a teacher without gradient, no other rank's samples.

    Arguments named ``teacher...`` are detached. Student's and teacher's tensors get the widest dtype among them, at
    least float32, and autocast is off inside. Raises: ArgumentTypeError, ShapeError as of :func:`check_tensors`.
    """
    holds = {name: _holds(each.annotation) for name, each in signature(function).parameters.items()}

    @wraps(function)
    def loss(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        found: dict[str, Any] = {}
        for name, part in chain(zip(holds, args, strict=False), kwargs.items()):
            kind = holds.get(name, "")
            if kind == "several" and isinstance(part, (list, tuple)):
                found.update({f"{name}[{i}]": each for i, each in enumerate(part)})
            elif kind and not (part is None and kind == "optional"):
                found[name] = part
        if not found:
            return function(*args, **kwargs)  # Python says which arguments are missing
        with distributed.alone():
            device = check_tensors(found)
            dtypes = (each.dtype for name, each in found.items() if name.startswith(_SIDES))
            dtype = reduce(torch.promote_types, dtypes, torch.float32)

            def ready(name: str, part: Any) -> Any:
                return _ready(part, dtype, name.startswith("teacher"))

            positional = map(ready, chain(holds, repeat("")), args)  # too many are Python's error, as of any function
            with full_precision(device):
                return function(*positional, **{name: ready(name, part) for name, part in kwargs.items()})

    made = cast(TensorLoss[P], loss)
    made.over_ranks = function
    return made


def _holds(annotation: Any) -> str:
    """Whether an argument is ``"one"`` tensor, an ``"optional"`` one, or ``"several"``; empty if it is none."""
    kinds = get_args(annotation) or (annotation,)
    if not any(isinstance(each, type) and issubclass(each, AbstractArray) for each in kinds):
        return ""
    return "one" if annotation in kinds else "optional" if type(None) in kinds else "several"


def _ready(part: Any, dtype: torch.dtype, constant: bool) -> Any:
    if isinstance(part, (list, tuple)):
        return [_ready(each, dtype, constant) for each in part]
    if not isinstance(part, Tensor):
        return part
    part = ordinary(part.detach() if constant else part)
    return part.to(dtype) if part.is_floating_point() else part


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Autocast off inside; nothing to do where it is off already."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


def check_tensors(tensors: Mapping[str, Any]) -> torch.device:
    """Refuse what no loss can be computed of, before a kernel sees it.

    Args:
        tensors: at least one, by name for the message; those named ``student...`` or ``teacher...`` are features.

    Returns: the device of all of them.

    Raises: ArgumentTypeError for anything else than a tensor. ShapeError for a sparse tensor, for one without
        dimensions, for one on another device than the first, for features that are no real floating point of 16 bits
        or more, and for features of width 0 or without samples. A rank among others may have no samples.
    """
    for name, each in tensors.items():
        if not isinstance(each, Tensor):
            kind = type(each).__name__
            raise ArgumentTypeError(f"{name} is a {kind}, a tensor was expected: make it one by torch.as_tensor(...)")
        if each.layout != torch.strided:
            raise ShapeError(f"{name} is a {each.layout} tensor, a dense one was expected: call .to_dense() on it")
        if each.ndim == 0:
            raise ShapeError(f"{name} has no dimension, one row for each sample was expected: call .unsqueeze(0) on it")
        if name.startswith(_SIDES):
            _check_features(name, each)
    first = next(iter(tensors))
    device: torch.device = tensors[first].device
    for name, each in tensors.items():
        if each.device != device:
            raise ShapeError(
                f"{name} is on {each.device} and {first} on {device}, one device was expected: call .to('{device}')"
            )
    return device


def _check_features(name: str, features: Tensor) -> None:
    if features.dtype not in _REAL:
        small = features.is_floating_point() and not features.is_complex()
        what = "at least 16 bits of real floating point" if small else "real floating point"
        raise ShapeError(f"{name} is {features.dtype}, {what} was expected: call .float() on it")
    if 0 in features.shape[1:] or (len(features) == 0 and distributed.world_size() == 1):
        raise ShapeError(
            f"{name} {_show(features)} is empty, at least one sample and one feature were expected: "
            "leave out an empty batch, and features of width 0"
        )


def ready_features(
    student: Features, teacher: Features, keep: Callable[[torch.device], bool] | None = None
) -> tuple[Features, Features]:
    """Both records, checked, in the precision that losses are computed in; the teacher's without gradient.

    That precision is float32, or float64 where the student is in float64; ``keep``: whether
    16-bit tensors on a device stay as they are; default nowhere.

    Raises: ArgumentTypeError, ShapeError as of :func:`check_tensors`; ShapeError for other samples or devices.
    """
    if not _usual(student, teacher, keep):
        for side, features in zip(_SIDES, (student, teacher), strict=True):
            _check_record(side, features)
        teacher = teacher.detach()
        double = any(each.dtype == torch.float64 for side in (student, teacher) for each in side.tensors())
        if keep is not None and keep(student.device) and not double:
            student, teacher = student.map_tensors(ordinary), teacher.map_tensors(ordinary)
        else:
            student, teacher = student.as_float32(), teacher.as_float32()
            if any(each.dtype != student.dtype for each in teacher.tensors()):
                teacher = teacher.map_tensors(lambda value: value.to(student.dtype))
    if len(student) != len(teacher):
        raise ShapeError(
            f"student features of {len(student)} samples and teacher features of {len(teacher)}: "
            "both need the same samples in the same order"
        )
    if student.device != teacher.device:
        raise ShapeError(
            f"student features are on {student.device}, teacher features on {teacher.device}: "
            f"call teacher_features.to('{student.device}')"
        )
    return student, teacher


def _usual(student: Features, teacher: Features, keep: Callable[[torch.device], bool] | None) -> bool:
    """Whether there is nothing to refuse and nothing to convert, as in nearly every batch."""
    if torch.compiler.is_compiling():
        return False
    dtype = device = None
    for features in (student, teacher):
        for part in PARTS:
            value = getattr(features, part)
            if value is None:
                continue
            for each in value.values() if isinstance(value, dict) else (value,):
                if not isinstance(each, Tensor) or each.layout != torch.strided or not each.ndim or not each.numel():
                    return False
                dtype, device = dtype or each.dtype, device or each.device
                if each.dtype != dtype or each.device != device or each.is_inference():
                    return False
                if features is teacher and each.requires_grad:
                    return False
    if keep is not None and device is not None and dtype in (torch.float16, torch.bfloat16):
        return keep(device)
    return dtype in COMPUTE


def _check_record(side: str, features: Features) -> None:
    """:func:`check_tensors` of all that the record of one side holds. Raises: as there."""
    found: dict[str, Any] = {}
    for part in PARTS:
        value = getattr(features, part)
        if isinstance(value, Mapping):
            found |= {f"{side} {part}[{name!r}]": each for name, each in value.items()}
        elif value is not None:
            found[f"{side} {part}"] = value
    check_tensors(found)


def same_samples(student: Tensor, teacher: Tensor, ndim: int | None = None) -> None:
    """Both sides hold the same samples in tensors of ``ndim`` dimensions."""
    if ndim is not None and not student.ndim == teacher.ndim == ndim:
        raise ShapeError(
            f"expected {ndim} dimensions, found student {_show(student)} and teacher {_show(teacher)}: "
            + ("flatten each sample to one row" if ndim == 2 else "maps are (batch, channels, height, width)")
        )
    if len(student) != len(teacher):
        raise ShapeError(
            f"student {_show(student)} and teacher {_show(teacher)} differ in samples: "
            "give both sides the same batch in the same order"
        )


def same_shape(student: Tensor, teacher: Tensor, what: str, remedy: str) -> None:
    """Both sides have one shape."""
    if student.shape != teacher.shape:
        raise ShapeError(f"student {what} {_show(student)} and teacher {what} {_show(teacher)} differ: {remedy}")


def same_logits(student: Tensor, teacher: Tensor) -> None:
    """Logits (b, c) of the same samples over the same classes."""
    same_samples(student, teacher, 2)
    same_shape(student, teacher, "logits", "both networks need the same classes in the same order")


def same_embeddings(student: Tensor, teacher: Tensor) -> None:
    """Embeddings (b, d) of the same samples in the same space."""
    same_samples(student, teacher, 2)
    same_shape(student, teacher, "embeddings", f"project the student to width {teacher.shape[-1]}")


def same_maps(student: Tensor, teacher: Tensor, channels: bool = False) -> None:
    """Maps (b, c, h, w) of the same samples; ``channels``: of equal channels."""
    same_samples(student, teacher, 4)
    if channels and student.shape[1] != teacher.shape[1]:
        raise ShapeError(
            f"student maps {_show(student)} and teacher maps {_show(teacher)} differ in channels: "
            f"adapt the student by a 1x1 convolution to {teacher.shape[1]} channels"
        )


def _show(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
