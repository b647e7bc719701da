"""How many kernels a user waits for, and that what is counted and compiled here is what Triton would compile."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

from graphkd_kernels._triton import aot_check
from graphkd_kernels._triton.table import CASES, Case, launches
from triton import knobs

from tests.kernels.triton.fake_driver import fake_cuda


def compilations(rule, options, shapes, needs, dtype=torch.float32):
    """How many kernels are compiled for these shapes, one after the other."""
    cases = [Case(rule, options, shape, needs) for shape in shapes]
    return len(aot_check.distinct(launch for case in cases for launch in launches(case, 90, [dtype])))


def nodes(n, ends):
    """Shapes of student and teacher; of graphs with themselves where an edge has two ends."""
    return ((n, 512), None, (n, 512), None) if ends == 2 else ((n, 512), (n, 512))


@pytest.mark.parametrize(
    ("rule", "options", "ends", "first", "all_sizes"),
    [
        (
            "edge_sum",
            ("pearson", "square", 1.0),
            2,
            4,
            7,
        ),  # a product's depth or rows are N: 1, a multiple of 16, or another
        ("edge_sum", ("cosine", "huber", 1.0), 2, 4, 7),
        ("ega_sums", ("pearson",), 1, 5, 8),
        ("row_kl", (2.0,), 1, 2, 4),
        ("row_pearson", (1e-8,), 1, 2, 2),
        ("column_pearson", (1e-8,), 1, 3, 3),
        ("dist_sums", (4.0, 1e-8), 1, 4, 4),
    ],
)
def test_compilations_of_the_first_step_and_of_all_batches_to_512(rule, options, ends, first, all_sizes):
    needs = (True, *[False] * (2 * ends - 1))
    assert compilations(rule, options, [nodes(256, ends)], needs) == first
    assert (
        compilations(rule, options, [nodes(n, ends) for n in (*range(1, 34), *range(34, 513, 13), 512)], needs)
        == all_sizes
    )


def test_the_sources_are_what_triton_specialises():
    """Pointers of ``None``, numbers that are 1 or multiples of 16, counts for which one kernel serves."""
    found = []

    def note(compile, **others):
        attributes = {place: each for place, each in compile["configs"][0].items() if each}
        found.append((compile["signature"], compile["constants"], attributes))
        return True  # so that nothing is compiled

    every = aot_check.distinct(launch for case in CASES for launch in launches(case, 90))
    with fake_cuda(), knobs.runtime.scope():
        knobs.runtime.jit_cache_hook = note
        for each in every:
            options = {"num_warps": each.config.warps, "num_stages": each.config.stages, "enable_fp_fusion": True}
            each.kernel.warmup(grid=each.grid, **each.args, **each.constants, **options)
    assert any(None in constants.values() for _, constants, _ in found)
    sources = map(aot_check.source, every)
    assert found == [(each.signature, each.constants, each.attrs) for each in sources]
