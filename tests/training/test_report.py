import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from graphkd.errors import ShapeError
from graphkd.training.plots import plot_confusion, plot_curves, plot_edges
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


def metrics(path, scored=True):
    lines = []
    for update in range(1, 101):
        ce, node, edge = 2.0 / update**0.5 + 0.3, 0.8 / update**0.4, 0.4 / update**0.3
        terms = {"loss": ce + node + edge, "prg/ce": ce, "prg/node": node, "prg/edge": edge, "gradient": 1.0}
        lines.append({"update": update, "epoch": update / 10, **terms, "lr": 0.1, "images_per_second": 10.0})
        if scored and update % 10 == 0:
            top1 = 0.97 - 0.5 / update**0.5
            lines.append(
                {"update": update, "epoch": update // 10, "top1": top1, "top5": top1 + 0.02, "mean_class": 0.1}
            )
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def colours(path):
    return len(np.unique(np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.parametrize("scored", [True, False])
def test_curves(tmp_path, scored):
    picture = plot_curves(metrics(tmp_path / "m.jsonl", scored), tmp_path / "deep/curves.png", teacher=0.98)
    width, height = Image.open(picture).size
    assert (width > 2 * height) == scored
    assert colours(picture) > 4


def edges(classes, samples, noise, seed):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=draw)
    return 0.8 * nn.functional.one_hot(labels, classes) + noise * torch.randn(samples, classes, generator=draw), labels


def test_edge_matrices_are_ordered_by_class_on_one_scale(tmp_path):
    teacher, labels = edges(10, 200, 0.1, 0)
    names = [str(i) for i in range(10)]
    straight = plot_edges(teacher, teacher * 0.5, labels, names, tmp_path / "a.png")
    shuffle = labels.argsort(stable=True)
    sorted_first = plot_edges(teacher[shuffle], teacher[shuffle] * 0.5, labels[shuffle], names, tmp_path / "b.png")
    assert straight.read_bytes() == sorted_first.read_bytes()
    other_scale = plot_edges(teacher, teacher, labels, names, tmp_path / "c.png")
    left = np.asarray(Image.open(straight))[:, :600], np.asarray(Image.open(other_scale))[:, :600]
    assert np.array_equal(*left)  # the teacher's side keeps its colours: the scale is not the student's own
    with pytest.raises(ShapeError, match=r"teacher edges \(200, 10\) and student edges \(200, 9\) differ"):
        plot_edges(teacher, teacher[:, :9], labels, names, tmp_path / "d.png")


@pytest.mark.parametrize("classes", [3, 100])
def test_confusion(tmp_path, classes):
    counts = torch.eye(classes, dtype=torch.int64) * 20
    counts[0, 1] = 5
    picture = plot_confusion(counts, [f"class {i}" for i in range(classes)], tmp_path / "confusion.png")
    assert colours(picture) > 10
