"""The formulas of what a step sends, against a real process group."""

import pytest

from benchmarks.traffic import FORMULAS, Case, run, table
from graphkd.distillers.factory import distillers

METHODS = [*FORMULAS, "kd", "prg"]


@pytest.fixture(scope="module")
def rows():
    return list(run([Case(2, 8, 4), Case(2, 24, 4)], METHODS))


def test_a_formula_is_that_of_a_distiller():
    assert FORMULAS.keys() <= set(distillers().names())


def test_what_is_counted_is_the_formula_but_for_counts_and_sums(rows):
    for row in rows:
        assert 0 <= row.counted - row.predicted < 250, row


def test_ega_does_not_grow_with_the_batch_and_others_do(rows):
    small, large = ({row.method: row.counted for row in rows if row.case.rows == n} for n in (8, 24))
    assert small["ega"] == large["ega"]
    assert large["rkd"] > 2 * small["rkd"]


@pytest.mark.parametrize("ranks", [2, 4, 8, 64])
def test_ega_at_65536_samples_sends_less_than_a_fiftieth_of_all_pairs(ranks):
    case = Case(ranks, 65_536 // ranks, 512)
    pairs = 4 * (ranks - 1) * case.rows * case.samples
    assert FORMULAS["ega"](case) < 0.02 * pairs
    assert FORMULAS["ega"](case) < 0.02 * case.nodes(512)


def test_the_table_names_all_columns(rows):
    head, _, *lines = table(rows)
    assert head.count("|") == lines[0].count("|") == 7
    assert len(lines) == len(rows)
