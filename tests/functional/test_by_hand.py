"""Small values worked out by hand, and what each method is known to ignore."""

from math import exp, log, sqrt

import pytest
import torch
from graphkd_kernels._blocked import rkd_angle
from graphkd_kernels.reference.rkd_distance import rkd_distances
from torch import tensor
from torch.testing import assert_close

from graphkd import backend, ops
from graphkd import functional as F

HALF = log(0.5)


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_kd_of_two_classes():  # teacher (3/4, 1/4), student (1/2, 1/2): KL = 3/4 log 3/2 + 1/4 log 1/2
    teacher = tensor([[log(3.0), 0.0]])
    assert_close(F.kd(torch.zeros(1, 2), teacher, 1.0), tensor(0.75 * log(1.5) + 0.25 * HALF))


def test_dkd_of_three_classes():  # teacher p = (2, 1, 1)/4 at T = 1, student uniform, label 0
    teacher = tensor([[log(2.0), 0.0, 0.0]])
    target = 0.5 * log(0.5 / (1 / 3)) + 0.5 * log(0.5 / (2 / 3))
    assert_close(F.dkd_target(torch.zeros(1, 3), teacher, tensor([0]), 1.0), tensor(target))
    assert_close(F.dkd_non_target(torch.zeros(1, 3), teacher, tensor([0]), 1.0), tensor(0.0))
    assert_close(F.dkd(torch.zeros(1, 3), teacher, tensor([0]), 2.0, 8.0, 1.0), tensor(2 * target))


def test_dkd_non_target_part_of_two_classes_is_exactly_zero():
    assert F.dkd_non_target(_random(4, 2), _random(4, 2, seed=1), tensor([0, 1, 1, 0])) == 0


@pytest.mark.parametrize("gap", [60, 420, 1e4, 6e4])
def test_dkd_survives_any_gap(gap):
    student = tensor([[gap, 0.0, 1.0]], requires_grad=True)
    value = F.dkd(student, tensor([[0.0, 2.0, 1.0]]), tensor([1]))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_dist_ignores_the_scale_of_probabilities_in_a_class():
    logits = tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 3.0]])
    assert F.dist(logits, logits) < 1e-5
    assert_close(F.dist_inter(logits, logits.flip(1)), tensor(2.0))  # two classes: correlation exactly -1


def test_rkd_distance_of_three_points():
    # student 0, 1, 3: distances 1, 3, 2, mean 2. Teacher 0, 1, 2: distances 1, 2, 1, mean 4/3.
    apart = rkd_distances(tensor([[0.0], [1.0], [3.0]]))
    assert_close(apart, tensor([[0.0, 0.5, 1.5], [0.5, 0.0, 1.0], [1.5, 1.0, 0.0]]))
    differences = [1 / 2 - 3 / 4, 3 / 2 - 3 / 2, 2 / 2 - 3 / 4]
    expected = 2 * sum(d * d / 2 for d in differences) / 9
    assert_close(F.rkd_distance(tensor([[0.0], [1.0], [3.0]]), tensor([[0.0], [1.0], [2.0]])), tensor(expected))


def test_rkd_angle_of_three_points():
    # Right isosceles triangle against a line: cosines between the two other points are 0, s, s against 1, -1, 1.
    s = 1 / sqrt(2)
    triangle, line = tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), tensor([[0.0], [1.0], [2.0]])
    smooth = [0.5, s + 1 - 0.5, (1 - s) ** 2 / 2]
    assert_close(F.rkd_angle(triangle, line), tensor(2 * sum(smooth) / 27))


def test_rkd_angle_in_blocks_equals_the_whole(monkeypatch):
    s, t = _random(9, 4).requires_grad_(), _random(9, 6, seed=1)
    whole = F.rkd_angle(s, t)
    monkeypatch.setattr(rkd_angle, "_ENTRIES", 2 * 81)
    with backend("blocked"):
        blocks = F.rkd_angle(s, t)
    assert_close(blocks, whole)
    assert_close(torch.autograd.grad(blocks, s), torch.autograd.grad(whole, s))
    assert_close(ops.rkd_angle(s, t, 0, 4) + ops.rkd_angle(s, t, 4), whole * 9**3)


def test_rkd_ignores_scale_and_shift():
    s, t = _random(6, 4), _random(6, 3, seed=1)
    for loss in (F.rkd_distance, F.rkd_angle):
        assert_close(loss(3 * s + 100, t), loss(s, t))


