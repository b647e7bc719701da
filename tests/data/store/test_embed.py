"""Writing a store: what a finished one holds, and how it is written."""

import sys

import pytest
import torch
from torch.testing import assert_close

from tests.data.store.fakes import TinyTeacher, ToTensor, direct, fill, squares


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


class RandomCrop(ToTensor):
    def __call__(self, image):
        return super().__call__(image) * torch.rand(1)


def test_a_random_transform_draws_the_same_with_and_without_workers(tmp_path):
    alone = fill(tmp_path / "alone", transform=RandomCrop())
    helped = fill(tmp_path / "helped", transform=RandomCrop(), workers=2)
    assert torch.equal(alone[range(10)].embedding, helped[range(10)].embedding)


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
