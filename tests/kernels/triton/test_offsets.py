"""No address is made of a product of two 32-bit numbers, which may pass 2**31: read from the compiler's first stage."""

import re
from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import triton
import triton.language as tl
from graphkd_kernels._triton import aot_check
from graphkd_kernels._triton.launch import Config, Launch
from graphkd_kernels._triton.table import CASES, launches
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import make_backend

CARRIES = ("addi", "subi", "muli", "extsi", "trunci", "select", "minsi", "maxsi", "splat", "broadcast", "expand_dims")
RESULT = re.compile(r"^\s*(%[\w#]+)(?::\d+)? = (?:arith|tt)\.(\w+) (.*)")
VALUE = re.compile(r"%[\w#]+")


def first_stage(launch):
    """The kernel in Triton's own language, functions inlined, for sm_90."""
    target = GPUTarget("cuda", 90, 32)
    backend = make_backend(target)
    options = backend.parse_options({"num_warps": launch.config.warps, "num_stages": launch.config.stages})
    context = ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    source, stages = aot_check.source(launch), {}
    functions, modules = backend.get_codegen_implementation(options), backend.get_module_map()
    backend.add_stages(stages, options, source.language)
    return str(stages["ttir"](source.make_ir(target, options, functions, modules, context), {}))


def narrow_products(text):
    """Products of two 32-bit variables of which an address is made."""
    lines = [line.split(" loc(")[0] for line in text.splitlines()]
    constants = {match[1] for line in lines if (match := RESULT.match(line)) and match[2] == "constant"}
    suspect = {
        match[1]
        for line in lines
        if (match := RESULT.match(line)) and match[2] == "muli" and line.endswith("i32>" if "<" in line else "i32")
        if not constants & set(VALUE.findall(match[3]))
    }
    reached, before = set(suspect), -1
    while len(reached) != before:
        before, loops = len(reached), []
        for line in lines:
            match = RESULT.match(line)
            if match and match[2] in CARRIES and reached & set(VALUE.findall(match[3])):
                reached.add(match[1])
            elif " = scf." in line:
                carried = re.findall(r"(%\w+) = (%[\w#]+)", line.partition("iter_args(")[2])
                reached |= {inner for inner, first in carried if first in reached}
                loops.append((line.split(" = ")[0].strip().split(":")[0], [inner for inner, _ in carried]))
            elif "scf.yield" in line and loops:
                name, inner = loops.pop()
                for place, value in enumerate(VALUE.findall(line)):
                    if value in reached:
                        reached |= {f"{name}#{place}", name, *inner[place : place + 1]}
    return [line.strip() for line in lines if "tt.addptr" in line and VALUE.findall(line)[2] in reached]


@triton.jit
def narrow_kernel(x_ptr, n, m, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK).to(tl.int64)
    for _ in range(m):
        tl.store(x_ptr + at, 0.0)
        at += n * n


def test_the_reading_finds_a_product_of_two_sizes():
    x = torch.empty(64, device="meta")
    text = first_stage(Launch(narrow_kernel, (1,), {"x_ptr": x, "n": 32, "m": 3}, {"BLOCK": 16}, Config(1, 1, 1, 4, 1)))
    assert len(narrow_products(text)) == 1


def test_no_address_of_a_kernel_has_one():
    seen, faults = set(), []
    one = ((case, torch.float32 if torch.float32 in case.dtypes else case.dtypes[0]) for case in CASES)
    for launch in (each for case, dtype in one for each in launches(case, 90, [dtype])):
        if (key := f"{launch.kernel.__name__}{launch.constants}") not in seen:
            seen.add(key)
            faults += [f"{launch.kernel.__name__}: {found}" for found in narrow_products(first_stage(launch))]
    assert not faults, "\n".join(faults)
