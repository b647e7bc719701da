"""Compile kernels ahead of time, without a GPU, and judge what the assembler made of them.

What is compiled are recorded launches (``launch.recording``): the launcher's own arguments and configuration.
Needs a process in which TRITON_INTERPRET is unset. Compilation goes through Triton's disk cache.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from graphkd_kernels._triton.launch import Launch

ARCHITECTURES = (80, 90)
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes a program may have; the compiler does not check
TENSOR_CORE = {80: "mma.sync", 90: "wgmma.mma_async"}
_TYPES = {
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.bool: "*i1",
}


@dataclass(frozen=True)
class Report:
    """Resources of one compiled kernel.

    Args:
        stack: bytes per thread; more than 0 means spills.
        shared: bytes per program. mma: the architecture's own tensor-core instructions.
    """

    name: str
    arch: int
    stack: int
    shared: int
    mma: int

    def faults(self, math: str) -> list[str]:
        """Why the kernel may not ship; ``math``: the kind of its products."""
        found = []
        if self.stack:
            found.append(f"{self.stack} bytes of spills")
        if self.shared > SHARED[self.arch]:
            found.append(f"{self.shared} bytes of shared memory, {SHARED[self.arch]} are there")
        if math and not self.mma:
            found.append(f"no {_instruction(math, self.arch)}")
        return [f"{self.name} on sm_{self.arch}: {fault}" for fault in found]


def source(launch: Launch) -> ASTSource:
    """The kernel specialised as the launcher would: types, 1 as a constant, divisibility by 16."""
    signature, constants, aligned = {}, dict(launch.constants), {}
    for index, name in enumerate(launch.kernel.arg_names):
        value, any_value = launch.args.get(name), launch.kernel.params[index].do_not_specialize
        if name in constants or value is None or (isinstance(value, int) and value == 1 and not any_value):
            constants.setdefault(name, value)
            signature[name] = "constexpr"
        elif isinstance(value, float):
            signature[name] = launch.kernel.params[index].annotation_type or "fp32"
        else:
            signature[name] = _TYPES[value.dtype] if isinstance(value, Tensor) else _integer(value)
            offset = value.storage_offset() * value.element_size() if isinstance(value, Tensor) else value
            if offset % 16 == 0 and not any_value:
                aligned[(index,)] = [["tt.divisibility", 16]]
    return ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=aligned)


def _integer(value: int) -> str:
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def compile(launch: Launch, arch: int) -> Report:
    """Compile one recorded launch for sm_<arch> and measure it."""
    if knobs.runtime.interpret:
        raise RuntimeError("this compiles: run it in a process where TRITON_INTERPRET is unset")
    options = {"num_warps": launch.config.warps, "num_stages": launch.config.stages, "enable_fp_fusion": True}
    built = triton.compile(source(launch), target=GPUTarget("cuda", arch, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ptx, name = built.asm["ptx"], f"{launch.kernel.__name__}{launch.config}"
    stack, mma = int(re.findall(r"STACK:(\d+)", usage)[-1]), ptx.count(_instruction(launch.math, arch))
    return Report(name, arch, stack, built.metadata.shared, mma)


def _instruction(math: str, arch: int) -> str:
    """float64 has one tensor-core instruction on every architecture."""
    return "mma.sync" if math == "fp64" else TENSOR_CORE[arch]


def distinct(launches: Iterable[Launch]) -> list[Launch]:
    """One launch for each different compilation."""
    found: dict[str, Launch] = {}
    for launch in launches:
        found.setdefault(compilation(launch), launch)
    return list(found.values())


def compilation(launch: Launch) -> str:
    """What makes one compilation differ from another."""
    key = source(launch)
    return f"{launch.kernel.__name__}{key.signature}{key.constants}{key.attrs}{launch.config}"
