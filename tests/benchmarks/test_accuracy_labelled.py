"""Students with labels and a pretrained teacher: all have EGA's head, and none sees anything else."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from benchmarks.accuracy import labelled
from benchmarks.accuracy.config import Config, Recipe
from benchmarks.accuracy.data import Split, StoredTeacher
from benchmarks.accuracy.study import run, step_of
from graphkd.data.sources import ArraySource

RECIPE = Recipe(student="small_resnet", epochs=1, batch=4)


@pytest.fixture
def caltech(monkeypatch):
    """Eight images of noise in the place of Caltech-101's, with four classes."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (8, 32, 32, 3), generator=generator, dtype=torch.uint8)
    unit = [normalize(torch.randn(count, 6, generator=generator), dim=1) for count in (8, 4)]
    split = Split(ArraySource(pixels.numpy(), [k % 4 for k in range(8)], list("abcd")), StoredTeacher(*unit))
    monkeypatch.setattr(labelled.caltech.data, "caltech", lambda: (split, split))


@pytest.mark.parametrize("label", [method.label for method in labelled.CALTECH])
def test_every_method_learns_from_labels_through_the_same_student(caltech, label):
    row = next(each for each in labelled.CALTECH if each.label == label)
    config = Config("caltech-ega", row.label, row.name, 0, RECIPE, row.options)
    problem = labelled.caltech_problem(config)
    step, alone = step_of(config, problem), step_of(replace(config, method="labels"), problem)
    assert step.task is not None
    for mine, theirs in zip(step.student.parameters(), alone.student.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert step.student(torch.rand(2, 3, 32, 32)).embedding.shape == (2, labelled.WIDTH)


def test_egas_nodes_are_the_embedding_that_the_classifier_reads(caltech):
    config = Config("caltech-ega", "EGA", "ega", 0, RECIPE, {})
    problem = labelled.caltech_problem(config)
    (ega,) = step_of(config, problem).distillers
    assert isinstance(ega.project, torch.nn.Identity)
    assert ega.teacher_head.embed.weight.shape == (labelled.WIDTH, 6)
    assert set(run(config, problem)["shares"]) == {"ega/node", "ega/edge", "ega/teacher_head", "task"}
