"""Hostile images: nothing is executed, no other parser sees them, none takes more than 700 MiB, none blocks."""

import json
import os
import resource
import signal
import time

import pytest
from PIL import Image

from graphkd.data.decoding import FORMATS
from graphkd.data.folders import open_folder
from graphkd.errors import DataError
from tests.faults.hostile_images import AT_THE_LIMIT, CASES, LARGE

_MOST_MIB, _MOST_SECONDS = 700, 60
_PROGRAMS = ("gs", "sh", "convert", "rsvg-convert")


def read_all(folder):
    """What becomes of the images in a folder: ``"read"``, or the message that refuses one."""
    try:
        source = open_folder(folder, layout="flat")
        modes = {source.image(index).mode for index in range(len(source))}
    except DataError as error:
        return str(error)
    assert modes == {"RGB"}
    assert len(source) == 1
    return "read"


def measured(folder, traces):
    """The outcome, seconds and MiB of reading a folder, where programs and other parsers would leave a trace."""
    os.environ["PATH"] = str(traces / "bin")
    for name in Image.OPEN.keys() - {*FORMATS}:
        Image.OPEN[name] = (lambda *_, name=name: (traces / name).touch(), None)
    start, before = time.monotonic(), memory(reset=True)
    return {"outcome": read_all(folder), "seconds": time.monotonic() - start, "MiB": memory() - before}


def in_a_process(work):
    """What ``work()`` returns, from a process of its own that ends in time, whatever it waits for."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(_MOST_SECONDS)
            os.write(writable, json.dumps(work()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writable)
    with open(readable, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    assert status == 0, f"the process ended with status {status}: it blocked, or raised something else"
    return json.loads(said)


def memory(reset=False):
    """Peak MiB of this process; after a reset, from there on, where the system can do that."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attack(build, tmp_path):
    folder, traces = tmp_path / "images", tmp_path / "traces"
    folder.mkdir(parents=True)
    (traces / "bin").mkdir(parents=True)
    for name in _PROGRAMS:
        (traces / "bin" / name).write_text(f"#!/bin/sh\n: > {traces}/{name}\n")
        (traces / "bin" / name).chmod(0o755)
    build(folder)
    found = in_a_process(lambda: measured(folder, traces))
    assert [path.name for path in traces.iterdir()] == ["bin"], "a program or a foreign parser was started"
    assert found["MiB"] <= _MOST_MIB, found
    assert found["outcome"] == "read" or f"{folder}" in found["outcome"], found
    return found


@pytest.mark.parametrize("name", CASES)
def test_hostile_image(tmp_path, name):
    Image.init()  # as a program does that reads other formats, too
    attack(CASES[name], tmp_path)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_hostile_images_in_full(tmp_path, record_figure):
    Image.init()

    def apart(build):  # memory that building leaves behind would hide what reading takes
        return lambda folder: in_a_process(lambda: build(folder))

    found = {name: attack(apart(build), tmp_path / name) for name, build in {**CASES, **LARGE, **AT_THE_LIMIT}.items()}
    assert len(found) >= 40
    assert {found[name]["outcome"] for name in AT_THE_LIMIT} == {"read"}
    record_figure("hostile images", len(found))
    record_figure("refused", sum(each["outcome"] != "read" for each in found.values()))
    record_figure("programs or foreign parsers started", 0)
    for unit in ("MiB", "seconds"):
        worst = max(found, key=lambda name: found[name][unit])
        record_figure(f"most {unit} of one image", f"{found[worst][unit]:.0f} ({worst})")
