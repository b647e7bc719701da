"""EIKD: the values of the official implementations of its parts."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.eikd.class_dropping import RandomClasses, TopK
from graphkd.distillers.eikd.distiller import EIKDDistiller
from graphkd.distillers.eikd.implicit import Within
from graphkd.features import Features
from graphkd.graphs.alignments import FROBENIUS
from tests.distillers.eikd_case import ONLY_IMPLICIT

GOLDEN = {
    name: json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())
    for name in ("relational", "ega")
}


def golden_pair(seed, n, d):
    draw = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(n, d, generator=draw, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    return Features(embedding=student, logits=student), Features(embedding=teacher, logits=teacher)


@pytest.mark.parametrize("drop", [TopK(16), "off", RandomClasses(0.0)])
def test_the_whole_term_without_dropping_is_the_kd_golden(drop):
    student, teacher = golden_pair(0, 8, 16)
    losses = EIKDDistiller(16, 16, 16, drop=drop)(student, teacher)
    value = GOLDEN["relational"]["methods"]["repdistiller.kd_T4"]["cases"]["seed0_N8_D16"]["value"]
    assert_close(losses["eikd/kd"].item(), value, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("relation", "method"),
    [
        ("sp_raw", "repdistiller.sp"),
        ("rkd_distance", "repdistiller.rkd_distance"),
        ("rkd_angle", "repdistiller.rkd_angle"),
    ],
)
@pytest.mark.parametrize("case", GOLDEN["relational"]["cases"], ids=lambda case: case["id"])
def test_relations_equal_the_goldens(relation, method, case):
    student, teacher = golden_pair(case["seed"], case["N"], case["D"])
    golden = GOLDEN["relational"]["methods"][method]["cases"][case["id"]]
    loss = EIKDDistiller(case["D"], case["D"], case["D"], relation=relation, **ONLY_IMPLICIT)(student, teacher).total
    loss.backward()
    assert_close(loss.item(), golden["value"], rtol=1e-9, atol=1e-12)
    assert_close(student.embedding.grad.norm().item(), golden["grad_norm"], rtol=1e-9, atol=1e-12)


def test_pearson_relation_is_egas_edge_matrix():
    case = next(each for each in GOLDEN["ega"]["cases"] if each["dtype"] == "float64" and not each["correlated"])
    student, teacher = golden_pair(case["seed"], case["N"], case["D"])
    eikd = EIKDDistiller(case["D"], case["D"], case["D"], relation="pearson", **ONLY_IMPLICIT)
    edges = eikd.build(teacher, "teacher").edges("relation", "pearson", "relation").dense()
    assert_close(edges[0, 1].item(), case["probe"]["Et[0,1]"], rtol=1e-9, atol=0)
    assert_close(
        eikd(student, teacher).total.item(), case["alternatives_not_official"]["edge_mean_square"], rtol=1e-9, atol=0
    )
    frobenius = EIKDDistiller(
        case["D"], case["D"], case["D"], relation=Within("pearson", None, FROBENIUS), **ONLY_IMPLICIT
    )
    assert_close(frobenius(student, teacher).total.item(), case["loss_edge"], rtol=1e-9, atol=0)
