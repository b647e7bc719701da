import threading

import pytest

from graphkd.errors import DataError, DistributedError, ShapeError
from graphkd.training.failures import Signals, explain_failures

WRAPPED = """Caught DataError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "loop.py", line 1, in fetch
    raise DataError(...)
graphkd.errors.DataError: cannot read image a/b.png (OSError: cut): repair it
"""


def saved():
    return "the newest checkpoint is run/x"


def through(error, processes=1):
    with explain_failures(saved, processes):
        raise error


def test_an_error_of_a_worker_is_one_line():
    with pytest.raises(
        DataError, match=r"^cannot read image a/b\.png \(OSError: cut\): repair it; the newest .* run/x$"
    ):
        through(DataError(WRAPPED))


@pytest.mark.parametrize(
    "error", [RuntimeError("DataLoader worker (pid 7) is killed"), ConnectionResetError("reset"), EOFError()]
)
def test_a_dead_worker_is_told_with_what_there_is(error):
    with pytest.raises(
        DataError, match=r"^a process that loads images died \(.*the newest checkpoint is run/x.*resume=True"
    ):
        through(error)


def test_what_interrupts_the_explanation_is_explained_too():
    def interrupted():
        if not calls:
            calls.append(0)
            raise RuntimeError("DataLoader worker (pid 7) is killed")  # as torch's handler of SIGCHLD does, anywhere
        return saved()

    calls = []
    with pytest.raises(DataError, match="run/x"), explain_failures(interrupted, 1):
        raise ConnectionResetError("reset")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[gloo/transport/tcp/pair.cc:1] Connection closed by peer\nmore", r"\[gloo.*peer"),
        ("Application timeout caused pair closure\n", "Application.*closure"),  # gloo's own words, without its name
    ],
)
def test_a_lost_process_is_told_where_there_are_several(text, shown):
    error = RuntimeError(text)
    with pytest.raises(DistributedError, match=rf"another of the 2 processes is gone or silent \({shown}\)"):
        through(error, 2)
    with pytest.raises(RuntimeError, match="pair") as same:
        through(error, 1)
    assert same.value is error


@pytest.mark.parametrize("error", [ShapeError("2 and 3"), RuntimeError("CUDA out of memory"), KeyboardInterrupt()])
def test_other_errors_pass_as_they_are(error):
    with pytest.raises(type(error)) as same:
        through(error, 2)
    assert same.value is error


def test_in_another_thread_signals_stay_as_they_are():
    found = []

    def work():
        with Signals() as signals:
            found.append(signals.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
