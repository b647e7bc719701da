r"""The Gram matrix of both networks' joined rows as an operation of its own: what ranks exchange in place of nodes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from graphkd_kernels import reference
from graphkd_kernels._blocked.joined import Side
from graphkd_kernels.autograd import Maybe, Needs, Options, Rule, apply, register


class JointGram(Rule):
    """J'J of rows (n, d) of both networks. Options: (relation)."""

    def gradients(self, options: Options, needs: Needs, *tensors: Maybe) -> tuple[Tensor, tuple[Maybe, ...]]:
        """The matrix; its gradient waits for the upstream one."""
        p, q, w, _ = self._side(options, tensors).grams()
        gram = torch.cat([torch.cat([p, w], -1), torch.cat([w.mT, q], -1)], -2).squeeze(0)
        first = tensors[0]
        assert first is not None
        # Sums over many rows are float64; equal widths need no more digits than their rows have (joined.py).
        return (gram.to(first.dtype) if p.shape == q.shape else gram.double()), ()

    def finish(
        self, options: Options, needs: Needs, upstream: Tensor, tensors: Sequence[Maybe], kept: Sequence[Maybe]
    ) -> tuple[Maybe, ...]:
        """Joined rows times both orientations of the upstream gradient, one product for each network."""
        side = self._side(options, tensors)
        both, (width, other) = (upstream + upstream.mT).unsqueeze(0), side.widths
        of_first, of_second = both[..., :width], both[..., width:]
        if width == other:
            of_first, of_second = of_first + of_second, of_first - of_second
        found = side.gradients((of_first, of_second), (needs[0], needs[1]))
        return tuple(None if each is None else each.squeeze(0) for each in found)

    def formula(self, options: Options, *tensors: Maybe) -> Tensor:
        """The reference."""
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        value: Tensor = reference.joint_gram(student, teacher, options[0])
        return value

    def _side(self, options: Options, tensors: Sequence[Maybe]) -> Side:
        student, teacher = tensors
        assert student is not None
        assert teacher is not None
        return Side(student.unsqueeze(0), teacher.unsqueeze(0), options[0])


register("joint_gram", JointGram())


def joint_gram(student: Tensor, teacher: Tensor, relation: str) -> Tensor:
    """The matrix, its gradient in blocks of rows."""
    return apply("joint_gram", (relation,), student, teacher)