def test_rkd_gives_equal_rows_no_gradient_between_them():
    s = _random(4, 3)
    s[1] = s[0]
    s.requires_grad_()
    distances = rkd_distances(s)
    assert distances[0, 1] > 0  # the clamp of 1e-12 counts in the mean
    (gradient,) = torch.autograd.grad(distances[0, 1] * distances[0, 1].detach(), s)
    assert gradient.abs().max() < 1e-6


def test_similarity_preserving_of_two_samples():  # Gram I against all ones: rows (1, 0) against (1, 1)/sqrt 2
    s = 1 / sqrt(2)
    expected = 2 * ((1 - s) ** 2 + s**2) / 4
    assert_close(F.similarity_preserving(torch.eye(2), torch.ones(2, 3)), tensor(expected))


def test_pkt_of_two_samples():  # student orthogonal: rows (1, 1/2) / (3/2); teacher equal: rows (1, 1) / 2
    expected = 2 * 0.5 * (log(0.5 / (2 / 3)) + log(0.5 / (1 / 3))) / 4
    assert_close(F.pkt(torch.eye(2), torch.ones(2, 2)), tensor(expected), rtol=1e-5, atol=0)


def test_correlation_congruence_of_two_samples():  # cosine 0 against 1, gamma 1/2, to the first power: e^-1 (1 + x)
    value = F.correlation_congruence(torch.eye(2), torch.ones(2, 2), 0.5, 1)
    assert_close(value, tensor(2 * exp(-1) ** 2 / 4))


def test_adjacent_form_depends_on_the_order():
    s, t = tensor([[0.0], [1.0], [2.0]]), torch.zeros(3, 1)
    assert F.correlation_congruence_adjacent(s, t) == 1.0  # (0 * 1 + 1 * 2) / 2
    assert F.correlation_congruence_adjacent(s[[1, 0, 2]], t) == 0.0


def test_gkd_of_two_samples():  # any positive cosine of two is normalised to 1
    s = tensor([[1.0, 0.0], [1.0, 1.0]])
    assert_close(F.gkd(s, torch.ones(2, 2)), tensor(0.0))
    assert_close(F.gkd(torch.eye(2), torch.ones(2, 2)), tensor(2.0))


def test_gkd_mask_keeps_some_edges_only():
    t = tensor([[1.0, 0.0], [1.0, 0.1], [0.3, 1.0]])
    s = _random(3, 4).float()
    every, nearest = F.gkd(s, t), F.gkd(s, t, neighbors=1)
    assert 0 < nearest < every


def test_ega_of_an_identity():  # Pearson off the diagonal is -1/2: ||N - I|| = sqrt(6) / 2, edges equal
    assert_close(F.ega_node(torch.eye(3), torch.eye(3)), tensor(sqrt(6) / 2))
    assert_close(F.ega(torch.eye(3), torch.eye(3), 0.8, 0.24), tensor(0.8 * sqrt(6) / 2))


def test_ega_ignores_scale_and_shift_of_rows():
    generator = torch.Generator().manual_seed(5)
    t = torch.randn(8, 16, generator=generator, dtype=torch.float64)
    for student in (3 * t + 7, t):  # stored with the golden values; the edge term is rounding noise
        assert_close(F.ega(student, t, 1.0, 0.3), tensor(1.5300464207088977, dtype=torch.float64), rtol=1e-9, atol=0)


def test_irg_edge_of_three_points():  # squares 1, 9, 4 over 9 against 1, 4, 1 over 4
    differences = [1 / 9 - 1 / 4, 0.0, 4 / 9 - 1 / 4]
    expected = 2 * sum(d * d for d in differences) / 9
    assert_close(F.irg_edge(tensor([[0.0], [1.0], [3.0]]), tensor([[0.0], [1.0], [2.0]])), tensor(expected))


def test_irg_transformation_averages_neighbouring_channels():
    first = torch.zeros(2, 1, 2, 2)
    deeper = tensor([[1.0, 3.0], [2.0, 0.0]]).view(2, 2, 1, 1)  # means 2 and 1: squares 4 and 1
    assert_close(F.irg_transformation((first, deeper), (first, torch.ones(2, 1, 2, 2))), tensor((1 - 1 / 4) ** 2 / 2))


def test_irg_is_the_weighted_sum_of_its_terms():
    s, t, maps_s, maps_t = _random(3, 4), _random(3, 5, seed=1), _random(2, 3, 2, 2, 2), _random(2, 3, 2, 2, 2, seed=1)
    edges = (F.irg_edge(s, t) + F.irg_edge(maps_s[0], maps_t[0]) + F.irg_edge(maps_s[1], maps_t[1])) / 3
    expected = 2 * edges + 3 * F.irg_transformation(tuple(maps_s), tuple(maps_t)) + 5 * F.fitnet(s, t[:, :4])
    value = F.irg(s, t, tuple(maps_s), tuple(maps_t), s, t[:, :4], 5.0, 2.0, 3.0)
    assert_close(value, expected)


