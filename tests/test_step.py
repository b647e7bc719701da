from math import log

import pytest
import torch
from torch import nn, tensor
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from graphkd.distillers.base import Distiller, mean_over_batch
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.errors import DistributedError, GraphKDError, MissingFeatureError, OptionError
from graphkd.features import Features
from graphkd.graphs.graph import Graph
from graphkd.step import Step, labelled_cross_entropy


class Student(nn.Module):
    """A linear embedding with a linear classifier: what a Tap gives."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, images):
        embedding = self.body(images.flatten(1))
        proxies = self.head.weight.clone()
        return Features(embedding, self.head(embedding), proxies, self.head(proxies))


class Bare(nn.Module):
    def forward(self, images):
        return Features(images.flatten(1))


class EmbeddingsOnly(Distiller):
    def __init__(self):
        super().__init__()
        self.terms = self.weighted_terms(
            size=(1.0, lambda pair: mean_over_batch(pair.student["sample"].x.square().sum(-1)))
        )

    def build(self, features, side):
        return Graph().add("sample", features.tensor("embedding", "this"))


@pytest.fixture
def images():
    return torch.randn(4, 3, 2, 2)


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    return Features(torch.randn(4, 5), torch.randn(4, 3), torch.randn(3, 5), torch.randn(3, 3))


def test_labelled_cross_entropy_by_hand():
    logits = tensor([[0.0, log(3)], [5.0, 5.0], [1.0, 7.0]])
    assert_close(labelled_cross_entropy(logits, tensor([1, 0, -1])), tensor((log(4 / 3) + log(2)) / 2))


def test_all_labels_are_plain_cross_entropy_in_the_precision_given():
    logits, target = torch.randn(4, 3, dtype=torch.float64), tensor([0, 2, 1, 1])
    assert_close(labelled_cross_entropy(logits, target), cross_entropy(logits, target), rtol=1e-12, atol=0)
    assert labelled_cross_entropy(logits.half(), target).dtype == torch.float32


def test_terms_of_distillers_and_task(images, teacher):
    step = Step(Student(), PRGDistiller(6, 5, 3), task=labelled_cross_entropy)
    target = tensor([0, 1, 2, -1])
    losses = step(images, teacher, target=target)
    assert list(losses) == ["prg/ce", "prg/node", "prg/edge", "prg/kl", "task"]
    assert_close(losses["task"], cross_entropy(step.student(images).logits[:3], target[:3]))
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in step.parameters())


def test_a_task_alone_needs_no_teacher(images):
    losses = Step(Student(), task=labelled_cross_entropy)(images, target=tensor([0, 1, 2, 0]))
    assert list(losses) == ["task"]


def test_two_of_a_kind_need_names(images, teacher):
    first, second = PRGDistiller(6, 5, 3), PRGDistiller(6, 5, 3)
    with pytest.raises(
        OptionError, match="two distillers give the terms prg/ce, prg/edge, prg/kl, prg/node: rename one"
    ):
        Step(Student(), first, second)(images, teacher)
    second.name = "other"
    losses = Step(Student(), first, second)(images, teacher)
    assert list(losses) == [f"{name}/{term}" for name in ("prg", "other") for term in ("ce", "node", "edge", "kl")]


def test_the_teacher_is_no_part_of_it():
    assert {name.split(".")[0] for name in Step(Student(), PRGDistiller(6, 5, 3)).state_dict()} == {
        "student",
        "distillers",
    }


def test_an_unreached_head_is_refused_every_time_that_there_is_a_gradient(images, teacher):
    step = Step(Student(), EmbeddingsOnly())
    for _ in range(2):
        with pytest.raises(GraphKDError, match="no term of embeddingsonly/size reaches the student's classifier"):
            step(images, teacher)
    with torch.no_grad():
        assert list(step(images, teacher)) == ["embeddingsonly/size"]


def test_a_frozen_head_may_stay_unreached(images, teacher):
    student = Student()
    student.head.requires_grad_(False)
    losses = Step(student, EmbeddingsOnly())(images, teacher)
    losses.total.backward()
    assert student.body.weight.grad is not None


def test_the_check_leaves_the_graph_and_the_gradients_alone(images, teacher):
    step = Step(Student(), PRGDistiller(6, 5, 3))
    gradients = []
    for _ in range(2):  # with the check, and without
        step.zero_grad()
        losses = step(images, teacher)
        assert all(parameter.grad is None for parameter in step.parameters())
        losses.total.backward()
        gradients.append([parameter.grad for parameter in step.parameters()])
    assert_close(*gradients)


def test_the_step_compiles_whole(images, teacher):
    step = Step(Student(), PRGDistiller(6, 5, 3))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(images, teacher)
    assert_close(dict(compiled), dict(step(images, teacher)))


def test_data_parallel_is_refused():
    with pytest.raises(DistributedError, match=r"cuts the batch.*use DistributedDataParallel\(Step\(...\)\)"):
        nn.parallel.replicate(Step(nn.Identity(), task=labelled_cross_entropy), ["meta"])  # the call of DataParallel


def task_alone(student):
    return Step(student, task=labelled_cross_entropy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: Step(Student()), "a Step needs a distiller or task=...: there is nothing to train"),
        (
            lambda x: Step(Student(), PRGDistiller(6, 5, 3))(x),
            "PRGDistiller needs the teacher's features: give them to step",
        ),
        (lambda x: task_alone(Student())(x), "the task needs target=...: labels, with -1 where there is none"),
        (
            lambda x: task_alone(Bare())(x, target=torch.zeros(4).long()),
            "the task needs features.logits",
        ),
    ],
)
def test_what_is_missing_is_named(images, call, message):
    with pytest.raises(MissingFeatureError, match=message):
        call(images)
