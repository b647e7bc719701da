"""The table of errors by type: a line for each operation, backend and type, and numbers that are small."""

import torch

from benchmarks import sixteen_bits


def test_a_line_for_each_operation_and_type(capsys):
    assert sixteen_bits.main(["--backends", "blocked", "--rows", "20", "--width", "9"]) == 0
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [line[0][2:] for line in lines[::3]] == list(sixteen_bits.CALLS)
    assert [line[2] for line in lines[:3]] == list(sixteen_bits.TYPES)


def test_errors_are_those_of_the_rounded_numbers():
    s, t = sixteen_bits.pair(1e-2, torch.bfloat16, 20, 9)
    value, gradient = sixteen_bits.errors(sixteen_bits.CALLS["edge_sum, gram"], "blocked", s, t)
    assert value < 1e-6
    assert 1e-4 < gradient < 4e-3
    wide = sixteen_bits.errors(sixteen_bits.CALLS["edge_sum, gram"], "blocked", s.float(), t.float())
    assert max(wide) < 1e-6
