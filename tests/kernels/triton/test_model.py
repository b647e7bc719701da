"""The static model: what others measured, every target, and the reading of machine code. No GPU is needed."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import triton
from graphkd_kernels import model
from graphkd_kernels._triton import resources, terms
from graphkd_kernels._triton.launch import recording
from graphkd_kernels.targets import TARGETS

LOOP = """Function:f
--:-:-:-:1	IMAD R0, R1, R2, R3;
LBB1:
--:-:-:-:1	LDG.E.128 R4, [R2.64];
--:-:-:-:1	@!P0 MUFU.EX2 R0, R1;
LBB2:
--:-:-:-:1	HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24, gsb0;
--:-:-:-:2	WARPGROUP.DEPBAR.LE gsb0, 0x0;
--:-:-:-:1	@P1 BRA LBB2;
--:-:-:-:1	@P0 BRA LBB1;
--:-:-:-:1	EXIT;
LBB3:
--:-:-:-:1	BRA LBB3;
"""


@pytest.mark.parametrize("published", model.PUBLISHED, ids=lambda each: each.name.split(",")[0])
def test_times_that_others_measured(published):
    assert 1 / model.WITHIN < published.ratio < model.WITHIN


def test_loops_of_machine_code():
    once, ((depth, first), (deeper, second)) = resources.counts(LOOP)
    assert (depth, deeper) == (1, 2)
    assert (once.instructions, first.instructions, second.instructions) == (3, 3, 3)
    assert (first.special, first.loaded) == (1, 512)
    assert (second.tensor, second.products, second.waits) == (16, 1, 1)


def test_the_tensor_cycles_of_a_compiled_product():
    """A tile of 128 x 128 over 32 columns: 2 x 128 x 128 x 32 operations, 4,096 of them a cycle."""
    rows = terms.Terms(torch.empty(1, 1, 8192, 64, dtype=torch.bfloat16, device="meta"), 64)
    with recording(90) as record:
        rows.times_rows(rows)
    compiled = resources.of(record.launches[0])
    ((_, loop),) = compiled.loops
    assert compiled.warps * loop.tensor == 2 * 128 * 128 * 32 / 4096
    assert compiled.serial == triton.__version__.startswith("3.6")  # which waits for each product
    assert compiled.together == 2


def test_a_short_target():
    found = model.expect(TARGETS[0])
    assert 0 < found.bound <= found.device
    assert found.expected == max(found.device, found.host)
    assert found.limit
    assert "kernel" in found.reason
    assert not any("waited for" in each.limit for each in found.work)


def test_an_even_grid_and_an_uneven_one():
    even, uneven = (model.product("", model.H200, 1e12, "bf16", 0, programs) for programs in (264, 265))
    assert uneven.bound == even.bound
    assert uneven.expected == pytest.approx(even.expected * 3 * 132 / 265)


def test_searches_of_a_tile():
    """Random distances: a simulation takes as often, to a tenth."""
    keys = torch.rand(64, 4096, generator=torch.Generator().manual_seed(0))
    best, passes = torch.full((64, 10), torch.inf), 0
    for tile in keys.split(64, 1):
        nearer = tile.clone()
        while (low := nearer.min(1)).values.lt(best.max(1).values).any():
            take = low.values < best.max(1).values
            best[take, best.max(1).indices[take]] = low.values[take]
            nearer[take, low.indices[take]] = torch.inf
            passes += 1
    assert model.insertions(64, 64, 10, 4096) == pytest.approx(passes / 64, rel=0.1)


@pytest.mark.slow
def test_every_target(capsys):
    assert model.main([]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(TARGETS) == 28
    assert all(any(line.startswith(f"| {each.name} |") for line in rows) for each in TARGETS)
