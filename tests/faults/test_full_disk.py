"""A disk that fills up under whatever graphkd writes: an error that says so, old files as they were, no half ones."""

import resource
import shutil
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from graphkd.cli.config_file import write_config
from graphkd.data.selection import score_pool, select
from graphkd.errors import FileError
from graphkd.files import write_json
from graphkd.integrations.named_losses import save_student
from graphkd.pictures.canvas import canvas, save_picture
from graphkd.teachers.texts import TextCache
from graphkd.training.report import Row, write_report
from graphkd.training.run_folder import RunFolder
from tests.data.store.fakes import TinyTeacher, ToTensor, fill, squares
from tests.training import tiny

WRITERS = {
    "configuration": lambda folder: write_config(folder / "run.yaml", "distill", {"data": "photos"}),
    "JSON": lambda folder: write_json(folder / "results.json", {"a": list(range(9))}),
    "report": lambda folder: write_report(folder / "report.md", [Row("student", 0.5)]),
    "PNG": lambda folder: save_picture(canvas(1, 1)[0], folder / "picture.png"),
    "SVG": lambda folder: save_picture(canvas(1, 1)[0], folder / "picture.svg"),
    "text embeddings": lambda folder: TextCache(folder, {}, ["a", "b"]).write("a {}.", torch.ones(2, 8)),
    "student": lambda folder: save_student(nn.Linear(8, 8), folder / "student.safetensors"),
    "selection": lambda folder: select(score_pool(TinyTeacher(), squares(8), transform=ToTensor()), 4).save(folder),
    "store": lambda folder: fill(folder),
    "options of a run": lambda folder: RunFolder(folder).open({"lr": 0.1}, 0),
    "line of metrics": lambda folder: RunFolder(folder).add({"update": 1, "loss": 0.123456789}),
}
LIMITS = [0, 50, 300, 1000, 2500, 5000, 7000, 9000]  # bytes: from the run's options on to a checkpoint's tensors


@contextmanager
def full(limit):
    """No file may have more bytes: the system refuses, as it does where no space is left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("old", [False, True], ids=["new", "over an old one"])
@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_half_written_and_old_files_stay(tmp_path, name, old):
    write = WRITERS[name]
    if old and name != "store":  # which does not write again what is there
        write(tmp_path)
    before = contents(tmp_path)
    with full(10), pytest.raises(FileError, match=r"^cannot write .*File too large.*: free some space"):
        write(tmp_path)
    after = contents(tmp_path)
    if name == "line of metrics":  # an appended line may be cut: whoever reads it leaves it out
        after = {path: data[: len(before.get(path, b""))] for path, data in after.items()}
        after = {path: data for path, data in after.items() if path in before}
    assert after == before


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that stopped after its first epoch, and the state with which an unbroken one ends."""
    place = tmp_path_factory.mktemp("run")
    tiny.trainer(place / "whole").fit()
    with pytest.raises(KeyboardInterrupt):
        tiny.at_batch(tiny.trainer(place / "run"), 6, tiny.interrupt).fit()
    return place / "run", tiny.end_of(place / "whole")


@pytest.mark.parametrize("limit", LIMITS)
def test_training_keeps_its_checkpoints_and_goes_on_when_there_is_space(interrupted, tmp_path, limit):
    run, expected = shutil.copytree(interrupted[0], tmp_path / "run"), interrupted[1]
    checkpoint = contents(run / "checkpoints" / "update-00000005")
    with full(limit), pytest.raises(FileError, match=r"cannot write .*: File too large"):
        tiny.trainer(run).fit(resume=True)
    assert contents(run / "checkpoints" / "update-00000005") == checkpoint
    assert not list(run.rglob(".*"))
    tiny.trainer(run).fit(resume=True)
    tiny.same(tiny.end_of(run), expected)


@pytest.mark.faults
def test_how_many_disks_were_full(record_figure):
    record_figure("full disks, of files written and of training", f"{2 * len(WRITERS)} and {len(LIMITS)}")
    record_figure("half-written or lost files", 0)
