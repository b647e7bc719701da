"""Writing a store: what a finished one holds, what an interruption costs, and what is refused."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from graphkd.data.store import format as store_format
from graphkd.data.store import write as store_write
from graphkd.data.store.embed import EmbedJob, plan_store, usual_shard
from graphkd.data.store.format import JSON_LIMIT, Manifest, check_shards, largest_shard, row_bytes, write_json
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import verify
from graphkd.errors import DataError, FileError, OptionError, StoreError, UnknownNameError
from tests.data.store.fakes import Squares, TinyTeacher, ToTensor, direct, fill, squares

LONG = "a-folder-with-a-long-name/" * 8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_says_what_the_teacher_says(tmp_path, workers):
    teacher, source = TinyTeacher(), squares(10)
    found = fill(tmp_path / "store", teacher, source, workers=workers)[range(10)]
    expected = direct(teacher, source)
    for part in ("embedding", "logits", "proxies", "proxy_logits"):
        assert_close(getattr(found, part), getattr(expected, part))


@pytest.mark.parametrize(("dtype", "rtol"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_a_half_precision_store_is_within_rounding(tmp_path, dtype, rtol):
    teacher, source = TinyTeacher(), squares(10)
    found, expected = fill(tmp_path, teacher, source, dtype=dtype)[range(10)], direct(teacher, source)
    assert found.embedding.dtype == torch.float32
    assert_close(found.embedding, expected.embedding, rtol=rtol, atol=1e-7)
    assert_close(found.logits, expected.logits, rtol=rtol, atol=1e-6)
    assert_close(found.proxies, expected.proxies, rtol=0, atol=0)  # shared parts keep float32


def test_a_teacher_without_head_has_neither_logits_nor_proxies(tmp_path):
    store = fill(tmp_path, TinyTeacher(head=False))
    features = store[[3]]
    assert (store.classes, store.num_classes, store.embedding_dim) == (None, None, 5)
    assert features.embedding.shape == (1, 5)
    assert features.logits is features.proxies is features.proxy_logits is None


def test_a_complete_store_is_opened_without_asking_the_teacher(tmp_path):
    fill(tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    teacher = TinyTeacher()
    assert len(fill(tmp_path, teacher, batch_size=5, shard_size=3)) == 10
    assert teacher.forwards == 0
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_embedding_leaves_the_random_state_alone(tmp_path):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    fill(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


class Moved(TinyTeacher):
    def to(self, device):
        self.device = device
        return self


def test_teacher_and_images_go_to_the_device_asked_for(tmp_path):
    teacher = Moved()
    fill(tmp_path, teacher, device="cpu")
    assert teacher.device == "cpu"


def test_the_bar_counts_images_and_starts_at_what_is_finished(tmp_path, capsys):
    pytest.importorskip("tqdm")
    fill(tmp_path)
    (tmp_path / "shard-00001.safetensors").unlink()
    fill(tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "embedding:  60%" in shown
    assert "10/10" in shown
    assert "image/s" in shown


def test_without_tqdm_there_is_no_bar(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert len(fill(tmp_path, progress=True)) == 10
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("workers", [0, 2])
def test_after_sigkill_finished_shards_are_kept(tmp_path, workers):
    script = Path(__file__).with_name("fakes.py")
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
    assert not verify(store.path, squares(10))


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
    assert not verify(store.path, squares(10))
    shards = sum(1 for path in renamed if path.name.startswith("shard") and path.suffix == ".json")
    assert teacher.forwards == [5, 3, 1, 0][shards]
    assert not list(tmp_path.glob("*.tmp"))
    assert_close(store[range(10)].logits, direct(teacher, squares(10)).logits)


@pytest.mark.parametrize(
    ("lost", "damaged", "forwards"),
    [
        (["shard-00001.safetensors"], [], 2),
        (["shared.safetensors"], [], 1),
        (["manifest.json"], ["shard-00002.json"], 1),
        (["manifest.json"], [], 0),
    ],
)
def test_what_is_lost_or_damaged_costs_its_own_forwards(tmp_path, lost, damaged, forwards):
    fill(tmp_path)
    for name in lost:
        (tmp_path / name).unlink()
    for name in damaged:
        (tmp_path / name).write_text("{")
    with pytest.raises(StoreError, match=r"lacks 1 \(sha.*\.safetensors\)|manifest\.json is missing"):
        EmbeddingStore(tmp_path)
    teacher = TinyTeacher()
    store = fill(tmp_path, teacher)
    assert not verify(store.path)
    assert teacher.forwards == forwards
    assert_close(store[[0]].proxies, teacher.rows)


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
    assert not verify(fill(tmp_path, teacher).path)
    assert teacher.forwards == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"teacher": TinyTeacher(prompts="a {}.")}, r"prompts 'a photo of a \{\}.', this run asks 'a \{\}.'"),
        ({"teacher": TinyTeacher(head=False)}, r"class names '\[\"cat\",\"dog\"\]', this run asks \(none\)"),
        ({"transform": ToTensor(size=8)}, r"transform .*\"size\":4.*, this run asks .*\"size\":8"),
        ({"source": squares(9)}, "data '10 samples, .*this run asks '9 samples"),
        ({"dtype": "float16"}, "dtype 'float32', this run asks 'float16'"),
    ],
)
def test_a_store_of_something_else_is_refused(tmp_path, asked, message):
    fill(tmp_path)
    with pytest.raises(StoreError, match=f"belongs to something else: the store was made with {message}.*--store"):
        fill(tmp_path, **asked)
    assert not verify(tmp_path)


def test_all_differences_are_named_and_long_ones_cut(tmp_path):
    fill(tmp_path, TinyTeacher(prompts="x" * 500 + "A" + "x" * 500))
    with pytest.raises(StoreError) as caught:
        fill(tmp_path, TinyTeacher(prompts="x" * 500 + "B" + "x" * 500), dtype="float16")
    text = str(caught.value)
    assert "xAx" in text
    assert "xBx" in text
    assert "dtype" in text
    assert len(text) < 700


def test_half_a_store_is_not_continued_in_another_order(tmp_path):
    fill(tmp_path)
    (tmp_path / "shard-00001.safetensors").unlink()
    with pytest.raises(StoreError, match="order of samples"):
        fill(tmp_path, source=Squares(squares(10).ids[::-1]))


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / ".photo.jpg.tmp").write_text("mine")
    with pytest.raises(StoreError, match=r"no manifest but holds 1 \(\.photo\.jpg\.tmp\), other files"):
        fill(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [".photo.jpg.tmp"]


def test_shards_of_another_store_without_manifest_are_left_alone(tmp_path):
    fill(tmp_path)
    (tmp_path / "manifest.json").unlink()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(StoreError, match=r"holds 4 \(shard-00000.json, .*shards of another store"):
        fill(tmp_path, TinyTeacher(prompts="another"))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_sidecar_of_another_shard_does_not_count(tmp_path):
    fill(tmp_path)
    for ending in ("json", "safetensors"):
        (tmp_path / f"shard-00001.{ending}").write_bytes((tmp_path / f"shard-00000.{ending}").read_bytes())
    (tmp_path / "shard-00002.json").unlink()
    teacher = TinyTeacher()
    assert not verify(fill(tmp_path, teacher).path, squares(10))
    assert teacher.forwards == 3


class Broken(TinyTeacher):
    """Says NaN of one image."""

    def features(self, images):
        features = super().features(images)
        if self.forwards == 4:
            features.embedding[1, 2] = float("nan")
        return features


def test_nan_is_refused_with_the_sample_named(tmp_path):
    with pytest.raises(StoreError, match=r"embedding in float32 are not finite for 1 samples: folder/image007.png"):
        fill(tmp_path, Broken())
    assert (tmp_path / "shard-00000.json").is_file()
    assert not (tmp_path / "shard-00001.safetensors").exists()
    teacher = TinyTeacher()
    fill(tmp_path, teacher)
    assert teacher.forwards == 3


def test_overflow_in_half_precision_is_refused(tmp_path):
    teacher = TinyTeacher()
    teacher.rows *= 1e6
    with pytest.raises(StoreError, match=r"logits in float16 are not finite .*choose dtype='float32'"):
        fill(tmp_path, teacher, dtype="float16")


def test_an_unwritable_path_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*file/store/.*: Not a directory"):
        fill(tmp_path / "file" / "store")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": Squares([])}, DataError, "no samples"),
        ({"source": Squares(["a", "b", "b"])}, DataError, "'b' twice"),
        ({"dtype": "float61"}, UnknownNameError, "did you mean 'float16'"),
        ({"batch_size": 0}, OptionError, "batch_size"),
    ],
)
def test_unusable_samples_and_options_are_named(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        fill(tmp_path, **options)
    assert not list(tmp_path.iterdir())


class Uneven(ToTensor):
    def __call__(self, image):
        view = super().__call__(image)
        return view if view[0, 0, 0] < 0.5 else view[:, :2]


def test_views_of_two_sizes_are_named(tmp_path):
    with pytest.raises(DataError, match=r"views of one size, found \(3, [24], 4\) of folder/image"):
        fill(tmp_path, transform=Uneven(), batch_size=10, shard_size=10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"embedding_dim": 6}, r"embedding are \(2, 5\), expected \(2, 6\)"),
        ({"rows": torch.full((2, 5), float("inf"))}, "proxies are not finite"),
    ],
)
def test_a_teacher_that_breaks_its_word_is_named(tmp_path, wrong, message):
    teacher = TinyTeacher()
    vars(teacher).update(wrong)
    with pytest.raises(StoreError, match=message):
        fill(tmp_path, teacher)
    assert not list(tmp_path.glob("shard*"))


@pytest.fixture
def narrow(monkeypatch):
    """16 KiB in place of 64 MiB, so that a few images pass the limit."""
    monkeypatch.setattr(store_format, "JSON_LIMIT", 1 << 14)


def long_squares(n, start=0):
    return Squares([f"{LONG}{i:04d}.png" for i in range(start, start + n)])


def plan(**options):
    look = EmbedJob(TinyTeacher(), Squares(["a"]), ToTensor())
    return replace(plan_store(look, "float16"), **options)


@pytest.mark.parametrize("name", ["cat/1.png", "caf\xe9 \U0001f408.png", 'a "b" \\ c', "\udcff.png"])
def test_a_row_takes_as_many_bytes_as_it_says(tmp_path, name):
    def length(count):
        about = {"ids": [name] * count, "sizes": [12345] * count, "content": ["0" * 64] * count}
        write_json(tmp_path / "sidecar.json", about)
        return (tmp_path / "sidecar.json").stat().st_size

    assert length(8) - length(7) == row_bytes(name, 12345)


@pytest.mark.parametrize(
    ("samples", "shards"), [(100, 1), (5_000, 2), (1_281_167, 32), (18_000_000, 40), (10**9, 2176)]
)
def test_the_usual_size_of_a_shard_fits_any_number_of_images(samples, shards):
    longest = row_bytes("n01440764/" + "x" * 50, 10**6 - 1)  # 60 characters
    asked = plan(samples=samples, shard_size=usual_shard(samples, longest))
    check_shards(asked, longest)
    assert asked.count == shards
    assert asked.shard_size * longest < JSON_LIMIT


@pytest.mark.parametrize("length", [1, 100, 2048])  # the last: the longest path that Linux opens
def test_a_billion_images_with_ids_of_any_length_fit(length):
    longest = row_bytes("\xe9" * length, 10**12)  # six bytes a character
    check_shards(plan(samples=10**9, shard_size=usual_shard(10**9, longest)), longest)


def test_a_store_of_long_ids_is_written_and_read(tmp_path, narrow):
    store = fill(tmp_path, TinyTeacher(), long_squares(150), shard_size=None)
    assert store.manifest.shard_size == largest_shard(row_bytes(f"{LONG}0000.png", 300)) == 51
    assert max(file.stat().st_size for file in tmp_path.glob("*.json")) <= 1 << 14
    assert EmbeddingStore(tmp_path)[range(150)].embedding.shape == (150, 5)


@pytest.mark.parametrize(("size", "problem"), [
    (100, r"shard_size = 100 is too large: .* may take 16384 bytes, .* takes up to \d+: give at most 51, in a new folder"),
    (2, r"shard_size = 2 is too small: it makes 75 shards, and a manifest lists at most 58: give at least 3"),
])  # fmt: skip
def test_a_size_that_does_not_fit_is_refused_before_the_teacher_is_asked(tmp_path, narrow, size, problem):
    teacher = TinyTeacher()
    with pytest.raises(OptionError, match=problem):
        fill(tmp_path / "store", teacher, long_squares(150), shard_size=size)
    assert teacher.forwards == 0
    assert not (tmp_path / "store").exists()


def test_a_store_begun_with_shards_too_large_is_refused_before_the_teacher_is_asked(tmp_path, narrow):
    fill(tmp_path, TinyTeacher(), Squares(["a", "b"]), shard_size=None)
    begun = Manifest.read(tmp_path)
    assert begun.shard_size == 182
    replace(begun, shard_size=4096, shards=None, shared=None).write(tmp_path)
    teacher = TinyTeacher()
    with pytest.raises(OptionError, match="shard_size = 4096 is too large"):
        fill(tmp_path, teacher, Squares(["a", "b"]))
    assert teacher.forwards == 0
