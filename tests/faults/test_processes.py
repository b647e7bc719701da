"""Signals, silence and random numbers where a run is more than one process."""

import os
import signal

import pytest
import torch

from graphkd.files import one_writer
from tests.faults import jobs
from tests.faults.launch import finished, run, said
from tests.training import tiny

pytestmark = pytest.mark.faults
SEVERAL = {"accumulate": 1, "epochs": 2}


def test_workers_serve_on_when_the_whole_group_is_asked_to_end(context, tmp_path):
    whole = finished(context, tmp_path / "whole", workers=2)
    codes, _ = run(context, tmp_path / "run", at=5, act=jobs.hurt_the_group, number=signal.SIGTERM, workers=2)
    assert codes == [128 + signal.SIGTERM], said(tmp_path / "run")
    tiny.same(finished(context, tmp_path / "run", workers=2), whole)


def test_a_silent_process_is_given_up_after_the_timeout(context, tmp_path, record_figure):
    codes, seconds = run(
        context, tmp_path, world=2, victim=1, at=7, act=jobs.hurt_itself, number=signal.SIGSTOP, timeout=4.0, **SEVERAL
    )
    assert codes[0] == 1
    assert "DistributedError: another of the 2 processes is gone or silent" in said(tmp_path)
    record_figure("seconds until a stopped process was given up (timeout 4 s)", round(seconds, 1))
    assert seconds < 30


def test_a_signal_to_one_process_ends_all_at_the_same_update(context, tmp_path):
    whole = finished(context, tmp_path / "whole", world=2, **SEVERAL)
    codes, _ = run(
        context, tmp_path / "run", world=2, victim=1, at=6, act=jobs.hurt_itself, number=signal.SIGTERM, **SEVERAL
    )
    assert codes == [128 + signal.SIGTERM] * 2, said(tmp_path / "run")
    assert jobs.run_state(tmp_path / "run")["update"] == 8  # the next reading of the losses
    tiny.same(finished(context, tmp_path / "run", world=2, **SEVERAL), whole)


def test_all_processes_end_where_the_main_one_finds_the_folder_in_use(context, tmp_path):
    with one_writer(tmp_path / "run"):
        codes, seconds = run(context, tmp_path, world=2, **SEVERAL)
    assert codes == [1, 1]
    assert f"LockedError: {tmp_path / 'run'} is being written by process {os.getpid()} on" in said(tmp_path)
    assert "DistributedError: the main process ended the run: " in said(tmp_path)
    assert seconds < 30


def test_every_process_keeps_its_own_random_state(context, tmp_path):
    state = finished(context, tmp_path, world=2, **SEVERAL)["state"]["random"]["cpu"]
    assert len(state) == 2
    assert not torch.equal(*state)
