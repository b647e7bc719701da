"""The clock: enough calls in a sample, samples within a budget, and turns that are fair."""

from time import sleep

import pytest

from benchmarks.timing import SAMPLE, Timing, interleaved, plan, ratios, sample, timed


def test_quantiles_of_known_samples():
    assert Timing.of([5.0, 1.0, 2.0, 3.0, 4.0]) == Timing(3.0, 1.8, 4.2, 5)
    assert Timing.of([2.0]) == Timing(2.0, 2.0, 2.0, 1)


def test_short_calls_are_repeated_within_a_sample():
    repeats, samples = plan(lambda: None, 0.05)
    assert repeats > 100
    assert 3 <= samples <= 50


def test_slow_calls_are_sampled_a_few_times():
    assert plan(lambda: sleep(0.01), 0.001) == (1, 3)


def test_a_sample_is_per_call():
    assert 1 <= sample(lambda: sleep(0.001), 3) < 20
    assert timed(lambda: sleep(2 * SAMPLE), 0.01).ms >= 2e3 * SAMPLE


def test_everybody_takes_turns_to_be_first():
    order = []
    calls = {name: lambda name=name: (order.append(name), sleep(SAMPLE)) for name in "abc"}
    found = interleaved(calls, 3)
    assert "".join(order[12:]) == "abcbcacab"  # the first twelve are the warm-up
    assert {len(each) for each in found.values()} == {3}


def test_ratios_are_taken_within_a_round():
    assert ratios([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]).ms == pytest.approx(2)


def test_a_runner_keeps_its_backend():
    from benchmarks.case import cases
    from benchmarks.forms import Runner

    found = interleaved({form: Runner(cases()["row_kl"], (8, 5), form) for form in ("eager", "auto")}, 2)
    assert set(found) == {"eager", "auto"}


def test_rotating_inputs_are_equal_but_not_shared():
    from benchmarks.case import cases
    from benchmarks.forms import Runner

    sets = Runner(cases()["row_kl"], (8, 5), "eager").rotation(10**6)
    assert len(sets) == 16
    assert len({each.inputs[0].data_ptr() for each in sets}) == 16
    assert all(each()[1][0].equal(sets[0]()[1][0]) for each in sets)
