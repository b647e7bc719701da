"""What is done with a run: scores, pictures, reports, files for others."""

import json
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from graphkd.cli import exported
from graphkd.files import one_writer
from graphkd.training.checkpoint import student_weights

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 2 --batch-size 16 --lr 3e-3 --trackers ''"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, digits, teacher_checkpoint):
    """Images, a store and a distilled student, made by the commands themselves."""
    from graphkd.cli.main import main

    home = tmp_path_factory.mktemp("home")
    for label, name in enumerate(digits.classes[:4]):
        (home / "images" / name).mkdir(parents=True)
        members = [i for i in range(400) if digits.target(i) == label][:15]
        for number, index in enumerate(members):
            digits.image(index).resize((32, 32)).save(home / "images" / name / f"{number}.png")
    common = f"--data {home}/images --teacher {teacher_checkpoint} --templates photo --text-cache {home}/text --quiet"
    assert main(shlex.split(f"embed {common} --out {home}/features --dtype float16")) == 0
    assert main(shlex.split(f"distill {common} --store {home}/features --run {home}/run {SMALL}")) == 0
    return home


def test_evaluate_a_student(graphkd, run_folder):
    found = graphkd.json(f"evaluate --model {run_folder}/run --data {run_folder}/images --json")
    assert found["images"] == 60
    assert {"top1", "mean_class", "calibration_error", "per_class"} <= set(found)
    right = sum(row["right"] * row["images"] for row in found["per_class"])
    assert right / 60 == pytest.approx(found["top1"])
    assert [row["class"] for row in found["per_class"]] == ["one", "three", "two", "zero"]
    text = graphkd(f"evaluate --model {run_folder}/run --data {run_folder}/images --quiet").out
    assert f"top-1 {100 * found['top1']:.2f} %" in text
    assert re.search(r"zero +\d+\.\d\d % of 15", text)


def test_evaluate_a_teacher_zero_shot(graphkd, run_folder, teacher):
    found = graphkd.json(f"evaluate {teacher} --data {run_folder}/images --json --no-per-class")
    assert set(found) == {"teacher, zero-shot (mean texts)", "teacher, weighted prompt logits"}
    assert all(scores["images"] == 60 and "per_class" not in scores for scores in found.values())


def test_a_half_written_export_is_never_read(graphkd, run_folder, monkeypatch):
    def stopped(*parts):
        raise KeyboardInterrupt

    graphkd(f"export {run_folder}/run --formats onnx --out exported")
    monkeypatch.setitem(exported.WRITERS, "onnx", stopped)
    graphkd(f"export {run_folder}/run --formats onnx --out exported", 130)
    line = f"evaluate --model exported/model.onnx --data {run_folder}/images"
    graphkd.refused(
        line, "there is no exported/model.onnx with an export.json", "after an interruption export it again"
    )


def test_one_export_writes_a_folder_at_a_time(graphkd, run_folder):
    line = f"export {run_folder}/run --formats safetensors --out exported"
    graphkd(line)
    before = {path: path.stat().st_mtime_ns for path in Path("exported").iterdir()}
    with ThreadPoolExecutor(1) as another, ExitStack() as held:
        another.submit(held.enter_context, one_writer(Path("exported"))).result()
        graphkd.refused(line, "exported is being written by process", "let it end, or choose another folder")
        another.submit(held.close).result()
    assert {path: path.stat().st_mtime_ns for path in Path("exported").iterdir()} == before
    graphkd(line)


def test_a_student_becomes_a_teacher(graphkd, run_folder):
    line = f"--data {run_folder}/images --no-per-class"
    own, same = (graphkd.json(f"evaluate {line} --{role} {run_folder}/run") for role in ("model", "teacher"))
    assert same["top1"] == own["top1"]
    maps = "--student-maps blocks.1,blocks.2 --teacher-maps blocks.1,blocks.2 --labels task --watch 8"
    line = f"distill --data {run_folder}/images --teacher {run_folder}/run --method at --quiet {SMALL} {maps}"
    assert graphkd.json(f"{line} --run second")["method"] == "at"
    assert "Graphs of the channels" in Path("second/report.html").read_text()
    graphkd(f"{line.replace('--method at', '')} --run sum --watch 0 --no-report --epochs 1")
    assert json.loads(Path("sum/config.json").read_text())["distillers"]["0.parts.kd"]["temperature"] == 1.0
    graphkd(f"{line} --run two --watch 0 --no-report --epochs 1")
    assert not {"report.html", "watched"} & {path.name for path in Path("two").iterdir()}
    assert "the run watched no images: graphkd distill --watch 200" in graphkd("report two").out


