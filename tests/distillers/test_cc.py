import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.cc import CCDistiller
from graphkd.features import Features
from tests.distiller_laws import features, networks


def test_adjacent_form_equals_the_function_and_depends_on_the_order():
    student, teacher = features(9, 1), features(9, 2)
    distiller = CCDistiller.between(student, teacher, form="adjacent", weight=1.0)
    pair = student.embedding, teacher.embedding
    assert_close(distiller(student, teacher).total, functional.correlation_congruence_adjacent(*pair))
    order = torch.tensor([3, 0, 8, 1, 7, 2, 6, 4, 5])
    shuffled = distiller(*(Features(embedding=each[order]) for each in pair)).total
    assert not torch.isclose(shuffled, distiller(student, teacher).total)


def test_layers_on_both_sides_are_trained():
    student, teacher = networks(9)
    distiller = CCDistiller.between(student, teacher, form="adjacent", embed_dim=4).double()
    distiller(student, teacher).total.backward()
    assert all(each.grad.abs().sum() > 0 for each in distiller.parameters())
    assert {len(each) for each in distiller.parameters()} == {4}
