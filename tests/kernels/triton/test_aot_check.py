"""Every kernel compiled for sm_80 and sm_90, without a GPU: no spills, shared memory that exists, tensor cores."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from graphkd_kernels._triton import aot_check
from graphkd_kernels._triton.table import CASES, launches


def compile_all(cases, arch, dtypes=None):
    distinct = aot_check.distinct(launch for case in cases for launch in launches(case, arch, dtypes))
    faults = [fault for launch in distinct for fault in aot_check.compile(launch, arch).faults(launch.math)]
    kernels = {launch.kernel.__name__ for launch in distinct}
    configs = {(launch.kernel.__name__, launch.math, launch.config) for launch in distinct}
    print(
        f"sm_{arch}: {len(kernels)} kernels, {len(configs)} configurations, {len(distinct)} compilations, {len(cases)} shapes"
    )
    assert not faults, "\n".join(faults)


def test_the_most_used_case_on_hopper():
    compile_all(CASES[:1], 90, [torch.bfloat16])


@pytest.mark.slow
@pytest.mark.parametrize("arch", aot_check.ARCHITECTURES)
def test_every_case(arch):
    compile_all(CASES, arch)
