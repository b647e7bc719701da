"""The spectral norm of a difference of edges: unlike every other alignment no function of a sum over entries."""

from dataclasses import dataclass, field

import torch

from graphkd import distributed
from graphkd.errors import OptionError
from graphkd.graphs.alignments import MSE, Alignment, Outer, Penalty
from graphkd.graphs.spectral import decomposed
from graphkd.typing import Float, Tensor


@dataclass(frozen=True)
class SpectralNorm(Alignment):
    r"""Largest singular value of the difference of two blocks of edges, :math:`\lVert E^S - E^T \rVert_2`.

    EGA prints this norm and computes the Frobenius norm. Costs a singular value decomposition of the whole matrix.

    Shapes: student (n, m), teacher (n, m), rows of this rank -> scalar.
    Raises: ShapeError if the blocks differ in shape, OptionError for weights.
    """

    name: str = "spectral"
    penalty: Penalty = field(default=MSE.penalty, repr=False)
    outer: Outer = field(default=MSE.outer, repr=False)

    def __call__(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Float[Tensor, ""]:
        """The norm over the rows of all ranks."""
        if weight is not None:
            raise OptionError("the spectral norm takes no weight of single edges: use 'frobenius'")
        self._sum(student, teacher, None)  # checks the shapes
        difference = student - teacher
        rows = distributed.sizes(len(difference), difference.device)
        (values,) = decomposed(torch.linalg.svdvals, distributed.gather(difference, rows))
        return values.amax()
