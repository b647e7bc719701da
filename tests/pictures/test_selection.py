"""The picture of a selection: what is drawn of each image, and without images."""

import numpy as np
import pytest

from graphkd.data.pool import PoolScores
from graphkd.data.selection import select
from graphkd.errors import DataError
from graphkd.pictures.canvas import picture_bytes
from graphkd.pictures.selection import draw_selection
from tests.data.store.fakes import squares


@pytest.fixture
def scores():
    p = np.linspace(0.5, 1, 24)
    label = np.arange(24) % 3
    label[5] = -1
    p[5] = np.nan
    return PoolScores(label, np.log(p), 2 * p - 1, 1 - p, squares(24).ids, 3, ["cat", "dog", "a $x$ name"])


def test_taken_and_left_add_up_to_what_can_be_read(scores):
    chosen, source = select(scores, 8, score="margin"), squares(24)
    image = source.image

    def broken(index):
        if index == 23:
            raise DataError("gone: look")
        return image(index)

    source.image = broken
    figure = draw_selection(scores, chosen, source)
    histogram, classes, taken, left = figure.axes
    assert sum(bar.get_height() for bar in histogram.patches) == 23
    assert sum(bar.get_width() for bar in classes.patches) == 23
    assert [len(each.texts) for each in (taken, left)] == [7, 10]
    assert picture_bytes(figure)[:4] == b"\x89PNG"


def test_a_store_alone_has_no_images(scores):
    assert len(draw_selection(scores, select(scores, 8)).axes) == 2
