"""How rows are split among programs, and sums that are larger than the memory for their parts."""

import pytest
import torch
from graphkd_kernels import reference
from graphkd_kernels._triton import grams
from graphkd_kernels._triton.configs import math
from graphkd_kernels._triton.launch import recording
from graphkd_kernels._triton.table import CASES, OPERATIONS, launches

from tests.kernels import testing


@pytest.mark.parametrize("shape", [(1, 8192, 1024), (1, 65536, 1024), (1, 8192, 4096), (1, 2048, 512), (128, 512, 416)])
def test_waves_are_whole(shape):
    """The last wave of programs is nearly full, or there are so many that it does not count."""
    with recording(90) as record:
        grams.gram(torch.empty(1, *shape, device="meta"), math(torch.float32))
    programs, splits = record.launches[0].grid
    assert shape[1] / splits <= grams.SPLIT
    waves = programs * splits / 132
    assert waves / -(-programs * splits // 132) > 0.9


def test_few_edges_are_made_by_many_programs():
    """256 nodes of 512 numbers: tiles of 128 would occupy four multiprocessors."""
    programs = {each.kernel.__name__: each.grid[0] for each in launches(CASES[0], 90, [torch.bfloat16])}
    assert programs["edges_fwd_kernel"] == 16
    assert programs["terms_product_kernel"] == 32


def test_partial_sums_stay_within_their_memory():
    with recording(90) as record:
        grams.gram(torch.empty(1, 1, 65536, 4096, device="meta"), math(torch.float32))
    assert len(record.launches) > 1
    assert all(each.args["out_ptr"].nbytes <= grams.PARTIALS for each in record.launches)


@pytest.mark.parametrize("partials", [2**28, 2**16, 1], ids=["as they are", "summed", "in rounds"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_in_any_way(partials, dtype, monkeypatch, device):
    monkeypatch.setattr(grams, "PARTIALS", partials)
    monkeypatch.setattr(grams, "SPLIT", 64)
    inputs = [testing.rows(140, 20, seed=seed, dtype=dtype) for seed in range(2)]
    testing.check(
        lambda s, t: OPERATIONS["edge_sum"](s, None, t, None, "pearson", "square"),
        lambda s, t: reference.edge_sum(s, None, t, None, "pearson", "square"),
        inputs, (True, True), device, 5e-6 if dtype == torch.float32 else 6e-3,
    )  # fmt: skip
