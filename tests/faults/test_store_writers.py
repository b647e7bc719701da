"""Several processes that write one share of a store: one of them does, the others are told which."""

import os
import random
import re
import shutil
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from graphkd.data.store.embed import EmbedJob
from graphkd.data.store.tools import repair, verify
from graphkd.errors import LockedError, StoreError
from graphkd.files import one_writer
from tests.data.store.fakes import TinyTeacher, ToTensor, fill, squares
from tests.data.store.test_ranks import part
from tests.faults import jobs
from tests.faults.launch import rounds, said


class Meeting(TinyTeacher):
    """Does something in another thread while it is asked for the first time."""

    def __init__(self, act):
        super().__init__()
        self.act = act

    def features(self, images):
        if self.act is not None:
            act, self.act = self.act, None
            with ThreadPoolExecutor(1) as pool:
                pool.submit(act).result()
        return super().features(images)


@pytest.mark.parametrize("others", [{"rank": 0, "world": 1}, {"rank": 0, "world": 2}, {"rank": 1, "world": 2}])
def test_a_second_writer_is_told_who_is_the_first_and_disturbs_nothing(tmp_path, others):
    def disturb():
        with pytest.raises(LockedError, match=rf"is being written by process {os.getpid()} on .*let it end"):
            part(tmp_path, patience=0.0, **others)

    store = part(tmp_path, 0, 1, Meeting(disturb))
    assert not verify(store.path, squares(len(store)))
    assert not list(tmp_path.glob(".*"))


def test_other_ranks_of_the_same_division_are_let_in(tmp_path):
    def other():
        with pytest.raises(StoreError, match="is incomplete: rank 1 of 2 has written its shards"):
            part(tmp_path, 1, 2, patience=0.0)

    assert not verify(part(tmp_path, 0, 2, Meeting(other)).path)


def test_nobody_repairs_what_another_writes(tmp_path):
    fill(tmp_path)
    (tmp_path / "shard-00001.safetensors").write_bytes(b"")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with one_writer(tmp_path, "writer-1-of-2"), ThreadPoolExecutor(1) as pool:
        again = pool.submit(repair, tmp_path, EmbedJob(TinyTeacher(), squares(10), ToTensor(), progress=False))
        with pytest.raises(LockedError, match="is being written by process"):
            again.result()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert verify(tmp_path)


def test_a_lock_that_a_kill_left_keeps_nobody_out(tmp_path):
    tmp_path.joinpath(".writer-1-of-3.lock").write_text("process 1 on nowhere since ever\n")
    tmp_path.joinpath(".writer-0-of-1.lock").write_text("process 1 on nowhere since ever\n")
    assert not verify(part(tmp_path, 0, 1).path)
    assert not list(tmp_path.glob(".*"))


@rounds(2, 60)
def test_writers_of_one_share_never_disturb_each_other(rounds, fault_seed, context, tmp_path, record_figure):
    """Two processes of one rank and one division, every fourth time of different ones, begun at almost the same time."""
    expected = {path.name: path.read_bytes() for path in jobs.store(tmp_path / "whole").path.iterdir()}
    ends = Counter()
    for number in range(rounds):
        draw, folder = random.Random(f"{fault_seed}-{number}"), tmp_path / f"{number}"
        shares = [{}, {"rank": 0, "world": 2, "patience": 0.0} if number % 4 == 3 else {}]
        draw.shuffle(shares)
        processes = []
        for share in shares:
            processes.append(context.Process(target=jobs.embed_job, args=(str(folder),), kwargs=share))
            processes[-1].start()
            time.sleep(draw.uniform(0, 0.1))
        killed = number % 3 == 2
        if killed:
            time.sleep(draw.uniform(0, 0.4))
            draw.choice(processes).kill()
        for each in processes:
            each.join(60)
        text = said(folder)
        refused = len(re.findall(r"LockedError: \S+store is being written by process \d+ on ", text))
        unforeseen = [line for line in text.splitlines() if re.match(r"\S*Error", line) and "LockedError" not in line]
        assert all("is incomplete: rank 0 of 2" in line for line in unforeseen), text
        ends[f"{refused} refused"] += 1
        jobs.store(folder)
        found = {path.name: path.read_bytes() for path in (folder / "store").iterdir()}
        if killed:  # the other one may have made the store whole: then the lock of a kill waits for the next writer
            found = {name: content for name, content in found.items() if not name.endswith(".lock")}
        assert found == expected, f"seed {fault_seed}, round {number}"
        shutil.rmtree(folder)
    record_figure("rounds of two writers of one share", rounds)
    record_figure("writers refused by name", dict(ends))
    record_figure("writers that failed in another way, files that differ or are left over", 0)
