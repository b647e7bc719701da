"""Writing a store: what an interruption, a lost file or a full disk costs."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.testing import assert_close

from graphkd.data.store import write as store_write
from graphkd.data.store.store import EmbeddingStore
from graphkd.errors import FileError, StoreError
from tests.data.store.fakes import TinyTeacher, direct, fill, squares


@pytest.mark.parametrize("workers", [0, 2])
def test_after_sigkill_finished_shards_are_kept(tmp_path, workers):
    script = Path(__file__).with_name("store") / "fakes.py"
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, str(script), str(tmp_path), "10", "4", str(workers)]  # dies in its 4th forward
    env = {**os.environ, "PYTHONPATH": paths}
    ended = subprocess.run(command, env=env, stderr=subprocess.DEVNULL, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    with pytest.raises(StoreError, match=r"incomplete: 2 of 3 shards are missing; run the embedding again"):
        EmbeddingStore(tmp_path)
    kept = (tmp_path / "shard-00000.safetensors").stat().st_mtime_ns
    teacher = TinyTeacher()
    store = fill(tmp_path, teacher, workers=workers)
    assert teacher.forwards == 3  # shards of 4 and 2 samples in batches of 2; the first shard is not asked again
    assert (tmp_path / "shard-00000.safetensors").stat().st_mtime_ns == kept
    assert_close(store[range(10)].embedding, direct(teacher, squares(10)).embedding)
    store.verify(squares(10))


@pytest.mark.parametrize("stop", range(10))
def test_a_break_between_any_two_files_loses_nothing(tmp_path, monkeypatch, stop):
    renamed = []

    def replace(old, new, real=os.replace):
        if len(renamed) == stop:
            shutil.copy(old, old.with_name(f".{new.name}.{'0' * 12}.tmp"))  # a SIGKILL would have left its own
            raise KeyboardInterrupt
        renamed.append(new)
        real(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            fill(tmp_path)
    assert list(tmp_path.glob("*.tmp"))
    teacher = TinyTeacher()
    store = fill(tmp_path, teacher)
    store.verify(squares(10))
    shards = sum(1 for path in renamed if path.name.startswith("shard") and path.suffix == ".json")
    assert teacher.forwards == [5, 3, 1, 0][shards]
    assert not list(tmp_path.glob("*.tmp"))
    assert_close(store[range(10)].logits, direct(teacher, squares(10)).logits)


def test_only_a_deleted_shard_is_computed_again(tmp_path):
    fill(tmp_path)
    (tmp_path / "shard-00001.safetensors").unlink()
    with pytest.raises(StoreError, match=r"lacks 1 \(shard-00001.safetensors\)"):
        EmbeddingStore(tmp_path)
    teacher = TinyTeacher()
    fill(tmp_path, teacher).verify()
    assert teacher.forwards == 2


def test_lost_proxies_cost_one_image(tmp_path):
    fill(tmp_path)
    (tmp_path / "shared.safetensors").unlink()
    teacher = TinyTeacher()
    assert_close(fill(tmp_path, teacher)[[0]].proxies, teacher.rows)
    assert teacher.forwards == 1


def test_a_damaged_sidecar_costs_its_shard(tmp_path):
    fill(tmp_path)
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "shard-00002.json").write_text("{")
    teacher = TinyTeacher()
    fill(tmp_path, teacher).verify()
    assert teacher.forwards == 1


def test_a_lost_manifest_costs_no_forward(tmp_path):
    fill(tmp_path)
    (tmp_path / "manifest.json").unlink()
    teacher = TinyTeacher()
    fill(tmp_path, teacher).verify()
    assert teacher.forwards == 0


def test_a_full_disk_keeps_what_was_finished(tmp_path, monkeypatch):
    put = store_write.StoreWriter.shard

    def shard(self, number, *rest):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 if number else soft, hard))  # a real error from the system
        try:
            put(self, number, *rest)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with monkeypatch.context() as patch:
        patch.setattr(store_write.StoreWriter, "shard", shard)
        with pytest.raises(FileError, match=r"cannot write .*shard-00001.safetensors: File too large\. .*run again"):
            fill(tmp_path)
    assert not list(tmp_path.glob("*.tmp"))
    teacher = TinyTeacher()
    fill(tmp_path, teacher).verify()
    assert teacher.forwards == 3
