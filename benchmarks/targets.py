"""What fused kernels are meant to reach on one H200: floors and targets in µs, forward and gradient.

The floors are predictions from FLOPs, bytes and instruction rates (kernels/README.md); results replace them on the page
as soon as somebody has measured.
"""

from dataclasses import dataclass

from benchmarks.case import Shape

LAUNCH = 3.0  # µs; below such a floor a kernel is bound by its launch, and the wall clock counts
NAMED = 0.6  # of its target: what is below is named, with the reason


@dataclass(frozen=True)
class Target:
    """One entry: the predicted floor and the target of an operation, in µs."""

    case: str
    shape: Shape
    floor: float
    target: float
    bound: str
    dtype: str = "bfloat16"


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
    Target("damped_column_pearson.dist", (256, 100), 0.1, 15, "launch"),
    Target("damped_column_pearson.dist", (1024, 1000), 2.4, 15, "launch"),
    Target("damped_column_pearson.dist", (65536, 1000), 152, 180, "memory"),
    Target("damped_column_pearson.dist", (65536, 1000), 305, 360, "memory", "float32"),
    Target("damped_column_pearson.dist", (65536, 10000), 1520, 1800, "memory"),
    Target("edge_sum.channels", (64, 64, 3136), 18, 22, "memory"),
    Target("edge_sum.channels", (128, 512, 196), 25, 36, "compute"),
    Target("edge_sum.channels", (256, 2048, 49), 36, 43, "memory"),
    Target("knn", (1024, 512), 1.4, 15, "launch"),
    Target("knn", (8192, 512), 87, 150, "compute"),
    Target("knn", (65536, 512), 5600, 9000, "compute"),
    Target("knn", (65536, 128), 1400, 3500, "top-k"),
)
