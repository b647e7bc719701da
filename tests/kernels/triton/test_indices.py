"""Offsets beyond 2**31: 65,536 x 65,536 entries, of which one is read. Memory that nobody touches costs nothing."""

import torch
import triton
import triton.language as tl
from graphkd_kernels._triton.tiles import load

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
