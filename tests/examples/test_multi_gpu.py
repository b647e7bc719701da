"""The example for several devices under every launcher, on two CPU processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SHARDED = ["accelerate.commands.launch", "--num_processes", "2", "--use_fsdp", "--fsdp_version", "2"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="the processes would look for GPUs"),
]


def launch(folder, launcher, *flags, **environment):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    start = ["-m", *launcher] if launcher else []
    command = [sys.executable, "-W", "ignore", *start, str(ROOT / "examples" / "multi_gpu.py")]
    return subprocess.run(
        [*command, "--folder", str(folder), "--epochs", "2", *flags], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process prints."""
    return launch(tmp_path_factory.mktemp("alone"), []).stdout


@pytest.mark.parametrize(
    ("launcher", "flags"),
    [(TORCHRUN, []), (TORCHRUN, ["--shard"]), (SHARDED, [])],
    ids=["torchrun", "torchrun --shard", "accelerate launch --use_fsdp"],
)
def test_every_launcher_trains_the_student_of_one_process(alone, tmp_path, launcher, flags):
    run = launch(tmp_path, launcher, *flags, ACCELERATE_USE_CPU="true")
    assert run.returncode == 0, run.stderr
    one, two = (re.findall(r"([\d.]+) processes: teacher (\S+), student (\S+)", each) for each in (alone, run.stdout))
    assert (one[0][0], two[0][0]) == ("1", "2")
    assert [float(each) for each in two[0][1:]] == pytest.approx([float(each) for each in one[0][1:]], abs=0.005)


def test_processes_that_do_not_see_each_other_are_refused(tmp_path):
    run = launch(tmp_path / "runs", TORCHRUN, ACCELERATE_USE_CPU="false")
    assert run.returncode != 0
    assert run.stderr.count("DistributedError: 2 processes were started, and each sees only itself") >= 1
    assert not (tmp_path / "runs").exists()
