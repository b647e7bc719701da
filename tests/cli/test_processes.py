"""The program as a process of its own: stopped by a signal, started several times."""

import json
import shlex
import signal
import time
from pathlib import Path

import pytest

from graphkd.cli.config_file import write_config
from graphkd.training.checkpoint import student_weights

ROOT = Path(__file__).parents[2]
SMALL = "--student test_efficientnet --size 32 --batch-size 16 --trackers ''"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_there_is(process, class_folders, teacher, tmp_path, number, code):
    line = f"distill --data images {teacher} --run one {SMALL} --epochs 10000"
    running = process("-m", "graphkd.cli", *shlex.split(line), start=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "one" / "checkpoints").glob("update-*")):
        assert running.poll() is None, running.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert running.returncode == code, err
    assert err.splitlines()[-1] == "try:   go on with: graphkd distill --config one/run.yaml --resume"
    assert "Traceback" not in err
    assert student_weights(tmp_path / "one")


@pytest.mark.slow
def test_two_processes_share_the_graph_the_store_and_the_report(process, class_folders, teacher, tmp_path):
    options = {"data": "images", "store": "features", "run": "one", "student": "test_efficientnet", "size": 32}
    words = iter(teacher.split())
    options |= {name.removeprefix("--"): next(words) for name in words}
    write_config(tmp_path / "two.yaml", "distill", options | {"epochs": 2, "batch_size": 16, "trackers": []})
    launch = ["-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = process(*launch, "-m", "graphkd.cli", "distill", "--config", "two.yaml", ACCELERATE_USE_CPU="true")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("student, kd + mimic") == 1  # one process reports
    assert json.loads((tmp_path / "one" / "results.json").read_text())["updates"] == 6
