"""What fused kernels are meant to reach on one H200: floors and targets in µs, forward and gradient, and their calls.

The floors are predictions from FLOPs, bytes and instruction rates (kernels/README.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Operation = Callable[..., Any]
Table = Mapping[str, Operation]


@dataclass(frozen=True)
class Target:
    """One entry: the predicted floor and the target of an operation, in µs.

    Args:
        case: an operation, or a variation of it after a point.
    """

    case: str
    shape: tuple[int, ...]
    floor: float
    target: float
    bound: str
    dtype: str = "bfloat16"

    @property
    def name(self) -> str:
        """Case, shape and type."""
        return f"{self.case} {'x'.join(map(str, self.shape))}, {self.dtype}"


TARGETS = (
    Target("edge_sum", (256, 512), 0.7, 15, "launch"),
    Target("edge_sum", (8192, 512), 21.7, 35, "compute"),
    Target("edge_sum", (65536, 512), 174, 235, "compute"),
    Target("edge_sum", (8192, 2048), 348, 465, "compute"),
    Target("edge_sum", (65536, 2048), 2800, 3700, "compute"),
    Target("edge_kl", (1024, 100, 64), 0.1, 20, "launch"),
    Target("edge_kl", (8192, 1000, 512), 64, 100, "compute"),
    Target("edge_kl", (65536, 1000, 2048), 2000, 2900, "compute"),
    Target("edge_kl", (65536, 65536, 512), 33000, 50000, "compute"),
    Target("rkd_distance", (256, 512), 0.5, 20, "launch"),
    Target("rkd_distance", (8192, 512), 348, 500, "compute"),
    Target("rkd_distance", (65536, 512), 22000, 32000, "compute"),
    Target("rkd_angle", (64, 512), 0.1, 15, "launch", "float32"),
    Target("rkd_angle", (256, 512), 12, 30, "instructions", "float32"),
    Target("rkd_angle", (1024, 512), 750, 1500, "instructions", "float32"),
    Target("rkd_angle", (4096, 512), 48000, 95000, "instructions", "float32"),
    Target("dist_sums", (256, 100), 0.1, 15, "launch"),
    Target("dist_sums", (1024, 1000), 2.4, 15, "launch"),
    Target("dist_sums", (65536, 1000), 152, 180, "memory"),
    Target("dist_sums", (65536, 1000), 305, 360, "memory", "float32"),
    Target("dist_sums", (65536, 10000), 1520, 1800, "memory"),
    Target("edge_sum.channels", (64, 64, 3136), 18, 22, "memory"),
    Target("edge_sum.channels", (128, 512, 196), 25, 36, "compute"),
    Target("edge_sum.channels", (256, 2048, 49), 36, 43, "memory"),
    Target("knn", (1024, 512), 1.4, 15, "launch"),
    Target("knn", (8192, 512), 87, 150, "compute"),
    Target("knn", (65536, 512), 5600, 9000, "compute"),
    Target("knn", (65536, 128), 1400, 3500, "top-k"),
)


_CALLS: dict[str, Callable[..., Any]] = {
    "edge_sum": lambda table, s, t: table["edge_sum"](s, None, t, None, "pearson", "square"),
    "edge_kl": lambda table, s, y, t, z: table["edge_kl"](s, y, t, z, "cosine", 0.1),
    "rkd_distance": lambda table, s, t: table["rkd_distance"](s, t),
    "rkd_angle": lambda table, s, t: table["rkd_angle"](s, t, 0, len(s)),
    "dist_sums": lambda table, s, t: table["dist_sums"](s, t).sum(),
    "knn": lambda table, s: table["knn"](s, 10),
}


def run(target: Target, table: Table, device: torch.device) -> None:
    """Value and gradient of a target's operation, of a table of operations, at its shape."""
    operation = target.case.partition(".")[0]
    shapes, students = [target.shape, target.shape], 1
    if operation == "edge_kl":
        n, c, d = target.shape
        shapes, students = [(n, d), (c, d)] * 2, 2
    elif operation == "knn":
        shapes, students = [target.shape], 0
    dtype = getattr(torch, target.dtype)
    tensors = [torch.empty(shape, dtype=dtype, device=device) for shape in shapes]
    for each in tensors[:students]:
        each.requires_grad_()
    value = _CALLS[operation](table, *tensors)
    if students:
        value.backward()
