"""The page: from results alone, complete, and up to date with what is committed."""

from benchmarks import report, tables
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
    text = report.page([made()], [])
    assert "**a processor**, 2 cores, 2 threads" in text
    assert "torch 2" in text
    assert "library `abc`" in text


def test_every_kind_of_row_is_on_the_page():
    text = report.page([made()], [])
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
    assert "other work (load 3.2" in report.page([made(load=3.2)], [])


def test_without_a_gpu_targets_are_predictions():
    text = report.page([made()], [])
    assert "**Predicted**" in text
    assert "| `edge_sum` | 8192x512 | bfloat16 | compute | 21.7 | 35 | - | - | - | predicted |" in text


def test_measured_targets_replace_predictions():
    place = {"kind": "target", "case": "edge_sum", "shape": "8192x512", "dtype": "bfloat16"}
    gpu = made(kind="cuda", device="a GPU")
    gpu["rows"] = [place | {"form": "triton", "ms": 0.07, "graph_ms": 0.06, "peak_mib": 9.0}]
    text = report.page([gpu], [])
    assert "| 70 (60 in a graph), 9 MiB | - | - | **0.58** |" in text


def test_other_versions_are_named_and_kept_out():
    text = report.page([made()], [made(library="old")])
    assert "Results of other versions, in no table above: `a.json` (library `old`)" in text


def test_no_results_is_a_page_too():
    assert "No results are committed yet." in report.page([], [])


def test_reasons_are_grouped():
    assert tables.reasons(made()) == "- no GPU: `row_kl` triton.\n- Liger's kernels need a GPU: `row_kl` liger-kernel."


def test_the_committed_page_is_what_the_committed_results_give():
    assert report.PAGE.read_text(encoding="utf-8") == report.page(*latest()), "run python -m benchmarks.report"
