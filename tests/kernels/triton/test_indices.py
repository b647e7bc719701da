"""Offsets beyond 2**31: 65,536 x 65,536 entries, of which one is read. Memory that nobody touches costs nothing."""

import pytest
import torch
import triton
import triton.language as tl
from graphkd_kernels import reference
from graphkd_kernels._triton.grams import entry
from graphkd_kernels._triton.table import OPERATIONS
from graphkd_kernels._triton.tiles import load

from tests.kernels import testing

N = 65_536


@triton.jit
def last_entry_kernel(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    place = n - BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + tl.arange(0, BLOCK), tl.max(load(x_ptr, place, place, n, n, n), 0))


def test_the_last_of_65536_squared_entries(device):
    x = torch.empty(N * N, dtype=torch.int8, device=device)
    x.view(N, N)[-16:, -16:] = 0
    x[-1] = 7
    out = torch.zeros(16, dtype=torch.int8, device=device)
    last_entry_kernel[(1,)](x, out, N, BLOCK=16)
    assert out.tolist() == [0] * 15 + [7]


@triton.jit
def one_entry_kernel(g_ptr, out_ptr, splits, k, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out_ptr + at, entry(g_ptr, splits, k, at, at, at < BLOCK))


def test_the_second_of_two_gram_matrices_of_50000_columns(device):
    k = 50_000  # D from 23,171 on has k = 2 D columns, and k * k beyond 2**31
    grams = torch.empty(2, k, k, dtype=torch.int8, device=device)
    grams[0, :16, :16], grams[1, :16, :16] = 1, 7
    out = torch.zeros(16, dtype=torch.float64, device=device)
    one_entry_kernel[(1,)](grams, out, 2, k, BLOCK=16)
    assert out.tolist() == [8.0] * 16


def far_apart(x):
    """The same rows with 2**30 numbers and more between them: the third begins beyond 2**31."""
    step = 2**30 + 64
    memory = torch.empty(step * (len(x) - 1) + x.shape[1], dtype=x.dtype, device=x.device)
    return memory.as_strided(x.shape, (step, 1)).copy_(x)


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("row_kl", (2.0,)),
        ("row_pearson", ()),
        ("damped_column_pearson", (1e-8,)),
        ("similarity", ("euclidean",)),
        ("edge_sum", ("pearson", "square")),
        ("edge_sum", ("euclidean", "huber")),
        ("ega_sums", ("cosine",)),
    ],
)
def test_rows_that_begin_beyond_2_31(operation, options, device):
    rows = (testing.rows(3, 20, seed=seed, dtype=torch.float16) for seed in range(2))
    student, teacher = (far_apart(x.to(device)) for x in rows)
    nodes = {"similarity": [student, None], "edge_sum": [student, None, teacher, None]}.get(
        operation, [student, teacher]
    )
    testing.check(
        lambda *each: OPERATIONS[operation](*each, *options),
        lambda *each: getattr(reference, operation)(*each, *options),
        nodes,
        [x is not None for x in nodes],
        device,
        1e-2,
    )
