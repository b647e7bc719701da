"""Verify, repair, info: what is wrong is named, what is mended is only that."""

import pytest
from torch.testing import assert_close

from graphkd.data.store.embed import EmbedJob, embed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import info, repair, verify
from graphkd.errors import StoreError
from tests.data.store.fakes import Squares, TinyTeacher, ToTensor, direct, squares


@pytest.fixture
def folder(tmp_path):
    embed(TinyTeacher(), squares(10), tmp_path, transform=ToTensor(), batch_size=2, shard_size=4, progress=False)
    return tmp_path


def look(**changes):
    return EmbedJob(
        **{"teacher": TinyTeacher(), "source": squares(10), "transform": ToTensor(), "progress": False, **changes}
    )


def spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def test_info_reads_no_features(folder):
    found = info(folder)
    assert (found["complete"], found["absent"], found["samples"], found["shards"]) == (True, [], 10, 3)
    assert found["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    (folder / "shard-00001.safetensors").unlink()
    assert (info(folder)["complete"], info(folder)["absent"]) == (False, ["shard-00001"])


def test_a_whole_store_is_whole(folder):
    assert verify(folder, squares(10)) == {}
    assert repair(folder, look()) == ({}, 0)


def test_verify_names_every_file(folder):
    spoil(folder / "shard-00000.safetensors")
    spoil(folder / "shard-00002.json")
    (folder / "shared.safetensors").unlink()
    found = verify(folder)
    assert sorted(found) == ["shard-00000.safetensors", "shard-00002.json", "shared.safetensors"]
    assert "does not fit its digest" in found["shard-00000.safetensors"]


@pytest.mark.parametrize(
    ("files", "embedded", "forwards"),
    [
        (["shard-00001.safetensors"], 4, 1),
        (["shard-00002.json", "shard-00002.safetensors"], 2, 1),
        (["shared.safetensors"], 1, 1),
        (["manifest.json"], 0, 0),
        (["manifest.json", "shard-00000.json"], 4, 1),
    ],
)
@pytest.mark.parametrize("how", ["spoil", "remove"])
def test_repair_embeds_only_what_is_damaged(folder, files, embedded, forwards, how):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    kept = {file.name: file.stat().st_mtime_ns for file in folder.glob("*.safetensors")}
    for name in files:
        spoil(folder / name) if how == "spoil" else (folder / name).unlink()
    teacher = TinyTeacher()
    report = repair(folder, look(teacher=teacher, batch_size=4))
    assert (report.embedded, teacher.forwards) == (embedded, forwards)
    assert {name.partition(".")[0] for name in files} == {name.partition(".")[0] for name in report.damaged}
    assert_close(EmbeddingStore(folder)[range(10)].logits, direct(TinyTeacher(), squares(10)).logits)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    touched = {name.partition(".")[0] for name in files}
    for name, time in kept.items():
        assert name.partition(".")[0] in touched or (folder / name).stat().st_mtime_ns == time
    assert not verify(folder, squares(10))


def test_repair_keeps_dtype_views_and_shard_size(tmp_path):
    embed(TinyTeacher(), squares(10), tmp_path, transform=ToTensor(), shard_size=3, dtype="int8", progress=False)
    spoil(tmp_path / "shard-00003.safetensors")
    assert repair(tmp_path, look()).embedded == 1
    assert EmbeddingStore(tmp_path).manifest.dtype == "int8"


def test_repair_finishes_an_unfinished_store(tmp_path):
    with pytest.raises(StoreError):
        embed(
            TinyTeacher(),
            squares(10),
            tmp_path,
            transform=ToTensor(),
            shard_size=4,
            progress=False,
            rank=0,
            world=2,
            patience=0,
        )
    assert [*verify(tmp_path)] == ["manifest.json", "shard-00001.safetensors"]
    assert repair(tmp_path, look()).embedded == 4
    assert not verify(tmp_path)


def test_repair_refuses_another_teacher_and_touches_nothing(folder):
    spoil(folder / "shard-00001.safetensors")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(StoreError, match=r"prompts .*this run asks 'art of \{\}'"):
        repair(folder, look(teacher=TinyTeacher(prompts="art of {}")))
    with pytest.raises(StoreError, match="data '10 samples"):
        repair(folder, look(source=Squares(squares(9).ids)))
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_without_manifest_and_copy_the_way_out_is_named(folder):
    for name in ("manifest.json", "shared.json"):
        spoil(folder / name)
    with pytest.raises(
        StoreError, match="copy is of no help either.*embed again into this folder with the same arguments"
    ):
        verify(folder)
    (folder / "manifest.json").unlink()
    teacher = TinyTeacher()
    embed(teacher, squares(10), folder, transform=ToTensor(), shard_size=4, progress=False)
    assert teacher.forwards == 1  # for the proxies; the shards fit
    assert not verify(folder)
