"""Many writers, one store: each rank its own shards, rank 0 the manifest, any order, any break."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.testing import assert_close

from graphkd.data.store.embed import embed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import merge, verify
from graphkd.data.store.write import StoreWriter
from graphkd.errors import OptionError, StoreError
from graphkd.files import write_file
from tests.data.store.fakes import TinyTeacher, ToTensor, direct, squares

N = 22  # in shards of 4: 6 shards


def part(path, rank, world, teacher=None, source=None, **options):
    how = {"transform": ToTensor(), "batch_size": 2, "shard_size": 4, "progress": False, "patience": 20.0, **options}
    return embed(teacher or TinyTeacher(), source or squares(N), path, rank=rank, world=world, **how)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_ranks_write_one_store_at_once(tmp_path, world):
    teachers = [TinyTeacher() for _ in range(world)]
    with ThreadPoolExecutor(world) as pool:
        stores = list(pool.map(lambda rank: part(tmp_path, rank, world, teachers[rank]), range(world)))
    expected = direct(TinyTeacher(), squares(N))
    for store in stores:
        assert_close(store[range(N)].logits, expected.logits)
    assert [teacher.forwards for teacher in teachers] == [
        len(range(rank, 6, world)) * 2 - (5 % world == rank) for rank in range(world)
    ]
    assert not verify(stores[0].path, squares(N))
    assert not list(tmp_path.glob(".*"))


def test_a_manifest_that_appears_while_the_folder_is_listed_is_not_foreign(tmp_path, monkeypatch):
    (tmp_path / "manifest.json.lock").touch()  # something to look at, before rank 0 writes
    looked = []

    def look(writer, file, plan):
        if not looked:
            looked.append(file.name)
            file.unlink()
            part(tmp_path, 0, 1)
        return file.name.startswith(".writer")

    monkeypatch.setattr(StoreWriter, "_is_ours", look)
    assert len(part(tmp_path, 1, 2)) == N
    assert looked == ["manifest.json.lock"]


SCRIPT = """
import sys, torch
from graphkd.data.store.embed import embed
from tests.data.store.fakes import TinyTeacher, ToTensor, squares
torch.set_num_threads(1)
store = embed(TinyTeacher(), squares(22), sys.argv[1], transform=ToTensor(), batch_size=2, shard_size=4, progress=False, patience=60)
assert len(store[range(22)]) == 22
"""


@pytest.mark.slow
def test_torchrun_is_understood(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "0", "--standalone", str(tmp_path / "job.py"), str(tmp_path / "store")]
    import os

    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert_close(EmbeddingStore(tmp_path / "store")[range(N)].embedding, direct(TinyTeacher(), squares(N)).embedding)


def test_a_rank_that_never_comes_is_named_and_nothing_is_lost(tmp_path):
    with pytest.raises(StoreError, match=r"rank 0 of 2 has written its shards and lacks 3 \(shard-00001, shard-00003"):
        part(tmp_path, 0, 2, patience=0.0)
    with pytest.raises(StoreError, match="incomplete: 3 of 6 shards are missing"):
        EmbeddingStore(tmp_path)
    teacher = TinyTeacher()
    assert_close(part(tmp_path, 0, 1, teacher)[range(N)].embedding, direct(teacher, squares(N)).embedding)
    assert teacher.forwards == 5 + 1  # shards 1, 3 and 5, the last of 2 samples; one more by direct()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_ranks_may_come_in_any_order_and_again(tmp_path, order):
    for rank in order:
        if rank == order[-1] and rank == 0:
            part(tmp_path, rank, 3)
        else:
            with pytest.raises(StoreError, match="is incomplete: rank"):
                part(tmp_path, rank, 3, patience=0.0)
    teachers = [TinyTeacher() for _ in range(3)]
    for rank in range(3):  # rank 0 finds all shards and writes the manifest; nobody asks a teacher again
        assert_close(part(tmp_path, rank, 3, teachers[rank])[[5]].logits, direct(TinyTeacher(), squares(N)).logits[5:6])
    assert [teacher.forwards for teacher in teachers] == [0, 0, 0]


def test_another_number_of_ranks_may_go_on(tmp_path):
    with pytest.raises(StoreError):
        part(tmp_path, 1, 3, patience=0.0)  # shards 1 and 4
    teachers = [TinyTeacher(), TinyTeacher()]
    with pytest.raises(StoreError):
        part(tmp_path, 1, 2, teachers[1], patience=0.0)  # 3 and 5; 1 is there
    part(tmp_path, 0, 2, teachers[0])  # 0 and 2; 4 is there
    assert [teacher.forwards for teacher in teachers] == [4, 3]


def test_a_rank_with_other_arguments_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is incomplete"):
        part(tmp_path, 0, 2, patience=0.0)
    with pytest.raises(StoreError, match="prompts 'a photo of a {}.', this run asks 'art of {}'"):
        part(tmp_path, 1, 2, TinyTeacher(prompts="art of {}"))


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0), (None, 2), (1, None)])
def test_ranks_that_cannot_be_are_refused(tmp_path, rank, world):
    with pytest.raises(OptionError, match="rank"):
        part(tmp_path, rank, world)


def test_writers_of_one_file_do_not_meet(tmp_path):
    bodies = [bytes([k]) * 100_000 for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda body: write_file(tmp_path / "same", body), bodies * 4))
    assert (tmp_path / "same").read_bytes() in bodies
    assert [file.name for file in tmp_path.iterdir()] == ["same"]


# merge --------------------------------------------------------------------------------------------------------------


def test_parts_of_one_store_in_several_folders_become_that_store(tmp_path):
    folders = [tmp_path / f"machine{rank}" for rank in range(3)]
    for rank, folder in enumerate(folders):
        with pytest.raises(StoreError, match="is incomplete"):
            part(folder, rank, 3, patience=0.0)
    assert merge(folders[:2], tmp_path / "all") == ["shard-00002", "shard-00005"]
    with pytest.raises(StoreError, match="incomplete"):
        EmbeddingStore(tmp_path / "all")
    assert merge(folders, tmp_path / "all") == []
    assert_close(EmbeddingStore(tmp_path / "all")[range(N)].logits, direct(TinyTeacher(), squares(N)).logits)
    part(tmp_path / "alone", 0, 1)
    for file in (tmp_path / "alone").iterdir():
        assert file.read_bytes() == (tmp_path / "all" / file.name).read_bytes()


def test_a_damaged_part_is_not_merged(tmp_path):
    for rank in range(2):
        with pytest.raises(StoreError):
            part(tmp_path / str(rank), rank, 2, patience=0.0)
    file = tmp_path / "1" / "shard-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x77")
    assert merge([tmp_path / "0", tmp_path / "1"], tmp_path / "all") == ["shard-00003"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("ab", r"a and \S+b are no parts of one store: the first was made with prompts .*, the other has 'art of"),
        ("ac", "the first was made with data .*, the other has"),
        ("ad", "no parts of one store: the order of samples, or the shard size"),
        ("n", "holds a manifest: give rank 0's too"),
    ],
)
def test_merging_refuses_what_does_not_go_together(tmp_path, names, message):
    part(tmp_path / "a", 0, 1)
    part(tmp_path / "b", 0, 1, TinyTeacher(prompts="art of {}"))
    part(tmp_path / "c", 0, 1, source=squares(N - 1))
    part(tmp_path / "d", 0, 1, shard_size=5)
    with pytest.raises(StoreError, match=message):
        merge([tmp_path / name for name in names], tmp_path / "all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]
