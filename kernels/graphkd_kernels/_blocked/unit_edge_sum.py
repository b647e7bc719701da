r"""SP and ICKD: rows of both Grams scaled to unit length, and their squared difference, without the Grams.

With targets' U = S + T, V = S - T (both sides first scaled to one size, which changes nothing), unit rows are
:math:`\hat p_i = S \hat s_i`, :math:`\hat s_i = s_i / \lVert S s_i \rVert`, and their difference is that of plain edges
of other sources: :math:`E_i = (V u_i + U v_i) / 2` with :math:`u = \hat s + \hat t, v = \hat s - \hat t`. So
:math:`\lVert E_i \rVert^2 = 2 - 2 c_i` keeps its digits near convergence, and costs O(D^2) for each row.
"""

import torch
from torch import Tensor

from graphkd_kernels._blocked.blocks import Nodes, in_groups
from graphkd_kernels._blocked.joint_rows import JointRows, joined_slices
from graphkd_kernels.autograd import Found, Maybe, Needs, Rule, apply, register
from graphkd_kernels.grams import Grams, join_mapped, split
from graphkd_kernels.plans import Sizes, unit_path

__all__ = ["unit_edge_sum"]


def _gradients(needs: Needs, xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Found:
    return in_groups(_by_grams, needs, (xs, ys, xt, yt), xs.shape[-1] + xt.shape[-1])


def _formula(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    x, width = (xs.double(), xt.double()), xs.shape[-1]
    y, y_t = x if ys is None or yt is None else (ys.double(), yt.double())
    both = join_mapped(y * _inverse_size(y), y_t * _inverse_size(y_t))
    grams = split(both.mT @ both, width, width)
    units = [
        each * _inverse_root((each @ own * each).sum(-1, keepdim=True))
        for each, own in zip(x, grams.own(), strict=True)
    ]
    sources = join_mapped(*units)
    return split(sources.mT @ sources, width, width).squares(grams).to(xs.dtype)


def _by_grams(nodes: Nodes, needs: Needs) -> Found:
    """26 N D^2 operations, value and student's gradient."""
    xs, ys, xt, yt = nodes
    y = (xs, xt) if ys is None or yt is None else (ys, yt)
    scale = _inverse_size(y[0]), _inverse_size(y[1])
    targets = JointRows(y[0] * scale[0], y[1] * scale[1], "gram")
    wanted = needs[0] or needs[1], needs[2] or needs[3]
    passed = _Pass((xs, xt), targets.grams(), wanted)
    value = passed.run()
    of_y = targets.gradients(passed.factors(), wanted)
    found: list[Maybe] = []
    for of_x, of_target, each in zip(passed.gradients, of_y, scale, strict=True):
        if of_x is None or of_target is None:
            found += [None, None]
        else:
            of_target.mul_(each)
            found += [of_x.add_(of_target), None] if ys is None else [of_x, of_target]
    return value, tuple(found)


class _Pass:
    """One pass over the sources: value, their gradients, and sums for the gradients of the targets."""

    def __init__(self, sources: tuple[Tensor, Tensor], targets: Grams, wanted: tuple[bool, bool]) -> None:
        x = sources[0]
        batch, _, width = x.shape
        p, q, w = (each.to(x.dtype) for each in targets[:3])
        self.turn = torch.cat([torch.cat([w.mT, q], -1), torch.cat([p, w], -1)], -2) / 2
        self.own = tuple(each.to(x.dtype) for each in targets.own())
        self.sources, self.wanted = sources, wanted
        self.gradients = [torch.empty_like(each) if want else None for each, want in zip(sources, wanted, strict=True)]
        self.crossed = [x.new_zeros(batch, 2 * width, width) for _ in sources]  # [u v]' times unit rows
        self.weighed = [x.new_zeros(batch, width, width) for _ in sources]  # unit rows squared, weighed by 1 - c

    def run(self) -> Tensor:
        """The sum of squares."""
        x = self.sources[0]
        value = torch.zeros((), dtype=torch.float64, device=x.device)
        for part in joined_slices(len(x), x.shape[1], 2 * x.shape[2]):
            value = value + self._block(part)
        return value

    def factors(self) -> tuple[Tensor, Tensor]:
        """What the targets' joined rows are multiplied by."""
        (u, v), (p, q) = (each.chunk(2, -2) for each in self.crossed)
        s, t = self.weighed
        return torch.cat([v - s, u - s], -2), torch.cat([-q - t, t - p], -2)

    def _block(self, part: slice) -> Tensor:
        rows = [_unit(x[:, part], own) for x, own in zip(self.sources, self.own, strict=True)]
        both = join_mapped(rows[0][0], rows[1][0])
        (u, v), (eu, ev) = both.chunk(2, -1), (both @ self.turn).chunk(2, -1)  # E U and E V
        squares = (torch.linalg.vecdot(ev, u) + torch.linalg.vecdot(eu, v)).unsqueeze(-1).mul_(0.5)
        alive = [(inverse > 0).to(squares.dtype) for _, _, inverse in rows]  # lengths of unit rows
        for k, (unit, turned, inverse) in enumerate(rows):
            gradient = self.gradients[k]
            if gradient is None:
                continue
            far = (squares + alive[k] - alive[1 - k]).mul_(0.5)  # 1 - c
            pulled = torch.add(ev, eu, alpha=1 - 2 * k).mul_(0.5)
            gradient[:, part] = pulled.addcmul_(far, turned, value=-1).mul_(2 * inverse)
            self.crossed[k].baddbmm_(both.mT, unit)
            self.weighed[k].baddbmm_((far * unit).mT, unit)
        value: Tensor = squares.sum(dtype=torch.float64)
        return value


def _unit(x: Tensor, gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows x / |S x|, these times S'S, and 1 / |S x|; dead rows are 0."""
    turned = x @ gram
    inverse = _inverse_root(torch.linalg.vecdot(turned, x).unsqueeze(-1))
    return x * inverse, turned.mul_(inverse), inverse


def _inverse_root(squares: Tensor) -> Tensor:
    """1 / root, 0 for a dead row, without gradient."""
    dead = squares <= 0
    return torch.where(dead, 0.0, torch.where(dead, 1.0, squares).rsqrt())


def _inverse_size(x: Tensor) -> Tensor:
    """1 over the Frobenius norm of each graph, 1 for zeros; a constant, as the loss does not depend on it."""
    squares = x.detach().square().sum((-2, -1), keepdim=True)
    return torch.where(squares == 0, 1.0, squares).rsqrt()


register("unit_edges", Rule(_gradients, _formula))


def unit_edge_sum(xs: Tensor, ys: Maybe, xt: Tensor, yt: Maybe) -> Tensor:
    """The sum of squares, by the path that is less work."""
    path = unit_path(Sizes.of(xs.shape, None if ys is None else ys.shape, xt.shape))
    if path == "D x D":
        return apply("unit_edges", (), xs, ys, xt, yt)
    return apply("edge_penalty", ("gram", "unit", 1.0), xs, ys, xt, yt)
