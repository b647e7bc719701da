"""Repeated calls: the same numbers as written by the launchers, whatever memory the inputs are in."""

import gc
import weakref

import pytest
import torch
from graphkd_kernels import machine_plan
from graphkd_kernels._triton import interpreting, replay
from graphkd_kernels._triton.replay import repeated
from graphkd_kernels._triton.table import OPERATIONS

from tests.kernels import testing


@pytest.fixture(autouse=True)
def _repeating(monkeypatch):
    monkeypatch.setattr(replay, "INTERPRETER_TOO", True)
    machine_plan.forget()
    yield
    machine_plan.forget()


def programs():
    """Calls that are ready to be repeated."""
    return [each for kinds in machine_plan.REMEMBERED for each in kinds.values() if isinstance(each, replay.Program)]


def plainly(function):
    """What the launchers themselves make: with an allocator of its own, no call is repeated."""
    from graphkd_kernels._triton.launch import allocating

    with allocating(lambda shape, dtype, device: torch.empty(shape, dtype=dtype, device=device)):
        return function()


def pair(device, *shape, seed=0):
    return [testing.rows(*shape, seed=seed + part).to(device) for part in range(2)]


def derived(operation, tensors, options, needs=None):
    function = OPERATIONS[operation]
    needs = [x is not None and x.is_floating_point() for x in tensors] if needs is None else needs
    return testing.derive(lambda *each: function(*each, *options), tensors, needs)


def same(one, other):
    assert len(one) == len(other)
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("operation", "options", "shape", "single"),
    [
        ("edge_sum", ("pearson", "square"), (10, 20), True),
        ("edge_sum", ("cosine", "huber"), (20, 6), True),
        ("edge_sum", ("pearson", "square"), (20, 6), True),
        ("edge_sum", ("euclidean", "square"), (10, 20), True),
        ("edge_sum", ("gram", "square"), (2, 10, 20), True),
        ("ega_sums", ("pearson",), (20, 6), False),
        ("ega_sums", ("cosine",), (10, 20), False),
        ("row_kl", (2.0,), (30, 40), False),
        ("row_pearson", (), (30, 40), False),
        ("damped_column_pearson", (1e-8,), (30, 40), False),
        ("dist_sums", (2.0, 1e-8), (30, 40), False),
        ("rkd_distance", (), (10, 20), False),
        ("rkd_angle", (0, 6), (6, 5), False),
        ("edge_kl", ("euclidean", 0.5), (10, 20), True),
    ],
)
def test_every_call_has_its_own_numbers(operation, options, shape, single, device):
    for seed in range(0, 8, 2):
        s, t = pair(device, *shape, seed=seed)
        tensors = [s, None, t, None] if single else [s, t]
        expected = plainly(lambda tensors=tensors: derived(operation, tensors, options))
        same(derived(operation, tensors, options), expected)
    assert programs()


def test_what_was_returned_stays(device):
    first, other = pair(device, 30, 40), pair(device, 30, 40, seed=5)
    for _ in range(3):
        found = derived("row_kl", first, (2.0,))
    before = [each.clone() for each in found]
    derived("row_kl", other, (2.0,))
    same(found, before)


def test_a_second_backward_finds_what_was_kept(device):
    for seed in range(3):
        s, t = pair(device, 30, 40, seed=seed)
        value = OPERATIONS["row_kl"](s.requires_grad_(), t, 2.0).sum()
        first, second = (torch.autograd.grad(value, s, retain_graph=True)[0] for _ in range(2))
        same([first], [second])


def test_nothing_of_a_call_is_held(device):
    held = []
    for seed in range(3):
        tensors = pair(device, 6, 8, seed=seed)
        found = derived("edge_sum", [tensors[0], None, tensors[1], None], ("pearson", "square"))
        held += [weakref.ref(each) for each in (*tensors, *found)]
    del tensors, found
    gc.collect()
    assert not any(each() is not None for each in held)


@pytest.mark.parametrize("shape", [testing.strided, testing.transposed, testing.expanded], ids=lambda f: f.__name__)
def test_other_strides_are_another_kind(shape, device):
    for seed in range(4):
        s, t = pair(device, 6, 8, seed=seed)
        for x in (s, shape(s)):
            tensors = [x, None, t, None]
            expected = plainly(lambda tensors=tensors: derived("edge_sum", tensors, ("pearson", "square")))
            same(derived("edge_sum", tensors, ("pearson", "square")), expected)


def test_nodes_of_one_memory(device):
    for seed in range(6):
        memory = testing.rows(90, 20, seed=seed).to(device)
        start = 30 if seed < 4 else 60  # the teacher moves away from the student
        tensors = [memory[:30], memory[start : start + 30]]
        same(derived("row_kl", tensors, (2.0,)), plainly(lambda tensors=tensors: derived("row_kl", tensors, (2.0,))))
        same(
            derived("row_kl", tensors[:1] * 2, (2.0,)), plainly(lambda x=memory[:30]: derived("row_kl", [x, x], (2.0,)))
        )


def test_what_is_large_is_not_written_down(device, monkeypatch):
    monkeypatch.setattr(replay, "LARGEST", 100)
    for seed in range(3):
        derived("row_kl", pair(device, 30, 40, seed=seed), (2.0,))
    assert not programs()


def test_calls_of_many_kinds_are_forgotten(device, monkeypatch):
    monkeypatch.setattr(replay, "MOST_KINDS", 2)
    for n in (3, 4, 5, 3):
        for seed in range(3):
            tensors = pair(device, n, 10, seed=seed)
            same(derived("row_kl", tensors, (2.0,)), plainly(lambda x=tensors: derived("row_kl", x, (2.0,))))
    assert all(len(kinds) <= 2 for kinds in machine_plan.REMEMBERED[1:])


OUTSIDE = torch.ones(3)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * float(x.sum()),
        lambda x: x + OUTSIDE.to(x.device),
        lambda x: x.view(torch.int32) + 1,
    ],
    ids=["a number read", "a tensor from elsewhere", "another type"],
)
def test_what_cannot_be_repeated_takes_the_plain_way(function, device):
    again = repeated(function)
    for seed in range(4):
        x = testing.rows(3, seed=seed).to(device)
        same([again(x)], [function(x)])
    assert not programs()


def test_operations_in_place_and_with_several_results(device):
    def function(x, count):
        top, index = x.clone().mul_(2).topk(count)
        return torch.add(top, x[:count], out=torch.empty_like(top)), (index, None, x)

    again = repeated(function)
    for seed in range(4):
        x = testing.rows(5, seed=seed).to(device)
        value, (index, none, same_one) = again(x, 2)
        expected, (expected_index, _, _) = function(x, 2)
        same([value, index], [expected, expected_index])
        assert none is None
        assert same_one is x
    assert len(programs()) == 1


@pytest.mark.skipif(interpreting(), reason="the interpreter has no launcher to pass by")
def test_a_profiler_sees_every_launch(device):
    from triton import knobs

    seen = []

    def hook(data):
        seen.append(data.get()["name"])

    tensors = pair(device, 30, 40)
    for _ in range(3):
        derived("row_kl", tensors, (2.0,))
    knobs.runtime.launch_enter_hook.add(hook)
    try:
        derived("row_kl", tensors, (2.0,))
    finally:
        knobs.runtime.launch_enter_hook.remove(hook)
    assert seen == ["row_kl_kernel"] * 2


def test_another_plan_is_another_program(device):
    for _ in range(3):
        derived("row_kl", pair(device, 6, 8), (2.0,))
    assert programs()
    with machine_plan.using(str(device), machine_plan.in_force(str(device))):
        assert not programs()
