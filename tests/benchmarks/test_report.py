"""The pages: from results alone, complete, and up to date with what is committed."""

import re

import pytest

from benchmarks import front, report, tables
from benchmarks.chart import draw
from benchmarks.results import latest

HERE = {
    "device": "a processor", "kind": "cpu", "cores": 2, "threads": 2, "memory_gib": 8.0, "system": "Linux",
    "python": "3.11", "versions": {"torch": "2"}, "library": "abc", "commit": "123", "date": "2030-01-02 03:04 UTC",
    "load": 0.1, "roofline": {"tflop_s_float32": 0.1, "gb_s": 10.0},
}  # fmt: skip
CELL = {"kind": "op", "case": "row_kl", "shape": "256x100", "dtype": "float32", "flops": 1e6, "bytes": 1e5}
ROWS = [
    CELL | {"form": "eager", "ms": 2.0, "peak_mib": 4.0, "value_error": 1e-7, "gradient_error": 1e-7,
            "tflop_s": 0.01, "of_floor": 0.5},
    CELL | {"form": "blocked", "ms": 1.0, "over_eager": 2.0, "peak_mib": 1.0, "value_error": 1e-7,
            "gradient_error": 1e-7, "tflop_s": 0.02, "of_floor": 1.0},
    CELL | {"form": "triton", "why": "no GPU"},
    CELL | {"form": "liger-kernel", "why": "Liger's kernels need a GPU"},
    {"kind": "scaling", "case": "row_kl", "axis": "C", "form": "eager", "shape": "1024xC", "time_exponent": 1.0,
     "memory_exponent": None, "stopped": "C = 4096 needs 9 GiB",
     "points": [{"size": 64, "ms": 1.0, "peak_mib": 1.0}, {"size": 256, "ms": 4.0, "peak_mib": 4.0}]},
    {"kind": "ratio", "case": "row_kl", "shape": "256x100", "form": "blocked", "axis": "eager", "faster": 2.0,
     "asked_faster": 1.5, "memory": 0.25, "asked_memory": 0.1, "value_error": 1e-7, "holds": False},
    {"kind": "step", "case": "training step", "shape": "256", "plain_ms": 100.0, "prg_ms": 104.0, "prg_loss_ms": 4.0,
     "prg_share": 0.038, "prg_over_plain": 1.04, "ega_ms": 103.0, "ega_loss_ms": 3.0, "ega_share": 0.029,
     "ega_over_plain": 1.03, "plain_images_s": 2560.0, "stored_images_s": 2461.0, "live_images_s": 300.0},
]  # fmt: skip


def made(**environment):
    return {"environment": HERE | environment, "rows": ROWS, "name": "a.json"}


def test_the_page_says_where_the_numbers_are_from():
    text = report.tables_page([made()], [])
    assert "**a processor**, 2 cores, 2 threads" in text
    assert "torch 2" in text
    assert "library `abc`" in text


def test_every_kind_of_row_is_on_the_page():
    text = report.tables_page([made()], [])
    for part in (
        "1.00 (2x)",
        "C = 4096 needs 9 GiB",
        "25.0% (≤ 10%)",
        "**no**",
        "3.8%",
        "1.040",
        "- no GPU: `row_kl` triton.",
    ):
        assert part.replace("1.00", "1") in text.replace("1.00 ", "1 "), part


def test_a_busy_machine_is_named():
    assert "other work (load 3.2" in report.tables_page([made(load=3.2)], [])


def test_without_a_gpu_targets_are_predictions():
    text = report.tables_page([made()], [])
    assert "**Predicted**" in text
    assert "| `edge_sum` | 8192x512 | bfloat16 | compute | 21.7 | 35 | - | - | - | predicted |" in text


def test_measured_targets_replace_predictions():
    place = {"kind": "target", "case": "edge_sum", "shape": "8192x512", "dtype": "bfloat16"}
    gpu = made(kind="cuda", device="a GPU")
    gpu["rows"] = [place | {"form": "triton", "ms": 0.07, "graph_ms": 0.06, "peak_mib": 9.0}]
    text = report.tables_page([gpu], [])
    assert "| 70 (60 in a graph), 9 MiB | - | - | **0.58** |" in text


