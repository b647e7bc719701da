from torch import nn

from graphkd.training.report import Row, markdown_table, text_table, write_report

ROWS = [Row("teacher, zero-shot", 0.98), Row("student, PRG", [0.96, 0.98], [60.0, 62.0], 1234567, 4.75)]


def test_text_table():
    rule = "-" * 72
    assert text_table(ROWS, "teacher, zero-shot").splitlines() == [
        "network                  top-1 %  of teacher %  seconds  parameters  MiB",
        rule,
        "teacher, zero-shot         98.00         100.0        -           -    -",
        "student, PRG        97.00 ± 1.41          99.0   61 ± 1   1,234,567  4.8",
        rule,
    ]


def test_markdown_table_has_a_cell_for_everything():
    lines = markdown_table(ROWS, "teacher, zero-shot").splitlines()
    assert lines[2] == "| teacher, zero-shot | 98.00 | 100.0 | - | - | - |"
    assert lines[3] == "| student, PRG | 97.00 ± 1.41 | 99.0 | 61 ± 1 | 1,234,567 | 4.8 |"
    assert markdown_table(ROWS).splitlines()[3].split(" | ")[2] == "-"


def test_a_row_counts_its_model():
    row = Row.of("student", nn.Linear(1024, 256), 0.5)
    assert (row.parameters, row.size) == (1024 * 256 + 256, (1024 * 256 + 256) * 4 / 2**20)


def test_report_links_pictures_and_says_that_the_last_counts(tmp_path):
    text = write_report(
        tmp_path / "report.md", ROWS, "teacher, zero-shot", notes=["Digits."], pictures={"Curves": tmp_path / "c/a.png"}
    )
    report = (tmp_path / "report.md").read_text()
    assert "![Curves](c/a.png)" in report
    assert "Digits." in report
    assert "last checkpoint" in report
    assert "last checkpoint" in text
