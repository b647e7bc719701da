"""Arithmetic, tiles, warps and stages of each kernel: a static table, every row of which passes the gate."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Config:
    """Tile (rows, columns, depth of one step of a product), warps and pipeline stages.

    Args:
        chunk: columns of a gradient that one program accumulates.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    chunk: int = 0

    def __str__(self) -> str:
        return f"[{self.rows}x{self.columns}x{self.depth}, {self.warps} warps, {self.stages} stages]"


@dataclass(frozen=True)
class Math:
    """How products are formed: the operands' type, that of the sums, Triton's ``input_precision``."""

    name: str
    storage: torch.dtype
    sums: torch.dtype
    precision: str


MATHS = {
    math.name: math
    for math in (
        Math("bf16", torch.bfloat16, torch.float32, "ieee"),  # products of bfloat16 are exact in float32
        Math("tf32x3", torch.float32, torch.float32, "tf32x3"),  # three tensor-core products: float32's accuracy
        Math("fp64", torch.float64, torch.float64, "ieee"),
    )
}


def math(dtype: torch.dtype) -> Math:
    """The arithmetic for inputs of a dtype, the widest of them.

    bfloat16 operands for 16-bit inputs, rounded once, after U and V are formed; three-term tf32 for float32; float64
    stays float64.
    """
    return MATHS[{torch.float64: "fp64", torch.float32: "tf32x3"}.get(dtype, "bf16")]


# By kernel and arithmetic, then by compute capability: a row holds from its own up to the next.
_TABLE: dict[tuple[str, str], dict[int, Config]] = {
    ("edges", "bf16"): {80: Config(128, 128, 64, 8, 3)},
    ("edges", "tf32x3"): {80: Config(64, 64, 32, 8, 3), 100: Config(128, 128, 32, 8, 3)},
    ("edges", "fp64"): {80: Config(64, 64, 16, 8, 2)},
    ("edges_bwd", "bf16"): {80: Config(128, 64, 32, 8, 3, chunk=128), 100: Config(128, 64, 64, 8, 3, chunk=256)},
    ("edges_bwd", "tf32x3"): {
        80: Config(32, 32, 32, 4, 2, chunk=64),
        90: Config(64, 32, 32, 8, 2, chunk=64),
        100: Config(64, 64, 32, 8, 2, chunk=64),
    },
    ("edges_bwd", "fp64"): {80: Config(64, 32, 16, 8, 2, chunk=64), 90: Config(32, 32, 16, 8, 2, chunk=64)},
    ("gram", "bf16"): {80: Config(128, 128, 64, 8, 3), 100: Config(128, 128, 32, 8, 3)},
    ("gram", "tf32x3"): {80: Config(128, 128, 32, 8, 3)},
    ("gram", "fp64"): {80: Config(64, 64, 16, 8, 2)},
    ("similarity", "tf32x3"): {80: Config(64, 64, 32, 8, 3)},
    ("similarity", "fp64"): {80: Config(64, 64, 16, 8, 2)},
    ("product", "bf16"): {80: Config(128, 128, 64, 8, 3)},
    ("product", "tf32x3"): {80: Config(128, 128, 32, 8, 3)},
    ("product", "fp64"): {80: Config(64, 64, 16, 8, 2)},
}


def pick(kernel: str, math: Math, arch: int) -> Config:
    """The configuration of a kernel on an architecture: compute capability times ten; 0: the interpreter, 64-tiles."""
    if arch == 0:
        return Config(64, 64, 64, 4, 1, chunk=32)
    table = _TABLE[kernel, math.name]
    return table[max(capability for capability in table if capability <= arch)]
