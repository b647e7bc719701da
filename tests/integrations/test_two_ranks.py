"""Two processes under torchrun train as one does: the graph spans both, in other people's loops too."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(framework, file, world):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(world),
        "-m",
        "tests.integrations.two_ranks",
    ]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, framework, str(file)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_two_ranks_train_as_one(framework, tmp_path):
    pytest.importorskip(framework, reason="pip install 'graphkd[integrations]'")
    one, two = (run(framework, tmp_path / f"{world}.json", world) for world in (1, 2))
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-5)
    for name, value in one["weights"].items():
        assert two["weights"][name] == pytest.approx(value, abs=1e-5), name