def test_other_versions_are_named_and_kept_out():
    text = report.tables_page([made()], [made(library="old")])
    assert "Results of other versions, in no table above: `a.json` (library `old`)" in text


def test_no_results_is_a_page_too():
    assert "No results are committed yet." in report.tables_page([], [])


def test_reasons_are_grouped():
    assert tables.reasons(made()) == "- no GPU: `row_kl` triton.\n- Liger's kernels need a GPU: `row_kl` liger-kernel."


RATIO = {"kind": "ratio", "form": "blocked", "axis": "official", "low": 20.0, "high": 30.0}
FRONT = [
    RATIO | {"case": "ega_sums", "shape": "4096x512", "faster": 25.0, "memory": 0.05},
    RATIO | {"case": "rkd_angle", "shape": "512x512", "faster": 44.0, "memory": 0.005},
    RATIO | {"case": "rkd_angle", "shape": "512x512", "axis": "eager", "faster": 99.0, "memory": 0.5},
    RATIO | {"case": "unit_edge_sum", "shape": "8192x256", "why": "no room"},
    {"kind": "large", "case": "ega_sums", "shape": "65536x256", "ms": 835.0, "high_gib": 0.64, "exponent": 0.99},
    {"kind": "large", "case": "knn", "shape": "65536x256", "ms": 25380.0, "high_gib": 0.62, "exponent": 2.16},
    {"kind": "small", "case": "geometric mean", "shape": "64", "faster": 1.08},
    *({"kind": "method", "case": "kd", "shape": "256", "form": form, "ms": ms}
      for form, ms in (("official", 0.5), ("eager", 0.8), ("blocked", 0.9))),
    *({"kind": "method", "case": "rkd", "shape": "256", "form": form, "ms": ms}
      for form, ms in (("official", 1153.0), ("eager", 421.0), ("blocked", 27.4))),
    ROWS[-1],
]  # fmt: skip


def short():
    return report.page([made() | {"rows": FRONT}])


def test_the_short_page_leads_with_the_methods_that_gain_most():
    text = short()
    assert "runs 25 to 44 times faster" in text
    assert "with 0.5 % to 5 % of that form's extra memory" in text
    assert text.index("| RKD | angles of 512 samples | 44x |") < text.index("| EGA | ")
    assert "SP" not in text  # not measured


def test_the_short_page_says_what_does_not_gain():
    text = short()
    assert "| `kd` | 0.5 | 0.8 |" in text
    assert "`rkd`" not in text
    assert "1.08 at 64 samples" in text
    assert "a kNN graph grows as N^2.2" in text


def test_the_short_page_counts_the_matrix_that_is_never_made():
    assert "| EGA | 65536x256 | 0.835 | 0.64 | 16 | N^0.99 |" in short()  # 65536 * 65536 * 4 bytes


def test_the_short_page_says_what_a_step_and_a_teacher_take():
    text = short()
    assert "| 256 | PRG | 104 | 4 | 3.8 % |" in text
    assert "2,461 images a second" in text


def test_a_page_without_ratios_says_so():
    assert "No results are committed yet." in report.page([made()])


def test_the_chart_shows_each_method_and_is_the_same_each_time(tmp_path):
    bars = front.headlines(made() | {"rows": FRONT})
    for name in ("a.svg", "b.svg"):
        draw(bars, tmp_path / name)
    texts = re.findall(r"<text [^>]*>([^<]*)</text>", (tmp_path / "a.svg").read_text())
    assert {"44x", "25x", "0.5 %", "5 %", "RKD", "EGA"} <= set(texts)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("name", [report.PAGE, report.TABLES])
def test_the_committed_pages_are_what_the_committed_results_give(name):
    newest, older = latest()
    expected = report.page(newest) if name == report.PAGE else report.tables_page(newest, older)
    assert (report.DOCS / name).read_text(encoding="utf-8") == expected, "run python -m benchmarks.report"


def test_the_committed_chart_shows_the_committed_results():
    newest, _ = latest()
    text = (report.DOCS / report.CHART).read_text(encoding="utf-8")
    for _, row in front.headlines(newest[0]):
        assert f">{row['faster']:.3g}x<" in text, "run python -m benchmarks.report"
