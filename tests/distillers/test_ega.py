import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.ega import EGADistiller
from graphkd.distillers.parts import align_within
from graphkd.graphs.alignments import FROBENIUS, MSE
from graphkd.graphs.relations import pearson
from tests.distiller_laws import beside, features, networks, with_gradient


def made(**options):
    torch.manual_seed(0)
    return EGADistiller(6, 8, 5, embed_dim=6, **options).double()


def test_official_recipe():
    (student, teacher), target = networks(9), beside(9)["target"]
    distiller = made()
    losses = distiller(student, teacher, target=target)
    nodes = distiller.teacher_head.embed(teacher.embedding)
    assert_close(losses["ega/node"], 0.8 * functional.ega_node(student.embedding, nodes))
    assert_close(losses["ega/edge"], 0.24 * functional.ega_edge(student.embedding, nodes))
    assert_close(losses["ega/teacher_head"], cross_entropy(distiller.teacher_head.classify(nodes), target))


def test_teacher_head_is_trained_by_its_own_cross_entropy_only():
    (student, teacher), target = networks(9), beside(9)["target"]
    distiller = made()
    losses = distiller(with_gradient(student), teacher, target=target)
    weight = distiller.teacher_head.embed.weight
    expected = torch.autograd.grad(losses["ega/teacher_head"], weight, retain_graph=True)[0]
    assert_close(torch.autograd.grad(losses.total, weight)[0], expected)


def test_joint_head_receives_the_alignment_too():
    student, teacher = networks(9)
    losses = made(teacher_head="joint")(student, teacher, **beside(9))
    assert losses["ega/node"].requires_grad
    assert losses["ega/edge"].requires_grad


def test_frozen_head_needs_no_labels_and_does_not_move():
    student, teacher = networks(9)
    distiller = made(teacher_head="frozen")
    assert set(distiller(student, teacher)) == {"ega/node", "ega/edge"}
    assert not any(each.requires_grad for each in distiller.teacher_head.parameters())


def test_without_teacher_head_the_student_meets_the_embedding_itself():
    student, teacher = networks(9)
    distiller = made(teacher_head="none")
    projected = distiller.project(student.embedding)
    assert projected.shape == (9, 8)
    assert_close(distiller(student, teacher).total, functional.ega(projected, teacher.embedding))


@pytest.mark.parametrize("norm", ["mse", "spectral"])
def test_norms(norm):
    student, teacher = features(9, 1), features(9, 2)
    torch.manual_seed(0)
    distiller = EGADistiller(6, 6, 5, teacher_head="none", norm=norm, node_weight=1.0, edge_weight=1.0)
    losses = distiller(student, teacher)
    s, t = (torch.corrcoef(each.embedding) for each in (student, teacher))
    expected = (s - t).square().mean() if norm == "mse" else torch.linalg.matrix_norm(s - t, 2)
    assert_close(losses["ega/edge"], expected)


def test_kl_on_the_logits():
    student, teacher = networks(9)
    losses = made(kl_weight=0.5, kl_temperature=2.0)(student, teacher, **beside(9))
    assert_close(losses["ega/kl"], 0.5 * functional.kd(student.logits, teacher.logits, temperature=2.0))


def test_where_the_classifier_sits():
    assert isinstance(made().project, torch.nn.Identity)
    assert isinstance(made(classifier_on="feature").project, torch.nn.Linear)
    assert EGADistiller(10, 8, 5).project.weight.shape == (256, 10)


def test_the_edge_matrix_and_its_mean_square_are_the_goldens():
    golden = json.loads((Path(__file__).parents[1] / "golden" / "ega.json").read_text())
    case = next(each for each in golden["cases"] if each["dtype"] == "float64" and not each["correlated"])
    draw = torch.Generator().manual_seed(case["seed"])
    teacher, student = (torch.randn(case["N"], case["D"], generator=draw, dtype=torch.float64) for _ in range(2))
    assert_close(pearson(teacher, teacher)[0, 1].item(), case["probe"]["Et[0,1]"], rtol=1e-9, atol=0)
    squares = align_within(student, teacher, "pearson", MSE).item()
    assert_close(squares, case["alternatives_not_official"]["edge_mean_square"], rtol=1e-9, atol=0)
    assert_close(align_within(student, teacher, "pearson", FROBENIUS).item(), case["loss_edge"], rtol=1e-9, atol=0)
