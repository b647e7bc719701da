import pytest
import torch
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.cc import CCDistiller
from graphkd.errors import OptionError, ShapeError, UnknownNameError
from graphkd.features import Features
from tests.distiller_laws import features, networks


def test_kernel_form_equals_the_function():
    student, teacher = networks(9)
    distiller = CCDistiller.between(student, teacher, gamma=0.7, order=3, weight=1.0)
    expected = functional.correlation_congruence(student.embedding, teacher.embedding, gamma=0.7, order=3)
    assert_close(distiller(student, teacher).total, expected)


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


def test_bad_input_is_named():
    student, teacher = networks(4)
    with pytest.raises(OptionError, match="the kernel needs gamma > 0 and order >= 1, found 0"):
        CCDistiller(6, 8, gamma=0.0)
    with pytest.raises(UnknownNameError, match="unknown form of CC 'kernels'; did you mean 'kernel'"):
        CCDistiller(6, 8, form="kernels")
    with pytest.raises(
        ShapeError, match=r"student embeddings \(4, 6\) and teacher embeddings \(4, 8\) differ: project"
    ):
        CCDistiller(6, 8, form="adjacent")(student, teacher)