def test_dsig_weighs_foreground_and_background():  # squared distances 1 (front), 4 and 0 (background), edges equal
    s, t = tensor([[2.0], [3.0], [1.0]]), torch.ones(3, 1)
    front = tensor([True, False, False])
    assert_close(F.dsig(s, t, front), tensor(0.5 * 1 + 0.5 * 7.5 * (1 / 2) * 2))


def test_dsig_edges_hold_foreground_and_hard_background():
    s, t = torch.eye(3), torch.ones(3, 3)
    front, hard = tensor([True, False, False]), tensor([False, True, False])
    weights = {"foreground_weight": 0.0, "background_weight": 0.0}
    assert F.dsig(s, t, front, **weights) < 1e-6  # one node has no edge to compare
    assert_close(F.dsig(s, t, front, hard, **weights), tensor(0.5 * 2 / 4))


def test_trg_is_the_weighted_sum_of_its_terms():
    s, t = _random(3, 4, 5), _random(3, 4, 5, seed=1)
    flat = s.flatten(0, 1), t.flatten(0, 1)
    expected = 2 * F.trg_inner(s, t) + 3 * F.trg_local(*flat, 2) + 5 * F.trg_global(*flat, 0.2)
    assert_close(F.trg(s, t, 2.0, 3.0, 5.0, 2, 0.2), expected)


def test_trg_local_counts_the_nearest_only():
    # One neighbour: student's affinities exp(-1/2) of 0 and 1, exp(-4/2) of 2 (to 1); all d = 1.
    s, t = tensor([[0.0], [1.0], [3.0]]), torch.zeros(3, 1)
    rows_s = torch.stack([tensor([0, exp(-0.5), 0]), tensor([exp(-0.5), 0, 0]), tensor([0, exp(-2.0), 0])]).softmax(-1)
    teacher = torch.zeros(3, 3)
    nearest = torch.zeros(3, 3).masked_fill(torch.eye(3, dtype=torch.bool), float("inf")).topk(1, largest=False).indices
    rows_t = teacher.scatter(1, nearest, 1.0).softmax(-1)
    assert_close(F.trg_local(s, t, 1), (rows_s * (rows_s / rows_t).log()).sum(-1).mean())
    assert_close(F.trg_local(s, t, 1, reverse=True), (rows_t * (rows_t / rows_s).log()).sum(-1).mean())


def test_clip_distillation_of_one_scale_is_the_entropy():
    x = torch.eye(2)
    p = tensor([1.0, 0.0]).softmax(0)
    assert_close(F.clip_distillation(x, x, x, x, 1.0, 1.0), -(p * p.log()).sum())


def test_ickd_of_two_channels():  # one image: Gram I against all ones, over B C = 2
    student, teacher = torch.eye(2).view(1, 2, 2, 1), torch.ones(1, 2, 2, 1)
    s = 1 / sqrt(2)
    assert_close(F.ickd(student, teacher), tensor(2 * ((1 - s) ** 2 + s**2) / 2))


def test_fsp_of_one_channel():  # means of products 1 and 4 (the larger map pooled): (1 - 4)^2
    ones, twos = torch.ones(1, 1, 2, 2), 2 * torch.ones(1, 1, 1, 1)
    assert F.fsp([ones, ones], [twos, twos]) == 9
    assert F.fsp([ones, ones, ones], [twos, twos, twos]) == 18


def test_nst_does_not_see_the_order_or_scale_of_channels():
    maps = _random(2, 3, 2, 2)
    assert abs(F.nst(5 * maps.flip(1), maps).item()) < 1e-12
    orthogonal = torch.eye(2).view(1, 2, 2, 1)
    assert_close(F.nst(orthogonal, torch.ones(1, 1, 2, 1)), tensor(1 + 0.5 - 2 * 0.5))


def test_attention_transfer_of_two_positions():  # energy (1, 0) against (1, 1) / sqrt 2
    s = 1 / sqrt(2)
    student, teacher = tensor([2.0, 0.0]).view(1, 1, 2, 1), torch.ones(1, 3, 2, 1)
    assert_close(F.attention_transfer(student, teacher), tensor(((1 - s) ** 2 + s**2) / 2))


def test_maps_of_other_sizes_are_pooled():
    maps = _random(2, 3, 2, 2)
    larger = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for loss in (F.ickd, F.nst, F.attention_transfer):
        assert abs(loss(larger, maps).item()) < 1e-12
