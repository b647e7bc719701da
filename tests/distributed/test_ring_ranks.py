"""Blocks that pass from rank to rank give the values and gradients of one process, and no nodes are gathered."""

import pytest
import torch

from tests.distributed.ranks import SHARES, WORLDS
from tests.distributed.ring_ranks import (
    EDGES,
    METHODS,
    NODES,
    TEACHER,
    TOKENS,
    WIDTH,
    edges,
    method,
    nodes,
    outcomes,
    without_rows,
)

SPLITS = ("even", "uneven")


@pytest.fixture(scope="module")
def ranks(on_ranks):
    """Outcomes of every rank by number of ranks and split, computed once."""
    found = {}

    def of(world, split):
        if (world, split) not in found:
            found[world, split] = on_ranks(world, outcomes, split)
        return found[world, split]

    return of


def check(found, expected, world, same):
    for each in found:
        same(each["value"], expected["value"], "the value")
    for name in ("student", "teacher"):
        same(torch.cat([each[name] for each in found]) / world, expected[name], f"the gradient of the {name}'s nodes")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", EDGES, ids=lambda case: " ".join(map(str, case)))
def test_edges_equal_those_of_one_process(ranks, same, case, split, world):
    check([each["edges", *case] for each in ranks(world, split)], edges(case, slice(None)), world, same)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", NODES, ids=" ".join)
def test_node_terms_equal_those_of_one_process(ranks, same, case, split, world):
    check([each["nodes", *case] for each in ranks(world, split)], nodes(case, slice(None)), world, same)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", METHODS)
def test_methods_equal_one_process_and_gather_no_nodes(ranks, same, name, split, world):
    expected = method(name, slice(None))
    found = [each["method", name] for each in ranks(world, split)]
    for each in found:
        for term, value in expected["values"].items():
            same(each["values"][term], value, term)
        assert each["handed"]["all_gather"] <= 16 * 8  # numbers: rows of each rank, and largest entries
    for number, whole in enumerate(expected["rows"]):
        same(torch.cat([each["rows"][number] for each in found]) / world, whole, f"gradient {number} of the features")
    for parameter, whole in expected["owned"].items():
        same(sum(each["owned"][parameter] for each in found) / world, whole, parameter)
