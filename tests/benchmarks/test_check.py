"""A form that is wrong, or cannot run, never gets a time."""

from dataclasses import replace

import pytest
import torch

from benchmarks.case import UnavailableError, cases
from benchmarks.cell import measure
from benchmarks.check import WrongResultError, check
from benchmarks.forms import Runner

KL = cases()["row_kl"]
SMALL = (6, 5)


def published(function):
    return replace(KL, official=function)


@pytest.mark.parametrize("name", cases())
def test_the_reference_and_the_published_form_agree_with_float64(name):
    case = cases()[name]
    for form in ("eager", "official"):
        if form == "official" and isinstance(case.official, str):
            continue
        found = check(case, case.check_at(tuple(min(size, 12) for size in case.shapes[0])), form, "cpu")
        assert max(found["value_error"], found["gradient_error"]) < 3e-4


@pytest.mark.parametrize(("wrong", "message"), [
    (lambda s, t: 1.01 * KL.official(s, t), "value off by 1.0e-02"),
    (lambda s, t: KL.official(s.detach(), t) + 0 * s.sum(1), "gradient by 1.0e[+]00"),
    (lambda s, t: KL.official(s, t) * torch.nan, "value off by nan"),
])  # fmt: skip
def test_a_wrong_form_is_refused_before_it_is_timed(wrong, message):
    with pytest.raises(WrongResultError, match=message):
        measure(published(wrong), SMALL, "official", "cpu", "float32")


def test_the_published_form_may_lose_digits_near_convergence_and_says_how_many():
    found = check(KL, SMALL, "official", "cpu")
    assert found["near_value_error"] > found["value_error"]


def test_a_form_that_does_not_exist_says_why():
    with pytest.raises(UnavailableError, match="nobody has published it"):
        Runner(replace(KL, official="nobody has published it"), SMALL, "official")


def test_a_peer_that_is_not_installed_says_why():
    def absent():
        import no_such_library

        return no_such_library.kl

    with pytest.raises(UnavailableError, match="ModuleNotFoundError: No module named 'no_such_library'"):
        Runner(replace(KL, peers={"peer": absent}), SMALL, "peer")


def test_a_peer_that_fails_says_why():
    def broken(*_):
        raise ValueError("not on this device")

    runner = Runner(replace(KL, peers={"peer": lambda: broken}), SMALL, "peer")
    with pytest.raises(UnavailableError, match="ValueError: not on this device"):
        runner.tried()


def test_a_backend_that_is_not_here_says_why():
    with pytest.raises(UnavailableError, match="backend 'triton' cannot run"):
        Runner(KL, SMALL, "triton").tried()


def test_an_operation_that_this_version_lacks_says_so():
    from benchmarks.case import op

    with pytest.raises(UnavailableError, match="this version has no operation no_such_operation"):
        Runner(replace(KL, ours=op("no_such_operation")), SMALL, "eager").tried()


def test_near_inputs_are_a_teacher_close_to_the_student():
    student, teacher = KL.tensors(SMALL, near=True)
    assert 0 < (student - teacher).abs().max() < 1e-2


def test_modes_do_what_their_names_say():
    runner = Runner(KL, SMALL, "eager")
    assert runner("forward")[0].requires_grad
    assert not runner("no_grad")[0].requires_grad
    assert runner("both")[1][0].shape == SMALL
    assert Runner(cases()["knn"], (20, 8), "eager")()[1] == ()  # there is no gradient to ask for
