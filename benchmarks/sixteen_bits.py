"""Errors of operations by type of the features, against float64 of the same rounded numbers, near convergence.

python -m benchmarks.sixteen_bits [--backends eager blocked] [--rows 97] [--width 65]
TRITON_INTERPRET=1 python -m benchmarks.sixteen_bits --backends triton    # the kernels, with a GPU's roundings

A cell is the error of the value and that of the student's gradient, both relative, at student = teacher + noise. The
gradient is in the features' type: its last rounding, 2^-9 for bfloat16 and 2^-12 for float16, is part of its error.
"--wide" leaves that rounding out: features are 16-bit numbers in float32, which is what eager and blocked compute with.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import torch
from graphkd_kernels import available, backend, dispatch
from torch import Tensor

NOISES = (1e-1, 1e-2, 1e-3)
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
Call = Callable[[Tensor, Tensor], Tensor]


def _edges(relation: str, penalty: str = "square") -> Call:
    return lambda s, t: dispatch.run("edge_sum", s, None, t, None, relation, penalty)


CALLS: dict[str, Call] = {
    "edge_sum, gram": _edges("gram"),
    "edge_sum, cosine": _edges("cosine"),
    "edge_sum, pearson": _edges("pearson"),
    "edge_sum, huber": _edges("pearson", "huber"),
    "edge_sum, euclidean": _edges("euclidean"),
    "similarity, cosine": lambda s, t: dispatch.run("similarity", s, t, "cosine"),
    "similarity, pearson": lambda s, t: dispatch.run("similarity", s, t, "pearson"),
    "ega_sums": lambda s, t: dispatch.run("ega_sums", s, t, "pearson")[0],
    "edge_kl": lambda s, t: dispatch.run("edge_kl", s, None, t, None, "cosine", 0.1, 1.0),
    "rkd_distance": lambda s, t: dispatch.run("rkd_distance", s, t),
    "dist_sums": lambda s, t: dispatch.run("dist_sums", s, t, 1.0, 1e-8),
    "row_kl": lambda s, t: dispatch.run("row_kl", s, t, 4.0).sum(),
}


def pair(noise: float, dtype: torch.dtype, n: int, d: int) -> tuple[Tensor, Tensor]:
    """Student and teacher, rounded: the noise is what the rounded student is apart from the rounded teacher."""
    draw = torch.Generator().manual_seed(0)
    teacher, apart = (torch.randn(n, d, generator=draw, dtype=torch.float64) for _ in range(2))
    return (teacher + noise * apart).to(dtype), teacher.to(dtype)


def derived(call: Call, s: Tensor, t: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Value and the student's gradient on a backend."""
    leaf = s.detach().clone().requires_grad_()
    with backend(name):
        value = call(leaf, t)
    return value.detach().double(), torch.autograd.grad(value.sum(), leaf)[0].double()


def errors(call: Call, name: str, s: Tensor, t: Tensor) -> tuple[float, float]:
    """Relative errors of value and gradient."""
    found, exact = derived(call, s, t, name), derived(call, s.double(), t.double(), "eager")
    value, gradient = (float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))
    return value, gradient


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table: a row for each operation, backend and type, a column for each noise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backends", nargs="+", choices=available(), default=["eager", "blocked"])
    parser.add_argument("--rows", type=int, default=97)
    parser.add_argument("--width", type=int, default=65)
    parser.add_argument("--wide", action="store_true", help="the gradient without its last rounding")
    options = parser.parse_args(arguments)
    print("| operation | backend | type |" + "".join(f" {noise:g} |" for noise in NOISES))
    print("| --- | --- | --- |" + " --: |" * len(NOISES))
    for operation, call in CALLS.items():
        for name in options.backends:
            for label, dtype in TYPES.items():
                cells = []
                for noise in NOISES:
                    s, t = pair(noise, dtype, options.rows, options.width)
                    s, t = (s.float(), t.float()) if options.wide else (s, t)
                    cells.append("{:.0e}, {:.0e}".format(*errors(call, name, s, t)))
                print(f"| {operation} | {name} | {label} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
