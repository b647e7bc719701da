"""The benchmark of large stores runs, in a short form, and leaves nothing behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_short_form_prints_every_figure(tmp_path):
    command = [sys.executable, "-W", "ignore", str(ROOT / "benchmarks" / "store_scale.py"), "--folder", str(tmp_path)]
    command += ["--samples", "9000", "--width", "32", "--batches", "60", "--rounds", "1"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    for figure in ("write, store", "write, npy map", "write, torch.save", "open, cold", "read, cold", "verify",
                   "read, warm, store", "read, warm, npy map", "memory, anonymous"):  # fmt: skip
        assert re.search(rf"^{figure} +[\d,.]+ ", ended.stdout, re.MULTILINE), figure
    assert not list(tmp_path.iterdir())
