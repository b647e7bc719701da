"""The candidates' equations by hand, their gradients, and what they know of a teacher."""

from functools import partial
from math import e

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from benchmarks.accuracy.candidates import (
    CandidateDistiller,
    Known,
    class_edges,
    create,
    node_relation,
    scaled_edges,
)
from benchmarks.accuracy.data import KeptTeacher
from graphkd import Features

EYE = torch.eye(2, dtype=torch.float64)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_nodes_relate_to_the_teachers_samples_by_hand():
    # the second row: softmax(0, 1) against softmax(1, 0), a divergence of (e - 1) / (e + 1); the first is the teacher's
    found = node_relation(tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64), EYE, temperature=1.0)
    assert_close(found, tensor((e - 1) / (e + 1) / 2, dtype=torch.float64))
    assert_close(node_relation(2 * EYE, EYE), tensor(0.0, dtype=torch.float64))


def test_edges_at_the_teachers_scale_by_hand():
    found = scaled_edges(tensor([[1.0, 0.0]]), tensor([[0.0, 1.0]]), scale=4.0, temperature=4.0)
    assert_close(found, tensor(16 * (e - 1) / (e + 1)))


def test_edges_of_a_class_are_compared_over_the_samples_by_hand():
    # the first class ranks the three samples as the teacher does, the second the other way round
    student, teacher = tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]]), tensor([[5.0, 2.0], [4.0, 1.0], [3.0, 0.0]])
    assert_close(class_edges(student, teacher), tensor(1.0))


@pytest.mark.parametrize("loss", [node_relation, partial(scaled_edges, scale=7.0), class_edges])
def test_gradients_are_those_of_the_values(loss):
    x, f = random(5, 4).requires_grad_(), random(5, 4, seed=1)
    assert torch.autograd.gradcheck(lambda x: loss(x, f), x)


def test_what_is_known_of_a_teacher_by_hand():
    known = Known.of(Features(3 * EYE, 100 * EYE, 2 * EYE))
    assert_close(known.mean, tensor([0.5, 0.5], dtype=torch.float64))
    assert_close(known.class_means, tensor([[0.5, -0.5], [-0.5, 0.5]], dtype=torch.float64))
    assert_close(known.augmented(1.0), tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64))
    assert known.scale(known.features, known.proxies) == pytest.approx(100)
    assert_close(known.weighted(1.0), EYE)
    assert_close(known.weighted(0.0), tensor([[0.5, -0.5], [-0.5, 0.5]], dtype=torch.float64))  # the span of (1, -1)


def parts():
    texts = torch.nn.functional.normalize(random(3, 6).float(), dim=1)
    images = torch.nn.functional.normalize(random(12, 6, seed=1).float(), dim=1)
    return Features(images, 100 * images @ texts.T, texts, 100 * texts @ texts.T)


@pytest.mark.parametrize("beta", [None, 1.0])
@pytest.mark.parametrize("remainder", [None, 0.5])
def test_a_perfect_copy_has_no_loss_and_another_student_is_drawn_to_it(beta, remainder):
    teacher = parts()
    weights = {"match_weight": 5.0, "node_weight": 2.0, "edge_weight": 2.0, "class_weight": 1.0}
    candidate = create("candidate", teacher, KeptTeacher(teacher), **weights, beta=beta, remainder=remainder)
    assert isinstance(candidate, CandidateDistiller)
    torch.nn.init.eye_(candidate.projector.weight)
    torch.nn.init.zeros_(candidate.projector.bias)
    losses = candidate(teacher, teacher)
    assert set(losses) == {f"candidate/{term}" for term in ("ce", "kl", "match", "node", "edge", "column")}
    for term in ("kl", "match", "node", "edge", "column"):
        assert losses[f"candidate/{term}"].abs() < 2e-5
    student = random(12, 6, seed=2).float().requires_grad_()
    loss = candidate(Features(student, teacher.logits), teacher)
    loss.total.backward()
    assert min(loss[f"candidate/{term}"] for term in ("match", "node", "edge", "column")) > 0.01
    assert student.grad.isfinite().all()


def test_the_mean_of_a_batch_of_all_images_is_that_of_the_data():
    teacher, student, losses = parts(), random(12, 6, seed=2).float(), {}
    for batch_mean in (False, True):
        torch.manual_seed(0)
        candidate = create("candidate", teacher, KeptTeacher(teacher), node_weight=2.0, batch_mean=batch_mean)
        for some in (12, 5):
            known = Features(teacher.embedding[:some], teacher.logits[:some])
            losses[some, batch_mean] = candidate(Features(student[:some], known.logits), known).total
    assert_close(losses[12, True], losses[12, False])
    assert (losses[5, True] - losses[5, False]).abs() > 1e-3


def test_methods_of_the_library_keep_their_names():
    assert create("kd", parts(), KeptTeacher(parts()), temperature=2.0).temperature == 2.0
