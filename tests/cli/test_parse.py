"""Flags, files and defaults become one typed configuration; nothing of it is written twice."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import yaml
from cyclopts import CoercionError

from graphkd.cli.app import COMMANDS, doc_of, options_of, parse
from graphkd.cli.config_file import read_config, resolved, write_config
from graphkd.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
TEACHER = ["--teacher", "ViT-B-32", "--pretrained", "openai"]


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()


def distill(*words):
    return parse(["distill", "--data", "photos", *TEACHER, *words])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_teaches(name, capsys):
    assert parse([*name.split(), "--help"]) is None
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: graphkd {name} ")
    assert "examples:\n  " in text
    assert f"  graphkd {name}" in text
    for option in options_of(name).values():
        assert option.name in text
        assert option.parameter.help


@pytest.fixture
def as_printed(tmp_path):
    """The files that examples and documentation name."""
    texts = {
        "loose/.keep": "", "clip-out/img_emb/.keep": "", "embeddings.npy": "", "texts.npy": "", "data/train.parquet": "", "shards/.keep": "", "machine0/.keep": "", "machine1/.keep": "", "features/run.yaml": "command: embed\ndata: photos\nteacher: ViT-B-32\npretrained: openai\nout: b\n", "more-photos/.keep": "", "new-photos/.keep": "", "pool/.keep": "", "cat.jpg": "", "names.txt": "cat\n", "list.txt": "cat.jpg\n", "teacher/templates.txt": "a {}.\n", "tests/golden/ega.json": "{}", "features/manifest.json": "{}",
        "runs/photos-1/student.json": "{}", "runs/photos-1/export/model.onnx": "", "runs/photos-1/export/export.json": "{}",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "runs/photos-2").mkdir()
    (tmp_path / "runs/photos-2/run.yaml").write_text("{}")
    write_config(
        tmp_path / "runs/photos-1/run.yaml",
        "distill",
        {"data": "photos", "teacher": "ViT-B-32", "pretrained": "openai", "run": "one"},
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_are_accepted(name, as_printed):
    lines = [line for line in doc_of(name)[1].splitlines() if line.startswith("graphkd ")]
    assert lines
    for line in lines:
        assert parse(shlex.split(re.split(r" [|>] |  +#|\)$", line)[0])[1:])


def test_the_page_of_the_program_knows_every_command():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"`{name}`" not in page] == []


def test_the_flags_of_the_loop_are_those_of_its_configuration():
    names = {field.name for field in dataclasses.fields(TrainConfig)} - {"progress"}
    assert names < options_of("distill").keys()
    assert "progress" not in options_of("distill")


def test_a_flag_goes_before_the_file_and_the_file_before_the_default():
    Path("run.yaml").write_text("epochs: 7\nlr: 1e-2\nprecision: no\nmethod: prg\nset: {rho: 0.5, edges: both}\n")
    asked = distill("--config", "run.yaml", "--epochs", "3", "--set", "rho=0.7")
    train = asked.config.train
    assert (train.epochs, train.lr, train.precision, train.batch_size) == (3, 0.01, "no", 256)
    assert asked.config.set == {"rho": 0.7, "edges": "both"}
    assert {"epochs", "lr", "precision", "set", "data"} <= asked.given
    assert "batch_size" not in asked.given


def test_what_is_saved_makes_the_same_configuration():
    asked = distill(
        "--set", "parts={kd: {}, rkd: {angle_weight: 0}}", "--method", "combined", "--no-flip", "--clip", "1"
    )
    values = resolved(asked.config)
    assert not {"quiet", "json", "debug", "resume"} & set(values)
    write_config(Path("saved.yaml"), "distill", values)
    assert yaml.safe_load(Path("saved.yaml").read_text())["clip"] == 1.0
    again = parse(["distill", "--config", "saved.yaml"]).config
    assert dataclasses.replace(again, output=asked.config.output) == asked.config


@pytest.mark.parametrize(("words", "name", "value"), [
    (["--trackers", "tensorboard,wandb"], "trackers", ("tensorboard", "wandb")),
    (["--trackers", ""], "trackers", ()),
    (["--clip", "none"], "clip", None),
    (["--lr=3e-4"], "lr", 3e-4),
    (["--deterministic"], "deterministic", True),
])  # fmt: skip
def test_types_come_from_the_fields(words, name, value):
    assert getattr(distill(*words).config.train, name) == value


def test_a_home_is_a_home():
    assert distill("--run", "~/runs/one").config.run == Path("~/runs/one").expanduser()


@pytest.mark.parametrize(
    "text", ["epochs: yes", "flip: perhaps", "run: [a]", "set: 3", "trackers: {a: b}", "seed: 1.5"]
)
def test_a_file_is_as_strict_as_the_command_line(text):
    Path("run.yaml").write_text(text + "\n")
    with pytest.raises(CoercionError, match=r"run\.yaml: --\w+ expects"):
        distill("--config", "run.yaml")


@pytest.mark.parametrize(("text", "found"), [("batch-size: 8\n", {"batch_size": 8}), ("# nothing\n", {})])
def test_a_file_with_dashes_and_an_empty_file(text, found):
    Path("run.yaml").write_text(text)
    assert read_config(Path("run.yaml")) == found
