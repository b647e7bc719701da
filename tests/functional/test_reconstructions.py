"""PRG's and EIKD's terms: perfect copies, reductions to losses with stored values, and who keeps which class."""

import pytest
import torch
from torch import tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from graphkd import functional as F
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.graphs.alignments import FROBENIUS


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_prg_of_features_alone_is_ega():
    s, t = _random(4, 5), _random(4, 5, seed=1)
    assert_close(F.prg_node(s, t, rho=1.0, target="identity"), F.ega_node(s, t))
    assert_close(F.prg_edge(s, t, s, t, rho=1.0, alignment=FROBENIUS), F.ega_edge(s, t))


def test_prg_names_what_is_missing():
    f = _random(4, 5)
    with pytest.raises(MissingFeatureError, match=r"give the logits of both networks, or rho=1\.0"):
        F.prg_node(f, f)
    with pytest.raises(OptionError, match=r"a number in \[0, 1\], found 2"):
        F.prg_node(f, f, f, f, rho=2)
    with pytest.raises(UnknownNameError, match="unknown node target 'diag'; did you mean 'diagonal'"):
        F.prg_node(f, f, f, f, target="diag")


def test_explicit_features_by_hand():
    assert F.explicit_features(tensor([[0.0, 0.0], [1.0, 1.0]]), tensor([[3.0, 4.0], [1.0, 1.0]])) == 12.5


def test_implicit_relations_of_two_samples():  # cosines I against all ones: rows (1, 0) against (1, 1) / sqrt 2
    s = 0.5**0.5
    assert_close(F.implicit_relations(2 * torch.eye(2), torch.ones(2, 3)), tensor((1 - s) ** 2 + s**2))


def test_the_gradients_of_both_feature_terms_stay_of_one_size():  # divided by N^2, the second would vanish
    ratios = []
    for n in (32, 512):
        h, t = _random(n, 16).requires_grad_(), _random(n, 16, seed=1)
        terms = F.implicit_relations(h, t), F.explicit_features(normalize(h), normalize(t))
        implicit, explicit = (torch.autograd.grad(each, h)[0].norm() for each in terms)
        ratios.append(implicit / explicit)
    assert all(0.3 < ratio < 3 for ratio in ratios)


def _kept(teacher, reading):
    return {
        "topk": lambda: F.top_classes(teacher, teacher.shape[1]),
        "mass": lambda: F.mass_classes(teacher, 1.0),
        "dataset": lambda: F.dataset_classes(teacher, torch.ones(teacher.shape[1], dtype=torch.bool)),
        "stochastic": lambda: F.random_classes(teacher, 0.0),
    }[reading]()


@pytest.mark.parametrize("reading", ["topk", "mass", "dataset", "stochastic"])
@pytest.mark.parametrize("teacher_only", [False, True])
def test_nothing_dropped_is_plain_kd(reading, teacher_only):
    s, t = _random(6, 5), _random(6, 5, seed=1)
    assert_close(F.class_dropped_kd(s, t, _kept(t, reading), student_keeps_all=teacher_only), F.kd(s, t))


def test_gathered_classes_give_the_same_value():
    s, t = _random(6, 5), _random(6, 5, seed=1)
    best = t.topk(3).indices
    assert_close(F.class_dropped_kd(s, t, F.top_classes(t, 3)), F.kd(s.gather(1, best), t.gather(1, best)))


def test_dropped_classes_get_a_gradient_from_the_students_full_softmax_only():
    s, t = _random(6, 5).requires_grad_(), _random(6, 5, seed=1)
    kept = F.top_classes(t, 2)
    (gradient,) = torch.autograd.grad(F.class_dropped_kd(s, t, kept), s)
    assert (gradient[~kept] == 0).all()
    (gradient,) = torch.autograd.grad(F.class_dropped_kd(s, t, kept, student_keeps_all=True), s)
    assert (gradient[~kept] > 0).all()


def test_top_classes_break_ties_by_class():
    assert F.top_classes(tensor([[1.0, 2.0, 1.0, 1.0]]), 2).tolist() == [[True, True, False, False]]


def test_mass_keeps_the_smallest_set_that_reaches_the_share():
    logits = tensor([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]).log()
    assert F.mass_classes(logits, 0.5, 1.0).tolist() == [[True, False, False], [False, False, True]]
    assert F.mass_classes(logits, 0.85, 1.0).tolist() == [[True, True, False], [True, True, True]]


def test_mass_is_that_of_the_softened_probabilities():
    logits = 4 * tensor([[0.6, 0.3, 0.1]]).log()  # at temperature 4 these probabilities, at 1 the first alone has 94 %
    assert F.mass_classes(logits, 0.85).tolist() == [[True, True, False]]
    assert F.mass_classes(logits, 0.85, 1.0).tolist() == [[True, False, False]]
    with pytest.raises(OptionError, match="temperature of a softmax is > 0, found 0"):
        F.mass_classes(logits, 0.85, 0.0)


def test_samples_of_dropped_classes_leave_the_mean():
    s, t = _random(2, 3).requires_grad_(), tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    kept = F.dataset_classes(t, tensor([True, True, False]))
    assert kept.tolist() == [[True, True, False], [False, False, False]]
    assert_close(F.class_dropped_kd(s, t, kept), F.kd(s[:1, :2], t[:1, :2]))
    none = F.class_dropped_kd(s, t, torch.zeros(2, 3, dtype=torch.bool))
    assert none == 0
    assert (torch.autograd.grad(none, s)[0] == 0).all()


def test_random_classes_keep_the_best_and_follow_their_generator():
    t = _random(200, 10)
    first, second = (F.random_classes(t, 0.3, torch.Generator().manual_seed(1)) for _ in range(2))
    assert (first == second).all()
    assert first.gather(1, t.argmax(1, keepdim=True)).all()
    assert 0.6 < first.double().mean() < 0.8
    assert (F.random_classes(t, 1.0) == F.top_classes(t, 1)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: F.top_classes(z, 0), "at least 1 class is kept, k = 0"),
        (lambda z: F.mass_classes(z, 0.0), r"share of probability is in \(0, 1\], found 0"),
        (lambda z: F.random_classes(z, 1.5), r"rate of dropping is in \[0, 1\], found 1.5"),
    ],
)
def test_impossible_shares_are_refused(call, message):
    with pytest.raises(OptionError, match=message):
        call(torch.zeros(2, 3))


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match=r"student mask \(2, 2\) and teacher mask \(2, 3\) differ"):
        F.class_dropped_kd(torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.parametrize("student_keeps_all", [False, True])
def test_a_sample_whose_kept_classes_the_teacher_masks_leaves_the_mean(student_keeps_all):
    s, t = (torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    t[0, 2] = -torch.inf
    kept = tensor([[False, False, True, False], [True, True, False, False], [True, False, True, True]])
    expected = F.class_dropped_kd(s[1:], t[1:], kept[1:], student_keeps_all=student_keeps_all)
    s.requires_grad_()
    loss = F.class_dropped_kd(s, t, kept, student_keeps_all=student_keeps_all)
    assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, s)
    assert torch.isfinite(gradient).all()
    assert not gradient[0].any()
