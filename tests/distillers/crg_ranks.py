"""Run by test_crg.py in two processes: python crg_ranks.py RANK FILE. Two ranks of uneven batches equal one process."""

import sys

import torch
import torch.distributed as dist
from torch.testing import assert_close

from graphkd.distillers.crg import CRGDistiller
from graphkd.features import Features

OPTIONS = [
    {},
    {"scope": "mean", "spectral_attention": "teacher"},
    {"scope": "concatenated"},
    {"spectral_form": "projector", "vertex_loss": "root", "attention_weight": 1.0},
    {"edge_affinity": "unit_gram", "edge_alignment": "row_squares", "edge_attention": "off"},
]


def run(student: torch.Tensor, teacher: torch.Tensor, options: dict[str, object]) -> tuple[torch.Tensor, torch.Tensor]:
    x = student.clone().requires_grad_()
    pair = Features(maps={"m": x}), Features(maps={"m": teacher})
    losses = CRGDistiller.between(*pair, k=3, **options)(*pair)
    values = torch.stack(list(losses.values()))
    (grad,) = torch.autograd.grad(losses.total, x)
    return values.detach(), grad


def main(rank: int, file: str) -> None:
    g = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 8, 4, 4, dtype=torch.float64, generator=g).relu() for _ in range(2))
    expected = [run(student, teacher, options) for options in OPTIONS]
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    own = slice(0, 2) if rank == 0 else slice(2, 3)
    for options, (values, grad) in zip(OPTIONS, expected, strict=True):
        found, own_grad = run(student[own], teacher[own], options)
        assert_close(found, values, rtol=1e-10, atol=1e-12, msg=f"{options}: values")
        assert_close(own_grad, 2 * grad[own], rtol=1e-8, atol=1e-12, msg=f"{options}: gradients")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
