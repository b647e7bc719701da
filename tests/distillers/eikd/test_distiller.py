"""EIKD: the invariants of its specification, every option, and the hazards."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from graphkd.distillers.eikd.class_dropping import TopK
from graphkd.distillers.eikd.distiller import EXPLICIT, RELATIONS, EIKDDistiller
from graphkd.distillers.eikd.noise_matrix import NoiseMatrix
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, UnknownNameError
from graphkd.features import Features
from graphkd.functional import class_dropped_kd, explicit_features, implicit_relations, kd, top_classes
from tests.distillers.eikd_case import features, pair


def test_terms_are_the_published_functions():
    student, teacher = features(grad=True), features(seed=1)
    losses = EIKDDistiller(5, 5, 12, drop=TopK(3), explicit="features")(student, teacher)
    kept = top_classes(teacher.logits, 3)
    assert_close(losses["eikd/kd"], class_dropped_kd(student.logits, teacher.logits, kept, 4.0))
    assert_close(losses["eikd/explicit"], explicit_features(student.embedding, teacher.embedding))
    assert_close(losses["eikd/implicit"], implicit_relations(student.embedding, teacher.embedding))


def test_the_default_keeps_every_class_and_compares_directions():
    student, teacher = features(grad=True), features(seed=1)
    losses = EIKDDistiller(5, 5, 12)(student, teacher)
    unit = torch.nn.functional.normalize
    assert_close(losses["eikd/kd"], kd(student.logits, teacher.logits, 4.0))
    assert_close(losses["eikd/explicit"], explicit_features(unit(student.embedding), unit(teacher.embedding)))
    longer = replace(student, embedding=100 * student.embedding)
    assert_close(EIKDDistiller(5, 5, 12)(longer, teacher), losses)


def test_the_first_reading_is_a_preset_and_what_is_given_goes_before_it():
    student, teacher = features(), features(seed=1)
    literal = EIKDDistiller(5, 5, 12, preset="literal")(student, teacher)
    written = {"drop": TopK(10), "explicit": "features", "relation": "cosine_mean"}
    written |= {"explicit_weight": 1.0, "implicit_weight": 1.0}
    assert_close(literal, EIKDDistiller(5, 5, 12, **written)(student, teacher))
    assert_close(6 * literal["eikd/implicit"], EIKDDistiller(5, 5, 12)(student, teacher)["eikd/implicit"])
    assert set(EIKDDistiller(5, 5, 12, preset="literal", explicit_weight=0.0).terms) == {"kd", "implicit"}
    with pytest.raises(UnknownNameError, match="literal, stable"):
        EIKDDistiller(5, 5, 12, preset="litteral")


def test_implicit_ignores_the_scale_of_features_and_explicit_is_zero_at_the_target():
    teacher = features()
    scaled = replace(teacher, embedding=3.7 * teacher.embedding)
    eikd = EIKDDistiller(5, 5, 12)
    assert abs(eikd(scaled, teacher)["eikd/implicit"]) < 1e-15
    assert all(abs(value) < 1e-15 for value in eikd(teacher, teacher).values())
    projected = EIKDDistiller(5, 7, 12).double()
    target = replace(teacher, embedding=projected.project(teacher.embedding))
    assert projected(teacher, target)["eikd/explicit"] == 0


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("explicit", EXPLICIT)
def test_every_option_trains_the_student_only_and_needs_no_label(relation, explicit):
    student, teacher = pair()
    teacher = teacher.map_tensors(lambda value: value.requires_grad_())
    eikd = EIKDDistiller.between(student, teacher, relation=relation, explicit=explicit).double()
    eikd(student, teacher).total.backward()
    assert student.embedding.grad.abs().sum() > 0
    assert student.logits.grad.abs().sum() > 0
    assert all(value.grad is None for value in teacher.tensors())


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("hazard", ["zero", "duplicates", "collapsed", "one", "two", "large"])
def test_degenerate_batches_give_finite_values_and_gradients(relation, dtype, hazard):
    n = {"one": 1, "two": 2}.get(hazard, 6)
    changes = {
        "zero": lambda x: x * 0,
        "duplicates": lambda x: x[[0, 0, 1, 1, 2, 2]],
        "collapsed": lambda x: x[:1].expand_as(x),
        "large": lambda x: x * 1000,
    }
    change = changes.get(hazard, lambda x: x)
    student, teacher = (features(n, seed=seed, dtype=dtype).map_tensors(lambda x: change(x).clone()) for seed in (0, 1))
    student = student.map_tensors(lambda x: x.requires_grad_())
    losses = EIKDDistiller(5, 5, 12, relation=relation, drop=TopK(2))(student, teacher)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    for leaf in (student.embedding, student.logits):
        assert leaf.grad is None or torch.isfinite(leaf.grad).all()


def test_gradcheck_of_the_default():
    teacher = features(4, 3, 5, seed=1)
    eikd = EIKDDistiller(3, 3, 5, drop=TopK(3)).eval()

    def total(embedding, logits):
        return eikd(Features(embedding=embedding, logits=logits), teacher).total

    student = features(4, 3, 5, grad=True)
    assert torch.autograd.gradcheck(total, (student.embedding, student.logits))


@pytest.mark.parametrize("options", [{}, {"preset": "literal"}])
def test_compiles_without_a_break(options):
    student, teacher = pair(dtype=torch.float32)
    eikd = EIKDDistiller(5, 7, 12, **options)
    twin = EIKDDistiller(5, 7, 12, **options)
    twin.load_state_dict(eikd.state_dict())
    compiled = torch.compile(eikd, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        assert_close(dict(compiled(student, teacher)), dict(twin(student, teacher)))


def test_weight_zero_removes_the_term_and_its_projector():
    assert list(EIKDDistiller(5, 7, 12, explicit_weight=0.0).parameters()) == []
    assert set(EIKDDistiller(5, 7, 12, explicit_weight=0.0).terms) == {"kd", "implicit"}
    student = features()
    assert EIKDDistiller(5, 5, 12, implicit_weight=0.0, explicit_weight=0.0)(student, student).keys() == {"eikd/kd"}


def test_bad_input_is_named():
    student, teacher = pair()
    with pytest.raises(ShapeError, match="embeddings of width 9, found 5"):
        EIKDDistiller(9, 7, 12)(student, teacher)
    with pytest.raises(ShapeError, match=r"student logits \(6, 12\) and teacher logits \(6, 10\)"):
        EIKDDistiller(5, 7, 12).double()(student, replace(teacher, logits=teacher.logits[:, :10]))
    with pytest.raises(MissingFeatureError, match="EIKD needs features.logits"):
        EIKDDistiller(5, 7, 12).double()(student, replace(teacher, logits=None))
    with pytest.raises(UnknownNameError, match="did you mean 'topk'"):
        EIKDDistiller(5, 7, 12, drop="top_k")
    with pytest.raises(
        UnknownNameError, match="unknown relation 'cosin'; did you mean 'cosine'. Known: cosine, cosine_mean"
    ):
        EIKDDistiller(5, 7, 12, relation="cosin")
    with pytest.raises(UnknownNameError, match="did you mean 'features'"):
        EIKDDistiller(5, 7, 12, explicit="feature")
    with pytest.raises(OptionError, match="softmax is > 0"):
        EIKDDistiller(5, 7, 12, temperature=0.0)
    with pytest.raises(OptionError, match="accuracy in"):
        NoiseMatrix(10, 1.0)


def test_the_honest_label_stands_in_the_docstring():
    label = "EIKD-style: reconstructed from the abstract and the DFND protocol; not a reproduction."
    assert label in " ".join(EIKDDistiller.__doc__.split())
