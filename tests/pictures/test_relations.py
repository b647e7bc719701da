"""Relation matrices: what is shown, in which order, and what is refused."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError
from graphkd.pictures import draw_relations
from graphkd.pictures.canvas import picture_bytes

NAMES = ["cat", "dog", "horse"]


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def shown(axis):
    """The matrix that an axis shows."""
    return torch.from_numpy(np.asarray(axis.images[0].get_array()))


LABELS = torch.tensor([2, 0, 1, 0, 2, 2])


def test_relations_show_both_matrices_and_their_difference_by_class():
    teacher, student = random(6, 6), random(6, 6, seed=1)
    figure = draw_relations(teacher, student, LABELS, NAMES)
    order = torch.tensor([1, 3, 2, 0, 4, 5])
    axes = figure.axes[:3]
    assert len(axes) == 3
    for axis, values in zip(axes, (teacher, student, student - teacher), strict=True):
        assert_close(shown(axis).float(), values[order][:, order])
    first, second, third = (axis.images[0] for axis in axes)
    low, high = float(torch.stack([teacher, student]).min()), float(torch.stack([teacher, student]).max())
    assert first.get_clim() == second.get_clim() == pytest.approx((low, high))
    most = float((student - teacher).abs().max())
    assert third.get_clim() == pytest.approx((-most, most))
    assert f"mean |Δ| = {float((student - teacher).abs().mean()):.3f}" in axes[2].get_title()
    assert [text.get_text() for text in axes[0].get_yticklabels()] == NAMES
    borders = sorted(line.get_ydata()[0] for line in axes[0].lines if line.get_xdata()[0] == 0)
    assert borders == [1.5, 2.5]  # between the classes: 2 cats, 1 dog, 3 horses


def test_relations_to_proxies_keep_the_order_of_the_classes():
    teacher, student = random(6, 3), random(6, 3, seed=1)
    figure = draw_relations(teacher, student, LABELS, NAMES, columns="class")
    assert_close(shown(figure.axes[1]).float(), student[[1, 3, 2, 0, 4, 5]])
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == NAMES


def test_the_order_of_the_samples_does_not_matter():
    teacher, labels = random(30, 4), torch.arange(30) % 4
    shuffle = labels.argsort(stable=True)
    pictures = [
        picture_bytes(draw_relations(t, 0.5 * t, by, columns="class"))
        for t, by in ((teacher, labels), (teacher[shuffle], labels[shuffle]))
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.ones(4, 4), torch.ones(4, 3)), {}, r"teacher edges \(4, 4\) and student edges \(4, 3\) differ"),
        ((torch.ones(4, 3), torch.ones(4, 3)), {}, "edges between samples are square, found .*: say columns='class'"),
        ((torch.ones(4, 4), torch.ones(4, 4), torch.zeros(3)), {}, "expected a label for each of 4 samples"),
        (
            (torch.ones(2, 2), torch.ones(2, 2), torch.tensor([0, 3]), NAMES),
            {},
            "labels 0 to 3 do not fit 3 class names",
        ),
        ((torch.ones(2, 2), torch.ones(2, 2)), {"columns": "proxy"}, "columns are 'sample' or 'class', found 'proxy'"),
    ],
)
def test_relations_that_do_not_fit(arguments, options, message):
    with pytest.raises((ShapeError, OptionError), match=message):
        draw_relations(*arguments, **options)


@pytest.mark.parametrize("samples", [1, 2])
def test_relations_of_one_sample_or_class(samples):
    edges = torch.ones(samples, samples)
    figure = draw_relations(edges, edges, torch.zeros(samples, dtype=torch.long), ["only"])
    assert "mean |Δ| = 0.000" in figure.axes[2].get_title()
    assert picture_bytes(figure)
