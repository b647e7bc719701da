"""Named loss terms of one step, and cross-entropy where some samples have no label (one below 0)."""

from collections.abc import Mapping

import torch
from torch.nn import functional

from graphkd.errors import DataError, MissingFeatureError, OptionError, ShapeError
from graphkd.features import as_compute
from graphkd.typing import Float, Int, Tensor


class Losses(dict[str, Tensor]):
    """Terms by name, ``"<distiller>/<term>"``, weights inside; a plain ``dict`` to everything that handles outputs.

    Example::

        losses = Losses({"prg/node": torch.tensor(1.0), "prg/edge": torch.tensor(0.5)})
        losses.total                    # tensor(1.5)
    """

    @property
    def total(self) -> Tensor:
        """Sum of the terms.

        Raises: MissingFeatureError if there is none.
        """
        if not self:
            raise MissingFeatureError("there is no loss term to sum: every weight is 0, or no distiller was given")
        first, *others = self.values()
        return sum(others, start=first)

    def joined(self, other: Mapping[str, Tensor]) -> "Losses":
        """Both sets of terms. Raises: OptionError for a name that occurs in both."""
        twice = sorted(self.keys() & other.keys())
        if twice:
            raise OptionError(
                f"two distillers give the terms {', '.join(twice)}: rename one of them, distiller.name = 'another'"
            )
        return Losses({**self, **other})


def labelled(target: Int[Tensor, " b"], logits: Float[Tensor, "b c"]) -> tuple[Int[Tensor, " b"], Float[Tensor, " b"]]:
    """Indices of classes, and what each sample counts: 1 with a label, 0 without.

    A label of c or more is an error on the CPU. On a GPU a look at the labels would wait for the device: there such a
    sample counts NaN, so the loss is NaN and the update is refused.

    Args:
        target: labels in [0, c), below 0 where there is none.
        logits: c for each sample.
    Shapes: (b,), (b, c) -> (b,) and (b,); the index of a sample that does not count is some class.
    Raises: ShapeError unless there is one integer for each sample; DataError for a label of c or more on the CPU.
    Example: ``labelled(torch.tensor([2, -1]), torch.zeros(2, 3))`` is ``[2, 0]`` and ``[1, 0]``.
    """
    if target.shape != logits.shape[:1] or target.is_floating_point() or target.is_complex():
        raise ShapeError(
            f"target {tuple(target.shape)} ({target.dtype}) and logits {tuple(logits.shape)} do not fit: "
            "give one integer label for each sample"
        )
    classes = logits.shape[1]
    unknown = target >= classes
    if target.device.type == "cpu" and not torch.compiler.is_compiling() and unknown.any():
        raise DataError(
            f"labels of {classes} classes lie in [0, {classes}), below 0 for a sample without a label, found "
            f"{int(target.max())}: do the labels belong to the classes of these logits?"
        )
    counted = torch.where(unknown, torch.nan, (target >= 0).to(logits.dtype))
    return target.long().clamp(0, classes - 1), counted


def only_counted(losses: Float[Tensor, " b"], counted: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Losses of the samples that count; 0 for the others, whatever theirs is."""
    return torch.where(counted == 0, 0.0, counted * losses)


def cross_entropy(
    logits: Float[Tensor, "b c"], target: Int[Tensor, " b"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Cross-entropy of each sample, 0 where there is no label, and what the sample counts (:func:`labelled`)."""
    logits = as_compute(logits)
    index, counted = labelled(target, logits)
    return only_counted(functional.cross_entropy(logits, index, reduction="none"), counted), counted
