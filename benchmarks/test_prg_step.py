"""pytest benchmarks/test_prg_step.py --benchmark-only: all terms of PRG, from features to gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.conftest import FORMS, random
from graphkd import Features, PRGDistiller

SHAPES = [pytest.param(64, 100, 512, 768, marks=pytest.mark.quick), (256, 1000, 512, 768)]


def rows(x: Tensor) -> Tensor:
    """Centred, of unit length, as published."""
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=1, keepdim=True)


def losses(distiller: PRGDistiller) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """The distiller's total, and the equations of docs/methods/prg.md written out with its projector."""
    exact = {torch.float32: distiller, torch.float64: PRGDistiller(512, 768, distiller.labels.prior.numel()).double()}
    exact[torch.float64].load_state_dict(distiller.state_dict())

    def ours(f: Tensor, z: Tensor, w: Tensor, g: Tensor, ft: Tensor, zt: Tensor, wt: Tensor, gt: Tensor) -> Tensor:
        return distiller(Features(f, z, w, g), Features(ft, zt, wt, gt)).total

    def official(f: Tensor, z: Tensor, w: Tensor, g: Tensor, ft: Tensor, zt: Tensor, wt: Tensor, gt: Tensor) -> Tensor:
        projector = exact[f.dtype].graph.projector
        node = (rows(ft) @ rows(projector(f, "student")).T + rows(zt) @ rows(z).T) / 2
        student = (rows(f) @ rows(w).T + rows(z) @ rows(g).T) / 2
        teacher = (rows(ft) @ rows(wt).T + rows(zt) @ rows(gt).T) / 2
        edge = (teacher - student).norm() / student.numel() ** 0.5
        return cross_entropy(z, zt.argmax(1)) + (1 - node.diagonal()).mean() + edge

    return ours, official


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "c", "d", "dt"), SHAPES)
def test_prg_step(race, form, n, c, d, dt):
    torch.manual_seed(0)
    ours, official = losses(PRGDistiller(d, dt, c))
    shapes = ((n, d), (n, c), (c, d), (c, c), (n, dt), (n, c), (c, dt), (c, c))
    race(f"prg_step-{n}x{c}", form, ours, official, *(random(*shape, seed=k) for k, shape in enumerate(shapes)))
