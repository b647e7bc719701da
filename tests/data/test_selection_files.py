"""Scores and selections on disk: kept, resumed, repaired, and refused where they were made of something else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphkd.data.pool import score_pool
from graphkd.data.selection import Selection, select
from graphkd.data.sources import source_subset
from graphkd.data.store.embed import embed
from graphkd.errors import StoreError
from tests.data.store.fakes import TinyTeacher, ToTensor, squares

VIEW = ToTensor()


def test_finished_shards_are_not_computed_again_and_damaged_ones_are(tmp_path):
    source, teacher = squares(20), TinyTeacher()
    options = {"transform": VIEW, "batch_size": 4, "shard_size": 8}
    first = score_pool(teacher, source, tmp_path, **options)
    assert teacher.forwards == 5
    again = score_pool(teacher, source, tmp_path, **options)
    assert teacher.forwards == 5
    (tmp_path / "scores-00001.safetensors").write_bytes(b"x")
    (tmp_path / "scores-00002.json").write_text("{}")
    repaired = score_pool(teacher, source, tmp_path, **options)
    assert teacher.forwards == 8
    for other in (again, repaired):
        np.testing.assert_array_equal(first.key, other.key)
        np.testing.assert_array_equal(first.label, other.label)


def test_a_killed_run_goes_on(tmp_path):
    code = (
        "import sys; from tests.data.store.fakes import *; from graphkd.data.pool import score_pool\n"
        f"score_pool(TinyTeacher(kill_at=5), squares(20), {str(tmp_path)!r}, transform=ToTensor(), batch_size=4, shard_size=8)"
    )
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "kernels")])
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert killed.returncode == -signal.SIGKILL
    teacher = TinyTeacher()
    resumed = score_pool(teacher, squares(20), tmp_path, transform=VIEW, batch_size=4, shard_size=8)
    assert teacher.forwards == 1  # two shards of eight were kept
    np.testing.assert_array_equal(resumed.key, score_pool(TinyTeacher(), squares(20), transform=VIEW, batch_size=4).key)


def test_a_folder_of_other_scores_is_refused_and_the_difference_named(tmp_path):
    score_pool(TinyTeacher(), squares(9), tmp_path, transform=VIEW)
    for change, message in (
        ({"teacher": TinyTeacher(prompts="a {}")}, "made with prompts 'a photo of a {}.', this run asks 'a {}'"),
        ({"source": squares(8)}, "made with data .9 samples"),
        ({"transform": ToTensor(8)}, "made with transform"),
        ({"score": "margin"}, "made with score 'confidence', this run asks 'margin'"),
        ({"shard_size": 3}, "made with shard size '8192', this run asks '3'"),
    ):
        run = {"teacher": TinyTeacher(), "source": squares(9), "transform": VIEW, **change}
        teacher, source = run.pop("teacher"), run.pop("source")
        with pytest.raises(StoreError, match=message.replace("{", r"\{")):
            score_pool(teacher, source, tmp_path, **run)


def test_a_saved_selection_comes_back_and_refuses_what_it_was_not_made_with(tmp_path):
    source, teacher = squares(30), TinyTeacher()
    selection = select(score_pool(teacher, source, transform=VIEW), 10)
    selection.save(tmp_path)
    loaded = Selection.load(tmp_path)
    for name in ("indices", "scores", "labels", "confidences"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(selection, name))
    assert loaded.ids == [source.ids[i] for i in selection.indices] == source_subset(source, loaded.indices).ids
    assert (loaded.histogram, loaded.options, loaded.made) == (selection.histogram, selection.options, selection.made)
    assert loaded.report() == selection.report()
    assert loaded.made["dtype"] == "float32"
    assert "ToTensor" in loaded.made["transform"]
    loaded.check(teacher=teacher, source=source, transform=VIEW)
    loaded.check()
    for asked, message in (
        ({"teacher": TinyTeacher(prompts="{}")}, "prompts"),
        ({"source": squares(29)}, "data .30 samples.*asks .29 samples"),
        ({"transform": ToTensor(5)}, "transform"),
        ({"source": source_subset(source, list(range(29, -1, -1)))}, "order of samples"),
    ):
        with pytest.raises(StoreError, match=f"this selection belongs to something else: it was made with .*{message}"):
            loaded.check(**asked)
    half = embed(teacher, source, tmp_path / "half", transform=VIEW, dtype="float16", progress=False)
    with pytest.raises(StoreError, match="made with dtype 'float32', this run asks 'float16'"):
        loaded.check(teacher=half)
    (tmp_path / "selection.safetensors").write_bytes(b"short")
    with pytest.raises(StoreError, match="does not fit its digest"):
        Selection.load(tmp_path)
