"""What a compiled kernel asks of a streaming multiprocessor, read from its machine code: no GPU is needed.

Instructions are counted by the depth of the loops they stand in; who knows how often the loops run knows the work.
"""

import re
import subprocess
import tempfile
from dataclasses import astuple, dataclass
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget

from graphkd_kernels._triton.aot_check import source
from graphkd_kernels._triton.launch import Launch

_LABEL, _BRANCH = re.compile(r"(L\w+):"), re.compile(r"\bBRA\b.*\b(LBB\d+)")
_WIDTH = re.compile(r"\.(U8|S8|U16|S16|64|128)\b")
_BYTES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}
_MOVES = {"LDG": "loaded", "STG": "stored", "LDGSTS": "copied", "LDS": "local", "STS": "local", "SHFL": "local"}


@dataclass
class Counts:
    """Of one warp, at one depth of loops.

    Args:
        instructions: all of them. special: exponentials, roots, reciprocals, logarithms.
        tensor: cycles that the tensor cores of the multiprocessor need for its part of a product.
        loaded, stored, copied, local: bytes from global memory, to it, from it by asynchronous copies, and within the
            multiprocessor.
        products: of warpgroups. waits: places that wait until no product is in flight.
    """

    instructions: float = 0
    special: float = 0
    tensor: float = 0
    loaded: float = 0
    stored: float = 0
    copied: float = 0
    local: float = 0
    products: float = 0
    waits: float = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def times(self, number: float) -> "Counts":
        """The same, so many times."""
        return Counts(*(number * each for each in astuple(self)))

    def add(self, text: str) -> None:
        """Count one instruction."""
        name = next(word for word in text.split() if not word.startswith("@"))
        kind, width = name.split(".")[0].rstrip(";"), _WIDTH.search(name)
        self.instructions += 1
        self.special += kind == "MUFU"
        self.tensor += _tensor_cycles(name)
        self.products += kind == "HGMMA"
        self.waits += kind == "WARPGROUP" and "DEPBAR" in name and "0x0" in text
        if kind in ("LDSM", "STSM"):
            self.local += 512
        elif kind in _MOVES:
            where = _MOVES[kind]
            setattr(self, where, getattr(self, where) + 32 * (_BYTES[width[1]] if width else 4))


def _tensor_cycles(name: str) -> float:
    """At 4,096 operations of bfloat16 a cycle, half of that for tf32, an eighth of that for float64."""
    shape = re.search(r"(?:HGMMA|DMMA|HMMA)\D*?\.?(\d+)(?:x(\d+)x(\d+))?", name)
    if shape is None:
        return 0.0
    if name.startswith("HGMMA"):  # a 64 x n product of four warps, of 16 columns or of 8 in tf32: n / 2 cycles
        return int(shape[2]) / 8
    if name.startswith("DMMA"):
        return 1.0 if shape[1] == "884" else 8.0
    return 1.0  # 16 x 8 x 16, or x 8 in tf32


@dataclass(frozen=True)
class Resources:
    """A compiled kernel: registers of a thread, bytes of shared memory, counts outside of loops, and loops in order.

    Args:
        loops: the depth of each, 1 for the outermost, and what is in it and in none of the loops inside it.
    """

    registers: int
    shared: int
    warps: int
    once: Counts
    loops: tuple[tuple[int, Counts], ...]

    @property
    def together(self) -> int:
        """Programs that one multiprocessor of an H200 holds: 65,536 registers, 227 KiB, 64 warps, 32 programs."""
        by_registers = 65_536 // (-(-self.registers // 8) * 8 * 32 * self.warps)
        by_shared = 227 * 1024 // (self.shared + 1024)
        return max(1, min(by_registers, by_shared, 64 // self.warps, 32))

    @property
    def serial(self) -> bool:
        """Whether a loop waits for each of its products before it goes on."""
        return any(each.products and each.waits for _, each in self.loops)


def of(launch: Launch) -> Resources:
    """Compile a recorded launch for sm_90 and read what it needs."""
    options = {"num_warps": launch.config.warps, "num_stages": launch.config.stages, "enable_fp_fusion": True}
    built = triton.compile(source(launch), target=GPUTarget("cuda", 90, 32), options=options)
    once, loops = counts(built.asm["sass"])
    return Resources(_registers(built), built.metadata.shared, launch.config.warps, once, loops)


def _registers(built: Any) -> int:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"REG:(\d+)", usage)[-1])


def counts(sass: str) -> tuple[Counts, tuple[tuple[int, Counts], ...]]:
    """Counts outside of loops, and of each loop: what lies between a label and a later branch back to it."""
    lines: list[str] = []
    labels: dict[str, int] = {}
    for line in sass.splitlines()[1:]:
        label = _LABEL.fullmatch(line.strip())
        if label is not None:
            labels[label[1]] = len(lines)
        elif line.strip():
            lines.append(line.split("\t")[-1])
    found = ((labels.get(back[1]), end) for end, text in enumerate(lines) if (back := _BRANCH.search(text)))
    loops = sorted((start, end) for start, end in found if start is not None and start < end)
    once, own = Counts(), [Counts() for _ in loops]
    for index, text in enumerate(lines):
        inside = [i for i, (start, end) in enumerate(loops) if start <= index <= end]
        (own[inside[-1]] if inside else once).add(text)
    depth = [sum(first <= start and end <= last for first, last in loops) for start, end in loops]
    return once, tuple(zip(depth, own, strict=True))
