"""Writing a store: what is refused, and what the message names."""

import pytest
import torch

from graphkd.data.store.read import EmbeddingStore
from graphkd.errors import DataError, FileError, OptionError, StoreError, UnknownNameError
from tests.data.store.fakes import Squares, TinyTeacher, ToTensor, fill, squares


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
    EmbeddingStore(tmp_path).verify()


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
    fill(tmp_path, teacher).verify(squares(10))
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


def test_unusable_samples_and_options_are_named(tmp_path):
    with pytest.raises(DataError, match="no samples"):
        fill(tmp_path, source=Squares([]))
    with pytest.raises(DataError, match="'b' twice"):
        fill(tmp_path, source=Squares(["a", "b", "b"]))
    with pytest.raises(UnknownNameError, match="did you mean 'float16'"):
        fill(tmp_path, dtype="float61")
    with pytest.raises(OptionError, match="batch_size"):
        fill(tmp_path, batch_size=0)
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
