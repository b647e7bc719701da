"""Blocks that pass from rank to rank give the values and gradients of one process, and no nodes are gathered."""

import pytest
import torch

from tests.distributed import prg_cases, test_eikd_ranks, test_every_distiller
from tests.distributed.ranks import SHARES, WORLDS
from tests.distributed.ring_ranks import (
    EDGES,
    IN_DDP,
    JOURNEYS,
    MAPS,
    METHODS,
    NODES,
    TOKENS,
    WIDTH,
    edges,
    every_distiller,
    every_option,
    method,
    nodes,
    others,
    outcomes,
    raising,
    wrapped,
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
        assert each["sent"]["ring"] == bytes_of(name, SHARES[world, split])
    for number, whole in enumerate(expected["rows"]):
        same(torch.cat([each["rows"][number] for each in found]) / world, whole, f"gradient {number} of the features")
    for parameter, whole in expected["owned"].items():
        same(sum(each["owned"][parameter] for each in found) / world, whole, parameter)


def bytes_of(name, shares):
    """What a rank hands to the next: rows padded to those of the largest rank, in float64, W - 1 times a journey."""
    widths = {"trg": [TOKENS * WIDTH], "irg": [WIDTH, *MAPS]}.get(name, [WIDTH])
    return 8 * (len(shares) - 1) * max(shares) * sum(widths) * sum(JOURNEYS[name])


@pytest.fixture(scope="module")
def four(on_ranks):
    return on_ranks(4, others, "uneven")


@pytest.mark.parametrize("case", EDGES, ids=lambda case: " ".join(map(str, case)))
def test_ranks_without_samples(four, same, case):
    check([each["empty"][case] for each in four], edges(case, slice(None)), 4, same)


def test_a_second_derivative_is_refused(four):
    for each in four:
        assert all("first derivatives only" in said for said in each["second"])  # gathered, and passing


def test_a_compiled_loss_is_the_same(four, same):
    for each in four:
        for found, expected, what in zip(each["compiled"], each["plain"], ("the value", "the gradient"), strict=True):
            same(found, expected, what)


def test_small_nodes_are_gathered(four):
    for each in four:
        assert each["below the limit"]["all_gather"] == 2
        assert "ring" not in each["below the limit"]


def test_no_rank_holds_more_than_a_block(four):
    rows = SHARES[4, "uneven"]
    for each in four:
        assert each["largest"] == (sum(rows) * WIDTH, 2 * max(rows) * WIDTH)  # of one network; of both


@pytest.mark.parametrize("split", SPLITS)
def test_every_method_equals_one_process(on_ranks, same, split):
    whole, ranks = test_every_distiller.every_outcome(""), on_ranks(4, every_distiller, split)
    for name, one in whole.items():
        several = [each[name] for each in ranks]
        for term, expected in one["values"].items():
            for rank in several:
                same(rank["values"][term], expected, f"{name}'s {term}")
        for number, (leaf, expected) in enumerate(zip(test_every_distiller._names(), one["features"], strict=True)):
            parts = [rank["features"][number] for rank in several]
            found = sum(parts) if leaf in ("proxies", "proxy_logits") else torch.cat(parts)
            same(found / 4, expected, f"{name}: the gradient of the student's {leaf}")


def test_options_of_prg_and_eikd_equal_one_process(on_ranks, same):
    ranks = on_ranks(2, every_option)
    for kind, outcome, cases in prg_cases.OUTCOMES[:2]:
        for case, options in cases.items():
            whole = outcome(options, slice(None))
            for split in prg_cases.SPLITS:
                parts = [prg[kind, case, split] for prg, _ in ranks]
                for name, expected in whole["values"].items():
                    same(parts[1]["values"][name], expected, f"{case}: {name}")
                same(torch.cat([part["rows"] for part in parts]) / 2, whole["rows"], f"{case}: the gradient")
    for number, options in enumerate(test_eikd_ranks.OPTIONS):
        losses, gradients = test_eikd_ranks.outcome(options, slice(None))
        for (_, eikd), rows in zip(ranks, test_eikd_ranks.ROWS, strict=True):
            found, own = eikd[number]
            for name, expected in losses.items():
                same(found[name], expected, f"{options}: {name}")
            for leaf, expected in gradients.items():
                same(own[leaf] / 2, expected[rows], f"{options}: the gradient of the student's {leaf}")


@pytest.mark.parametrize("split", prg_cases.SPLITS)
def test_steps_in_ddp_equal_one_process(on_ranks, same, split):
    whole = prg_cases.step_outcome(IN_DDP, slice(None))
    for each in on_ranks(2, wrapped, split):
        assert (
            each["calls"]["ring"] == 3 * 2 + 2
        )  # there; back again and the gradients, which Step's first check asks for
        for name, expected in whole["values"].items():
            same(each["values"][name], expected, name)
        for name, expected in whole["shared"].items():
            same(each["shared"][name], expected, name)


def test_no_rank_waits_for_one_that_failed(tmp_path):
    world, patience = 3, 30.0
    torch.multiprocessing.spawn(raising, args=(world, str(tmp_path), patience), nprocs=world)
    ends = [(tmp_path / f"{rank}.txt").read_text().split("\n", 1) for rank in range(world)]
    assert ends[1][1] == "ValueError: this rank's graphics memory is full"
    for rank in (0, 2):
        assert ends[rank][1].startswith("RuntimeError") or ends[rank][1] == "finished"
        assert float(ends[rank][0]) < patience + 10
    assert ends[2][1].startswith("RuntimeError")  # it never gets the second block
