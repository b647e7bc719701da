"""SIGKILL at random moments over embedding, checkpointing and training: nothing is lost, and the end is the same."""

import random
import time
from collections import Counter

import pytest

from graphkd.training.checkpoint import Checkpoints
from tests.faults import jobs
from tests.faults.launch import rounds
from tests.training import tiny

NAMES = {value: name for name, value in jobs.PHASES.items()}


@pytest.fixture(scope="module")
def unbroken(context, tmp_path_factory):
    """What an unbroken job leaves, and how many seconds it took."""
    folder = tmp_path_factory.mktemp("whole")
    for work in (jobs.nothing, jobs.whole_job):  # the first waits until the server has imported everything
        started = time.monotonic()
        process = context.Process(target=work, args=(str(folder),))
        process.start()
        process.join(120)
        seconds = time.monotonic() - started
        assert process.exitcode == 0, (folder / "said").read_text()
    return jobs.outcome(folder), seconds


def finished_shards(folder):
    """Bytes of every shard whose sidecar says that it is whole."""
    return {
        path.name: path.read_bytes()
        for path in (folder / "store").glob("shard-*")
        if path.with_suffix(".json").exists()
    }


def kill_until_done(context, folder, draw, horizon, budget):
    """Start the job again and again, kill it after a random time each; what it was doing, kill by kill."""
    kills, shards = [], {}
    while True:
        (folder / "phase").write_bytes(jobs.PHASES["start"])
        process = context.Process(target=jobs.whole_job, args=(str(folder),))
        process.start()
        if len(kills) < budget:
            process.join(draw.uniform(0, horizon))
            process.kill()
        process.join(120)
        if process.exitcode == 0:
            return kills
        assert process.exitcode == -9, (folder / "said").read_text()
        kills.append(NAMES[(folder / "phase").read_bytes()])
        checkpoints = Checkpoints(folder / "run" / "checkpoints")
        for update in checkpoints.updates():
            checkpoints.load(update)  # raises for an unreadable one
        now = finished_shards(folder)
        assert shards.items() <= now.items(), "a finished shard was lost or written again"
        shards = now


@rounds(8, 200)
def test_sigkills_change_nothing(rounds, context, unbroken, tmp_path, fault_seed, record_figure):
    """Jobs killed so often in all, several times each, and compared with the unbroken one."""
    expected, seconds = unbroken
    draw, phases, runs, horizon = random.Random(fault_seed), Counter(), [], 0.5 * seconds
    while phases.total() < rounds:
        folder = tmp_path / f"run{len(runs)}"
        folder.mkdir()
        kills = kill_until_done(context, folder, draw, horizon, rounds - phases.total())
        tiny.same(jobs.outcome(folder), expected)
        phases.update(kills)
        runs.append(len(kills))
        horizon *= 0.8 if len(kills) < 4 else 1.25 if len(kills) > 8 else 1.0  # the machine's load changes
    record_figure("SIGKILLs", phases.total())
    record_figure("killed while", dict(phases))
    record_figure("runs, and kills of each", runs)
    for name in ("samples lost or duplicated", "unreadable checkpoints", "runs whose final weights differ"):
        record_figure(name, 0)
    if rounds >= 200:
        assert min(phases[name] for name in ("embed", "train", "checkpoint")) >= 5
        assert phases.total() / len(runs) >= 2
