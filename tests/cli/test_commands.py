"""The commands on small folders of real images, from the first to the last."""

import json
import os
from pathlib import Path

import torch

from graphkd.cli.config_file import read_config
from graphkd.teachers.clip import CLIPTeacher
from graphkd.training.checkpoint import student_weights
from graphkd.training.loop import Trainer

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 2 --batch-size 16 --lr 3e-3 --trackers ''"


def test_images_whose_names_are_no_utf8(graphkd, class_folders, teacher, tmp_path):
    for folder in (tmp_path / "images").iterdir():
        first = next(folder.iterdir())
        os.rename(first, os.fsencode(folder) + b"/caf\xe9.png")
    graphkd(f"distill --data images {teacher} --run one --quiet --no-report {SMALL} --epochs 1")
    graphkd(f"inspect --data images {teacher} --json")


def test_embed_then_distill_asks_the_teacher_no_more(graphkd, class_folders, teacher):
    first = graphkd.json(f"embed --data images {teacher} --out features --json --quiet")
    assert first["samples"] == 60
    assert first["teacher_batches"] == 1
    again = graphkd.json(f"embed --data images {teacher} --out features")
    assert again["teacher_batches"] == 0
    before = tree(Path("features"))
    graphkd(f"embed --data images {teacher} --out features --dtype float16 --quiet", 2)
    assert tree(Path("features")) == before  # its run.yaml too
    modified = {path: path.stat().st_mtime_ns for path in Path("features").glob("shard*")}
    found = graphkd.json(f"distill --data images {teacher} --store features --run one {SMALL}")
    assert found["updates"] == 6  # 48 of 60 images in batches of 16, twice; 12 are held out
    assert found["images"] == 12
    assert set(found["teacher"]) == {"teacher, zero-shot (mean texts)", "teacher, weighted prompt logits"}
    assert found == json.loads(Path("one/results.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in Path("features").glob("shard*")} == modified
    assert read_config(Path("features/run.yaml"))["command"] == "embed"


def test_the_saved_options_make_the_same_student_again(graphkd, class_folders, teacher):
    graphkd(f"distill --data images {teacher} --run one --method prg --set rho=0.7 --quiet {SMALL}")
    saved = read_config(Path("one/run.yaml"))
    assert (saved["set"], saved["lr"], saved["flip"]) == ({"rho": 0.7}, 3e-3, False)
    graphkd("distill --config one/run.yaml --run two --quiet")
    one, two = (student_weights(name) for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    todo = "add --resume to go on with it, or choose another --run"
    graphkd.refused("distill --config one/run.yaml --quiet", "error: one holds a run already", todo)


REFUSED = {  # what a resumed run may not be given, and what the message says of it
    "--lr 0.5": "the run in broken was started with other options: lr was 0.003, now 0.5",
    "--epochs 3 --store another": "epochs was 2, now 3",
    "--set rho=0.7": "/rho was 0.5, now 0.7",
    "--held-out 0.5": "images was 48, now 30",
    "--student resnet18": " was 256, now 512",
    "--templates cifar": "the prompts differ",
    "--classes other.txt": "the class names differ",
}


def tree(folder):
    """Every file below a folder, with its bytes; but for the cache of texts, where those of other prompts are kept."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "cache" not in path.parts}


def test_an_interrupted_run_says_how_to_go_on_and_goes_on(graphkd, class_folders, teacher, monkeypatch):
    graphkd(f"distill --data images {teacher} --run whole --method prg --quiet {SMALL}")
    epoch = Trainer._epoch

    def interrupted(self, wrapped):
        if self.at.epoch == 1:
            raise KeyboardInterrupt
        epoch(self, wrapped)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", interrupted)
        answer = graphkd(f"distill --data images {teacher} --run broken --method prg --quiet {SMALL}", 130)
    what, todo = answer.err
    assert what == "interrupted: what was finished is kept in broken"
    assert todo == "try:   go on with: graphkd distill --config broken/run.yaml --resume"
    names = [folder.name for folder in sorted(class_folders.iterdir())]
    Path("other.txt").write_text("".join(f"{name}\tthe {name}\n" for name in names))
    before = tree(Path())
    for other, named in REFUSED.items():
        graphkd.refused(f"distill --config broken/run.yaml --resume {other} --quiet", named)
    assert tree(Path()) == before
    graphkd(todo.partition("graphkd ")[2])
    whole, mended = (student_weights(name) for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], mended[name]) for name in whole)


def test_an_interrupted_embedding_goes_on_where_it_was(graphkd, class_folders, teacher, monkeypatch):
    features = CLIPTeacher.features
    seen = []

    def stopped(self, images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return features(self, images)

    line = f"embed --data images {teacher} --out features --shard-size 16 --batch-size 16 --json"
    with monkeypatch.context() as patch:
        patch.setattr(CLIPTeacher, "features", stopped)
        answer = graphkd(line, 130)
    assert answer.err[-2:] == [
        "interrupted: finished shards are kept in features",
        "try:   run the same command again: it computes only what is missing",
    ]
    assert graphkd.json("store info features")["complete"] is False
    assert graphkd.json(line)["teacher_batches"] == 2  # of 4


def test_a_student_of_labels_alone_and_the_shipped_digits(graphkd):
    found = graphkd.json(f"distill --data digits --method none --labels task --held-out 0.9 --run one {SMALL}")
    assert found["images"] == int(1797 * 0.9)
    assert found["teacher"] == {}


def test_a_classifier_checkpoint_teaches(graphkd, class_folders, tmp_path):
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), tmp_path / "weights.safetensors")
    line = "--data images --teacher timm:test_resnet --pretrained weights.safetensors --teacher-size 32"
    assert set(graphkd.json(f"distill {line} --method kd --run one {SMALL}")["teacher"]) == {"teacher"}
