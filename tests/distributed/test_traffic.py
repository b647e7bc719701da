"""Gram matrices in place of gathered nodes: one process's values and gradients, and as many bytes as the formula says."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd import distributed
from tests.distributed.traffic_ranks import DISTILLERS, EDGES, SPLITS, edges, method, work

CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module", params=SPLITS, ids="{} ranks".format)
def ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, args=(request.param, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("case", EDGES, ids=lambda case: " ".join(map(str, case)))
def test_edges_equal_those_of_one_process(ranks, split, case):
    expected = edges(case, slice(None))
    found = [each[split, case] for each in ranks]
    for each in found:
        assert_close(each["value"], expected["value"], **CLOSE)
    for name in ("student", "teacher"):
        assert_close(torch.cat([each[name] for each in found]) / len(ranks), expected[name], **CLOSE)


@pytest.mark.parametrize("split", ["even", "uneven"])
@pytest.mark.parametrize("name", DISTILLERS)
def test_methods_equal_one_process(ranks, split, name):
    expected = method(name, slice(None))
    found = [each[split, name] for each in ranks]
    for each in found:
        assert_close(each["value"], expected["value"], **CLOSE)
    assert_close(torch.cat([each["student"] for each in found]) / len(ranks), expected["student"], **CLOSE)
    for parameter, whole in expected["owned"].items():
        parts = [each["owned"][parameter] for each in found]
        assert_close(None if whole is None else sum(parts) / len(ranks), whole, **CLOSE)


@pytest.mark.parametrize("rows", [64, 256])
def test_ega_sends_its_gram_matrices_whatever_the_batch(ranks, rows):
    width, w = 16, len(ranks)
    matrix = 4 * width * (2 * width + 1)  # the upper triangle of (2 D) x (2 D) numbers of float32
    for each in ranks:
        handed, calls, sent = each["bytes", rows, width]
        assert handed == {"all_reduce": matrix, "all_gather": 8}  # how many rows each rank has
        assert calls == {"all_reduce": 1, "all_gather": 1}
        assert sent == 2 * (w - 1) / w * matrix + 8 * (w - 1)


@pytest.mark.parametrize("rows", [64, 256])
def test_where_nodes_are_fewer_bytes_they_are_gathered_once_for_both_terms(ranks, rows):
    width, w = 1024, len(ranks)
    nodes = 4 * rows * width
    for each in ranks:
        handed, _, _ = each["bytes", rows, width]
        reduced = {"forward": 2 * 2 * 4, "backward": 2 * 2 * 4 + w * nodes}  # two sums and counts; student's gradients
        expected = {"all_gather": 2 * nodes + 8, "all_reduce": sum(reduced.values())}
        assert handed == (
            expected if rows * w <= width else {"all_gather": 8, "all_reduce": 4 * width * (2 * width + 1)}
        )


def test_nothing_is_counted_without_ranks():
    x = nn.Parameter(torch.ones(3))
    with distributed.traffic() as found:
        distributed.total(x).sum().backward()
    assert (found.ranks, dict(found.handed), found.total) == (1, {}, 0)