def test_inspect_compares_both_graphs(graphkd, run_folder, teacher):
    line = f"inspect --model {run_folder}/run {teacher} --data {run_folder}/images --limit 20 --neighbours 3 --show 2"
    found = graphkd.json(line)
    assert found["student"]["images"] == found["teacher"]["images"] == 20
    assert -1 <= found["agreement"]["correlation_of_edges"] <= 1
    assert 0 <= found["agreement"]["common_neighbours"] <= 1
    first, second = found["student"]["neighbours"]
    assert (first["id"], len(first["neighbours"])) == ("one/0.png", 3)
    assert first["id"] not in [each["id"] for each in first["neighbours"]]
    edges = [each["edge"] for each in second["neighbours"]]
    assert edges == sorted(edges, reverse=True)
    text = graphkd(line).out
    assert "== student and teacher" in text
    assert sum(" near " in each for each in text.splitlines()) == 4


def test_inspect_one_network_with_itself_agrees(graphkd, run_folder):
    line = f"inspect --model {run_folder}/run --teacher {run_folder}/run --data {run_folder}/images --limit 12 --json"
    agreement = graphkd.json(line)["agreement"]
    assert agreement["correlation_of_edges"] == pytest.approx(1, abs=1e-5)
    assert agreement["common_neighbours"] == agreement["equal_predictions"] == 1


def test_a_report_at_the_end_of_a_run_and_once_more(graphkd, run_folder):
    page = (run_folder / "run" / "report.html").read_text()
    assert "Student" in page
    found = graphkd.json(f"report {run_folder}/run --out again.html --pictures drawn --format svg")
    assert Path("again.html").read_text() == page
    assert found["bytes"] == Path("again.html").stat().st_size < 4 * 2**20
    assert found["pictures"] == len(found["files"]) == len(list(Path("drawn").glob("*.svg")))
    assert set(found["absent"]) == {"spectra"}
    assert "no maps were kept (--student-maps, --teacher-maps)" in graphkd(f"report {run_folder}/run --out a.html").out


def test_a_report_needs_its_extra(graphkd, run_folder, class_folders, teacher, monkeypatch):
    monkeypatch.setattr("graphkd.pictures.missing", lambda: ["matplotlib", "jinja2"])
    for line in (f"report {run_folder}/run", f"distill --data images {teacher} --report {SMALL}"):
        graphkd.refused(
            line,
            "a report needs the packages matplotlib, jinja2, which are not installed",
            "pip install 'graphkd[report]'",
        )
    graphkd(f"distill --data images {teacher} --run plain --quiet --epochs 1 {SMALL}")
    assert Path("plain/watched/about.json").is_file()  # for a report later on
    assert not Path("plain/report.html").exists()


def test_export_to_files_that_timm_and_torch_read(graphkd, run_folder):
    import timm

    found = graphkd.json(f"export {run_folder}/run --formats safetensors,torch --out out --check {run_folder}/images")
    assert found["good"]
    assert found["checks"]["torch"]["same_top1"] == found["checks"]["torch"]["images"] == 68
    assert max(each["largest_difference"] for each in found["checks"].values()) <= 1e-4
    model = timm.create_model("test_efficientnet", num_classes=4, checkpoint_path="out/model.safetensors")
    weights = student_weights(run_folder / "run")
    assert all(torch.equal(value, weights[f"model.{name}"]) for name, value in model.state_dict().items())
    assert "timm.create_model" in graphkd(f"export {run_folder}/run --formats safetensors").out


def test_an_export_that_differs_is_said_so(graphkd, run_folder, monkeypatch):
    from graphkd.cli import exported

    monkeypatch.setitem(exported.WRITERS, "torch", lambda tap, model, images, about, out: model(images) + 1)
    answer = graphkd(f"export {run_folder}/run --formats torch --out out", 1)
    assert "the check failed" in answer.out
    assert not json.loads(Path("out/export.json").read_text())["checks"]["torch"]["largest_difference"] <= 1e-4


def test_onnx_gives_the_same_scores(graphkd, run_folder):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'graphkd[export]'")
    check = graphkd.json(f"export {run_folder}/run --formats onnx --out out --check {run_folder}/images --json")[
        "checks"
    ]["onnx"]
    assert check["largest_difference"] <= 1e-4
    assert check["same_top1"] == check["images"]
    scores = [graphkd.json(f"evaluate --model {model} --data {run_folder}/images")
              for model in (f"{run_folder}/run", "out/model.onnx")]  # fmt: skip
    assert scores[0]["top1"] == scores[1]["top1"]
