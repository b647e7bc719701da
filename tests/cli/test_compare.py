"""graphkd compare, and a run that is trained longer."""

from pathlib import Path

import torch

from graphkd.training.checkpoint import student_weights

SMALL = "--student test_efficientnet --size 32 --no-flip --batch-size 16 --trackers '' --watch 0 --quiet --no-report"


def test_a_run_is_trained_longer_and_compared(graphkd, class_folders, teacher, monkeypatch):
    graphkd(f"distill --data images {teacher} --run runs/one --epochs 1 {SMALL}")
    todo = "start a new run with its weights: add --init RUN --run ANOTHER, and leave --resume out"
    graphkd.refused("distill --config runs/one/run.yaml --resume --epochs 2 --quiet", "epochs was 1, now 2", todo)
    graphkd("distill --config runs/one/run.yaml --init runs/one --epochs 2 --lr 1e-9 --run runs/longer --quiet")
    one, longer = student_weights("runs/one"), student_weights("runs/longer")
    head = "model.classifier.weight"
    assert torch.allclose(one[head], longer[head], atol=1e-5)  # at that learning rate it has not moved
    found = graphkd.json("compare runs/one runs/longer --quiet")
    assert found["options"] == {"init": [None, "runs/one"], "lr": [1e-3, 1e-9], "epochs": [1, 2]}
    assert found["updates"] == [3, 6]
    assert found["page"] == "runs/comparison.html"
    assert "Options that differ" in Path("runs/comparison.html").read_text()
    text = graphkd("compare runs/one runs/longer --out two.html --quiet").out
    assert "top-1 (%)" in text
    assert "options that differ" in text
    assert Path("two.html").exists()
    monkeypatch.setattr("graphkd.pictures.missing", lambda: ["jinja2"])
    Path("runs/comparison.html").unlink()
    answer = graphkd("compare runs/one runs/longer")
    assert answer.err == ["no page: pip install 'graphkd[report]'"]
    graphkd.refused("compare runs/one runs/longer --out two.html", "a report needs the packages jinja2")
