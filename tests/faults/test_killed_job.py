"""The main job, killed while it embeds and again inside an epoch, ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from graphkd.training.checkpoint import student_weights

# Small shards and a slow teacher, so that there is a middle of the embedding to be killed in.
JOB = """
import functools, sys, time
import imagenet_prg, jobs
from graphkd.teachers.base import Teacher

jobs.embed = functools.partial(jobs.embed, shard_size=16, batch_size=8, progress=False)
look = Teacher.__call__

def slowly(self, images):
    time.sleep(0.05)
    return look(self, images)

Teacher.__call__ = slowly
imagenet_prg.main()
"""


def start(job, folder):
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(str(root / each) for each in (".", "kernels", "examples"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", JOB, *map(str, job)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_when(process, happened, patience=120):
    """SIGKILL the job and all its loader workers as soon as something has happened."""
    deadline = time.monotonic() + patience
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_killed_twice_the_job_ends_with_the_same_weights(tmp_path, class_folders, teacher_checkpoint):
    job = ["--data", class_folders, "--teacher", teacher_checkpoint, "--templates", "photo", "--quiet", "--size", 32]
    job += ["--student", "test_efficientnet", "--methods", "prg", "--epochs", 3, "--batch", 8, "--workers", 2]
    job += ["--checkpoint-every", 1, "--resume"]
    unbroken = start([*job, "--run", "whole", "--store", "whole-store"], tmp_path)
    printed, _ = unbroken.communicate(timeout=300)
    assert unbroken.returncode == 0, printed

    broken = [*job, "--run", "broken", "--store", "store"]
    shards = tmp_path / "store" / "train"
    kill_when(start(broken, tmp_path), lambda: len(list(shards.glob("shard-*.json"))) >= 1)
    finished = {
        path: path.stat().st_mtime_ns
        for path in shards.glob("shard-*.safetensors")
        if path.with_suffix(".json").exists()
    }
    assert 1 <= len(finished) < 3
    checkpoints = tmp_path / "broken" / "prg" / "checkpoints"
    kill_when(start(broken, tmp_path), lambda: len(list(checkpoints.glob("*[0-9]"))) >= 2)
    resumed = start(broken, tmp_path)
    printed, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, printed
    assert "resuming" in printed

    assert finished.items() <= {path: path.stat().st_mtime_ns for path in shards.glob("shard-*.safetensors")}.items()
    whole, mended = (student_weights(tmp_path / name / "prg", "last") for name in ("whole", "broken"))
    assert whole.keys() == mended.keys()
    assert all(torch.equal(whole[name], mended[name]) for name in whole)
