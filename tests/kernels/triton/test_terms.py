"""Products of bfloat16 terms: what they keep of float32, in every layout, and how many of them run at once."""

import pytest
import torch
from graphkd_kernels._triton import terms
from graphkd_kernels._triton.configs import MATHS
from graphkd_kernels._triton.launch import recording
from graphkd_kernels._triton.rows import normalise

from tests.kernels import testing

ERRORS = {1: 6e-3, 2: 2e-5, 3: 3e-7}
"""Of products, by the terms that hold their operands: 8, 16 and 24 bits."""


def operands(device, *shape, count):
    x = testing.rows(*shape, seed=len(shape) + shape[-1]).to(device)
    return x, terms.split(x, count)


@pytest.mark.parametrize("count", ERRORS)
@pytest.mark.parametrize(("n", "m", "d"), [(40, 70, 33), (5, 3, 7), (64, 64, 48)])
def test_every_layout(count, n, m, d, device):
    with testing.poisoned():
        x, of_x = operands(device, 2, n, d, count=count)
        y, of_y = operands(device, 2, m, d, count=count)
        w, of_w = operands(device, 2, n, m, count=count)
        found = of_x.times_rows(of_y), of_w.times(of_y), of_w.turned_times(of_x)
    expected = x.double() @ y.double().mT, w.double() @ y.double(), w.double().mT @ x.double()
    for one, other in zip(found, expected, strict=True):
        assert testing.error(one, other) < ERRORS[count]


def test_three_terms_are_the_number(device):
    x, of_x = operands(device, 1, 9, 20, count=3)
    assert torch.equal(of_x.planes.double().sum(0)[..., :20], x.double())


@pytest.mark.parametrize(("math", "count"), [("bf16x3", 2), ("bf16x6", 3)])
def test_mapped_rows_come_in_terms(math, count, device):
    s, t = (testing.rows(1, 9, 20, seed=seed).to(device) for seed in range(2))
    with testing.poisoned():
        z = normalise(s, t, "gram", MATHS[math], "uv").z
    assert (z.dtype, z.shape) == (torch.bfloat16, (count, 1, 9, 64))
    found = z.double().sum(0)
    for part, expected in ((found[..., :32], s.double() + t), (found[..., 32:], s.double() - t)):
        assert testing.error(part[..., :20], expected / 2**0.5) < ERRORS[count]
        assert (part[..., 20:] == 0).all()


def test_bfloat16_is_one_term_and_its_products_are_exact(device):
    x = testing.rows(1, 20, 32, dtype=torch.bfloat16).to(device)
    of_x = terms.split(x, terms.terms_of(x.dtype))
    assert of_x.planes.data_ptr() == x.data_ptr()
    assert testing.error(of_x.times_rows(of_x), x.double() @ x.double().mT) < 2e-7


def test_different_numbers_of_terms(device):
    w, of_w = operands(device, 1, 20, 40, count=2)
    x = testing.rows(1, 40, 32, dtype=torch.bfloat16).to(device)
    assert testing.error(of_w.times(terms.split(x, 1)), w.double() @ x.double()) < ERRORS[2]


def test_a_long_sum_in_parts(device):
    with testing.poisoned() as made:
        w, of_w = operands(device, 1, 5, 3000, count=3)
        x, of_x = operands(device, 1, 3000, 9, count=3)
        found = of_w.times(of_x)
    assert made[-1].numel() - 2 * testing.GUARD == 2 * 5 * 9 * 4  # two parts
    assert testing.error(found, w.double() @ x.double()) < ERRORS[3]


def test_a_nan_goes_out(device):
    x, _ = operands(device, 1, 20, 16, count=3)
    x[0, 3, 4] = float("nan")
    found = terms.split(x, 3).times_rows(terms.split(x, 3))
    assert found[0, 3].isnan().all()
    assert not found[0, 4, 5:].isnan().any()


def test_a_short_gradient_fills_the_multiprocessors():
    """128 rows of weights over 65,536 columns: a fifth of them without parts."""
    planes = torch.empty(2, 1, 128, 65536, dtype=torch.bfloat16, device="meta")
    nodes = torch.empty(1, 1, 65536, 512, dtype=torch.bfloat16, device="meta")
    with recording(90) as record:
        terms.Terms(planes, 65536).times(terms.Terms(nodes, 512))
    tiles, parts = record.launches[0].grid
    assert 120 <= tiles * parts <= 132
