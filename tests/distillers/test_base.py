import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd import chunks
from graphkd.distillers.base import Distiller, mean_over_batch, widths
from graphkd.distillers.factory import create_distiller
from graphkd.distillers.terms import EdgeTerm, NodeTerm
from graphkd.errors import MissingFeatureError, OptionError, ShapeError, TeacherError, UnknownNameError
from graphkd.features import Features
from graphkd.graphs.graph import Graph


class EdgesDistiller(Distiller):
    """The smallest method: cosines between samples."""

    def __init__(self, weight=1.0, needs=frozenset()):
        super().__init__()
        self.project = nn.Linear(3, 3)
        self.required_inputs = needs
        self.terms = self.weighted_terms(edge=(weight, EdgeTerm(("sample", "cosine", "sample"), "mse")))
        self.seen = []

    def build(self, features, side):
        self.seen.append((side, features.embedding.dtype, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return Graph().add("sample", features.tensor("embedding", "edges")).connect("sample", "cosine", "sample")


def features(*shape, seed=0, **how):
    return Features(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(**how))


def test_a_method_is_a_graph_and_a_table():
    student, teacher = features(4, 3), features(4, 5, seed=1)
    losses = EdgesDistiller(2.0)(student, teacher)
    x, y = (nn.functional.normalize(each.embedding) for each in (student, teacher))
    assert_close(dict(losses), {"edges/edge": 2 * (x @ x.T - y @ y.T).square().mean()})


def test_the_teacher_builds_without_gradient_and_first():
    distiller = EdgesDistiller()
    distiller(features(4, 3), features(4, 5))
    assert [each[:3] for each in distiller.seen] == [
        ("teacher", torch.float32, False),
        ("student", torch.float32, True),
    ]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (torch.float16, torch.float32, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
        (torch.float32, torch.float64, torch.float32),
        (torch.float64, torch.float32, torch.float64),
    ],
)
def test_one_precision_that_of_the_student(student, teacher, expected):
    distiller = EdgesDistiller()
    losses = distiller(features(4, 3, dtype=student), features(4, 5, dtype=teacher))
    assert {each[1] for each in distiller.seen} == {expected}
    assert losses.total.dtype == expected


def test_autocast_is_off_inside():
    distiller = EdgesDistiller()
    with torch.autocast("cpu", torch.bfloat16):
        losses = distiller(features(4, 3), features(4, 5))
    assert {each[3] for each in distiller.seen} == {False}
    assert_close(dict(losses), dict(EdgesDistiller()(features(4, 3), features(4, 5))))


def test_a_weight_of_zero_removes_the_term():
    assert EdgesDistiller(0.0).terms == {}
    assert not EdgesDistiller(0.0)(features(4, 3), features(4, 5))


def test_its_name_can_be_set():
    distiller = EdgesDistiller()
    assert distiller.name == "edges"
    distiller.name = "mine"
    assert list(distiller(features(4, 3), features(4, 5))) == ["mine/edge"]


def test_mean_over_batch_by_hand():
    assert_close(mean_over_batch(torch.tensor([1.0, 2.0, 6.0])), torch.tensor(3.0))


class Model:
    def __init__(self, embedding_dim, num_classes):
        self.embedding_dim, self.num_classes = embedding_dim, num_classes


def test_widths():
    assert widths("PRG", Model(3, 10), Model(5, 10)) == (3, 5, 10)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_are_finite_and_not_negative(weight):
    with pytest.raises(OptionError, match=f"weight of the edge term is a finite number >= 0, found {weight}"):
        EdgesDistiller(weight)


def test_batches_that_differ():
    with pytest.raises(ShapeError, match="student features of 4 samples and teacher features of 5: both need the same"):
        EdgesDistiller()(features(4, 3), features(5, 3))


@pytest.mark.parametrize("name", ["target", "index", "boxes"])
def test_what_a_method_needs_must_be_given(name):
    distiller = EdgesDistiller(needs=frozenset({name}))
    with pytest.raises(MissingFeatureError, match=f"EdgesDistiller needs {name}=...: give it beside the features"):
        distiller(features(4, 3), features(4, 3))
    distiller(features(4, 3), features(4, 3), **{name: torch.zeros(4)})


def test_a_distiller_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        Distiller()


@pytest.mark.parametrize(
    ("student", "teacher", "error", "message"),
    [
        (10, None, TeacherError, "PRG needs classes, and this teacher has neither text tower nor classifier"),
        (None, 10, ShapeError, "PRG needs the student's class scores, and this student has no classifier"),
        (9, 10, ShapeError, "student has 9 classes, the teacher 10: build the student with num_classes=10"),
    ],
)
def test_numbers_of_classes_that_do_not_fit(student, teacher, error, message):
    with pytest.raises(error, match=message):
        widths("PRG", Model(3, student), Model(5, teacher))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EdgeTerm(("a", "b", "c"), "frobenus"), "unknown alignment 'frobenus'; did you mean 'frobenius'"),
        (lambda: NodeTerm("node", "identity", "gramm"), "unknown relation 'gramm'; did you mean 'gram'"),
        (lambda: NodeTerm("node", "diag"), "unknown node target 'diag'"),
        (lambda: create_distiller("prgg", None, None), "unknown distiller 'prgg'; did you mean 'prg'"),
    ],
)
def test_unknown_names(make, message):
    with pytest.raises(UnknownNameError, match=message):
        make()


def test_names_of_earlier_versions_keep_their_meaning():
    with pytest.warns(DeprecationWarning, match="OldDistiller.needs is deprecated: it is required_inputs now"):

        class OldDistiller(EdgesDistiller):
            needs = frozenset({"index"})

    assert OldDistiller.required_inputs == frozenset({"index"})
    distiller = EdgesDistiller()
    with pytest.warns(DeprecationWarning, match="Distiller.table is deprecated: it is weighted_terms now"):
        assert distiller.table(edge=(0.0, None)) == {}
    with pytest.warns(DeprecationWarning, match="Features.compute is deprecated: it is as_float32 now"):
        assert features(2, 3, dtype=torch.float16).compute().dtype == torch.float32
    with pytest.warns(DeprecationWarning, match="chunks.unmoved is deprecated: it is preserve_buffers now"):
        assert chunks.unmoved is chunks.preserve_buffers
