"""The table of errors of close rows: a line for each cell, and an exit code that says whether they are small."""

from benchmarks import close_rows

SMALL = ["--pairs", "100", "--gaps", "1e-3", "--widths", "16"]


def test_every_form_keeps_its_digits(capsys):
    assert close_rows.main(SMALL) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1:4] for line in lines[2:]] == [[" 16 ", " 0.001 ", " 0 "], [" 16 ", " 0.001 ", " 10 "]]


def test_a_form_that_loses_them_is_named(capsys, monkeypatch):
    forms = {"ours": close_rows.FORMS["cdist, products"], "cdist": close_rows.FORMS["cdist"]}
    monkeypatch.setattr(close_rows, "FORMS", forms)
    assert close_rows.main(SMALL) == 1
    assert all(line.endswith("| ours") for line in capsys.readouterr().out.splitlines()[2:])
