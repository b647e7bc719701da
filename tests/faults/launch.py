"""Training in processes that are forked from the server, and what is left when they have ended."""

import signal
import socket
import time

import pytest

from tests.faults import jobs


def rounds(few, many):
    """A test with few rounds, and the full form of fault injection with many."""
    full = pytest.param(many, id="full", marks=pytest.mark.faults)
    return pytest.mark.parametrize("rounds", [pytest.param(few, id="short"), full])


def run(context, folder, world=1, patience=60, **options):
    """Train in processes of their own; their exit codes, and how long the last took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    processes = []
    for rank in range(world):
        given = {"rank": rank, "world": world, "port": port, **options}
        processes.append(context.Process(target=jobs.train_job, args=(str(folder),), kwargs=given))
        processes[-1].start()
    stopped = options.get("number") == signal.SIGSTOP
    waited_for = [each for rank, each in enumerate(processes) if not (stopped and rank == options.get("victim"))]
    for each in waited_for:
        each.join(max(0.0, started + patience - time.monotonic()))
    seconds = time.monotonic() - started
    late = [each for each in waited_for if each.exitcode is None]
    for each in processes:
        each.kill()
        each.join()
    assert not late, f"{len(late)} of {world} processes hang\n{said(folder)}"
    return [each.exitcode for each in processes], seconds


def said(folder):
    return (folder / "said").read_text()


def finished(context, folder, **options):
    """Go on to the end, and what is there then."""
    codes, _ = run(context, folder, **options)
    assert set(codes) == {0}, said(folder)
    return jobs.run_state(folder)
