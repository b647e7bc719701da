from dataclasses import replace

import pytest
from torch.testing import assert_close

from graphkd import functional
from graphkd.distillers.irg import IRGDistiller
from graphkd.errors import ShapeError
from tests.distiller_laws import networks


def test_terms_equal_their_functions():
    student, teacher = networks(9)
    losses = IRGDistiller(vertex_weight=2.0, edge_weight=3.0, transformation_weight=1.0)(student, teacher)
    maps = [tuple(each.maps.values()) for each in (student, teacher)]
    assert_close(losses["irg/vertex"], 2 * functional.fitnet(student.logits, teacher.logits))
    assert_close(losses["irg/edge_feature"], functional.irg_edge(student.embedding, teacher.embedding))
    assert_close(losses["irg/edge_map0"], functional.irg_edge(maps[0][0], maps[1][0]))
    assert_close(losses["irg/edge_map1"], functional.irg_edge(maps[0][1], maps[1][1]))
    assert_close(losses["irg/transformation"], functional.irg_transformation(*maps))


def test_bad_input_is_named():
    student, teacher = networks(4)
    with pytest.raises(ShapeError, match="IRG compares two maps, found 1"):
        IRGDistiller(maps={"layer1": "layer1"})(student, teacher)
    odd = replace(student, maps={"layer1": student.maps["layer1"], "layer2": student.maps["layer2"][:, :7]})
    with pytest.raises(ShapeError, match="found 7 and 10: choose maps whose channels divide"):
        IRGDistiller()(odd, teacher)
