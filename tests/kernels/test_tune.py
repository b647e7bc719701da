"""graphkd tune: choices from times, what is verified, and everything that may end a run early."""

import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from graphkd_kernels import dispatch, machine_plan, plans, reference, tune
from graphkd_kernels.tuning import problems, run, work, workers
from graphkd_kernels.tuning.found import Found
from graphkd_kernels.tuning.steps import steps
from graphkd_kernels.tuning.verify import CASES, LIMIT, backends, verify

CPU = torch.device("cpu")
KERNELS = Path(dispatch.__file__).parent


# choices


def test_the_faster_backend_is_chosen_from_where_the_lines_cross():
    points = [(10, {"eager": 1.0, "blocked": 4.0}), (1000, {"eager": 100.0, "blocked": 25.0})]
    (zero, first), (start, second) = steps(points, ("eager", "blocked"))
    assert (zero, first, second) == (0, "eager", "blocked")
    assert 100 <= start <= 120, "time is a power of size: they cross at 100, and one of 32 steps may pass"


def test_between_two_sizes_the_choice_is_within_a_tenth_of_the_best():
    def ms(size):
        return {"eager": 0.05 + 1e-6 * size, "blocked": 0.2 + 2e-7 * size}

    found = steps([(4**i, ms(4**i)) for i in range(4, 12)], ("eager", "blocked"))
    for size in range(300, 2_000_000, 1009):
        chosen = [name for start, name in found if size >= start][-1]
        assert ms(size)[chosen] <= 1.1 * min(ms(size).values())


def test_a_clocks_noise_chooses_the_backend_that_holds_less():
    points = [(10 * 4**i, {"eager": 1.0, "blocked": ratio}) for i, ratio in enumerate([1.1, 0.99, 1.01, 0.99, 1.02])]
    (_, first), (_, second) = steps(points, ("eager", "blocked"))
    assert (first, second) == ("eager", "blocked")


def test_what_is_not_allowed_is_never_chosen():
    points = [(10, {"eager": 3.0, "blocked": 2.0, "triton": 0.1}), (99, {"eager": 3.0, "blocked": 2.0, "triton": 0.1})]
    assert steps(points, ("eager", "blocked")) == ((0, "blocked"),)
    assert steps(points, ("eager", "blocked", "triton")) == ((0, "triton"),)


def test_a_backend_that_ran_out_of_memory_is_not_chosen_there():
    points = [(10, {"eager": 1.0, "blocked": 2.0}), (99, {"blocked": 20.0})]
    assert steps(points, ("eager", "blocked"))[-1][1] == "blocked"


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_large_tensors_are_timed_on_pages_that_the_process_has():
    """Of ten times eight of 4 MiB, a new process gives some back each time, and takes 17,000 pages."""
    ask = "import resource, torch\nfrom graphkd_kernels.tuning.timing import as_in_training\nas_in_training()\n"
    ask += "def pages():\n    [torch.ones(1 << 20) for _ in range(8)]\n"
    ask += "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
    ask += "before = pages()\nfor _ in range(10):\n    after = pages()\nprint(after - before)"
    # benchmarks.memory, which other tests import, sets thresholds of malloc for the processes that it starts
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment |= {"PYTHONPATH": str(KERNELS.parent)}
    done = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8192


# problems


def test_every_curve_of_a_planner_is_timed_and_shipped():
    timed = {each.size(each.grid[0], torch.float32, "cpu")[0] for each in problems.PROBLEMS if each.grid}
    assert timed == set(machine_plan.shipped().choices)
    assert {each.operation for each in problems.PROBLEMS if each.grid} == set(plans.PLANNERS)


def test_the_shipped_choices_follow_from_the_shipped_times():
    data = machine_plan.read(KERNELS / "shipped_plan.json")
    for curve, times in data["times"].items():
        points = [(row["size"], {name: row[name] for name in row if name != "size"}) for row in times["float32"]]
        assert steps(points, ("eager", "blocked")) == machine_plan.shipped().choices[curve]["float32"], curve


def test_every_operation_is_verified():
    assert set(problems.OPERATIONS) == set(dispatch._BACKENDS["eager"])


@pytest.mark.parametrize("problem", problems.PROBLEMS, ids=lambda each: each.name)
def test_a_problem_fits_its_operation(problem):
    tensors = problem.tensors((20, 8), CPU)
    getattr(reference, problem.operation)(*tensors, *problem.arguments(20))
    sizes = [problem.size(shape, torch.float32, "cpu")[1] for shape in problem.grid]
    assert sizes == sorted(set(sizes))


def test_inputs_are_exact_in_every_type():
    x = problems.of("unit_rows")[0].tensors((64, 64), CPU)[0]
    for dtype in LIMIT:
        assert torch.equal(x.to(dtype).float(), x)


# verification


def test_every_backend_and_type_is_compared_on_every_case():
    rows = list(verify("row_kl", CPU))
    assert [row["verdict"] for row in rows if "ends" in row] == [True] * 8
    found = {(row["backend"], row["dtype"], row["case"]) for row in rows if "case" in row}
    cases = [case.name for case in CASES if case.how not in ("stream", "graph")]
    assert len(found) == 2 * 4 * (len(cases) - 1) + 1, "compiled once"
    assert backends("row_kl", CPU) == ["eager", "blocked"]
    assert backends("gram", CPU) == ["eager"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda x: 1.5 * x, "97x65: value off by 5.0e-01 of float64"),
        (lambda x: x * x.detach().new_tensor([1.0]).fill_(float("nan")), "97x65: value off by inf"),
        (lambda x: x.detach() + 0.5 * (x - x.detach()), "97x65: gradient 1 off by 5.0e-01"),
        (lambda x: x + 1e-5 * torch.rand(()), "97x65: AssertionError: twice is not the same, bit for bit"),
        (lambda x: x.missing, "97x65: AttributeError: 'Tensor' object has no attribute 'missing'"),
    ],
    ids=["value", "nan", "gradient", "twice", "exception"],
)
def test_what_is_wrong_is_named(monkeypatch, wrong, why):
    right = dispatch._BACKENDS["blocked"]["unit_rows"]
    monkeypatch.setitem(dispatch._BACKENDS["blocked"], "unit_rows", lambda x: wrong(right(x)))
    verdicts = {(row["backend"], row["dtype"]): row["verdict"] for row in verify("unit_rows", CPU) if "ends" in row}
    assert verdicts["eager", "float32"] is True
    assert verdicts["blocked", "float32"].startswith(why)


# the run, with made-up processes


@pytest.fixture
def scripted(tmp_path, monkeypatch):
    """Runs ``tune`` on rows that are written down here: (kind of work, operation) -> rows or an exception."""
    monkeypatch.setenv("GRAPHKD_PLAN", str(tmp_path / "plan.json"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = []

    def go(script, **options):
        def rows_of(what, arguments, silent, seconds):
            yield {"kind": "device"}
            for row in script.get((what.__name__, arguments[0]), default(what, arguments[0])):
                if isinstance(row, BaseException):
                    raise row
                yield row

        monkeypatch.setattr(run, "rows_of", rows_of)
        return run.tune(say=said.append, **options)[0]

    go.plan = lambda: machine_plan.read(tmp_path / "plan.json")
    go.said = said
    yield go
    machine_plan.put("cpu", None)


def checked(operation, backend="blocked", dtype="float32", verdict=True):
    about = {"kind": "verify", "operation": operation, "backend": backend, "dtype": dtype}
    return [about | {"begins": True}, about | {"case": "97x65"}, about | {"ends": True, "verdict": verdict}]


def raced(operation):
    problem = problems.of(operation)[0]
    curve, size = problem.size(problem.grid[0], torch.float32, "cpu")
    about = {"kind": "time", "operation": operation, "curve": curve, "size": size, "dtype": "float32"}
    return [about | {"ms": {"eager": 2.0, "blocked": 1.0}}]


def default(what, operation):
    return checked(operation) if what is work.verified else raced(operation)


TWO = {"operations": ["row_kl", "unit_rows"]}


def test_a_run_makes_the_plan(scripted):
    found = scripted({}, **TWO)
    assert found.checks == 2
    assert scripted.plan()["choices"]["row_kl"]["float32"] == [[0, "blocked"]]
    assert scripted.plan()["verified"]["unit_rows"]["float32"]["blocked"] is True
    assert machine_plan.in_force("cpu").choices["row_kl"]["float32"] == ((0, "blocked"),)


@pytest.mark.parametrize(
    "ending", [[{"died": "its process was ended by SIGSEGV"}], checked("row_kl", verdict="97x65: value off by 1")[2:]]
)
def test_what_failed_is_named_left_out_and_the_rest_is_kept(scripted, ending):
    found = scripted({("verified", "row_kl"): [*checked("row_kl")[:2], *ending]}, **TWO)
    assert len(found.failures) == 1
    assert found.failures[0].startswith("row_kl, blocked, float32: ")
    assert "FAILED row_kl" in scripted.said[0]
    plan = scripted.plan()
    assert plan["choices"]["row_kl"]["float32"] == [[0, "eager"]]
    assert plan["choices"]["unit_rows"]["float32"] == [[0, "blocked"]]


def test_a_device_that_disappears_is_said_and_the_rest_is_named(scripted):
    found = scripted({("verified", "unit_rows"): [{"kind": "device", "lost": "no device"}]}, **TWO)
    assert found.left == [
        "not verified: unit_rows (the device does not answer: no device)",
        "not timed: row_kl, unit_rows (the device does not answer: no device)",
    ]
    assert set(scripted.plan()["verified"]) == {"row_kl"}


def test_a_budget_that_ends_in_the_middle_condemns_nothing(scripted):
    found = scripted({("verified", "unit_rows"): [*checked("unit_rows")[:2], {"cut": True}]}, **TWO)
    assert found.failures == []
    assert found.left[0] == "not verified: unit_rows (120 of 180 s were used up; a larger budget does the rest)"
    assert set(scripted.plan()["choices"]) == {"row_kl"}, "verification leaves time to time what it reached"


def test_a_verdict_is_kept_until_there_is_another(scripted):
    scripted({("verified", "row_kl"): checked("row_kl", dtype="float16", verdict="value off by 1")}, **TWO)
    scripted({("verified", "row_kl"): [*checked("row_kl"), {"cut": True}]}, **TWO)
    verified = scripted.plan()["verified"]["row_kl"]
    assert verified == {"float16": {"blocked": "value off by 1"}, "float32": {"blocked": True}}


@pytest.mark.parametrize("budget", [0, -1, float("nan")])
def test_a_budget_that_is_none_is_an_error(scripted, budget):
    with pytest.raises(ValueError, match="s is none: give seconds above 0, such as 180"):
        scripted({}, budget=budget)


@pytest.mark.parametrize("budget", [1e9, float("inf")])
def test_a_budget_may_be_any_other_number(scripted, budget):
    scripted({}, budget=budget, **TWO)


@pytest.mark.parametrize("row", [{"cut": True}, {"kind": "device", "lost": "no device"}])
def test_where_nothing_was_verified_nothing_is_written(scripted, tmp_path, row):
    with pytest.raises(ValueError, match="nothing was verified: (120 of 180 s were used up; a|the device does not)"):
        scripted({("verified", "row_kl"): [*checked("row_kl")[:2], row]}, operations=["row_kl"])
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_cannot_be_written_is_said_before_anything_is_measured(scripted, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    for name, why in (("", "what is there is no file"), ("file/plan.json", "the plan was not written: File exists")):
        monkeypatch.setenv("GRAPHKD_PLAN", str(tmp_path / name))
        with pytest.raises(OSError, match=why):
            scripted({("verified", "row_kl"): [AssertionError("measured")]}, **TWO)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_process_that_was_starting_ends_too(monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    class Process:
        exitcode = -9

        def __init__(self, target, args, daemon):
            self.held = os.dup(args[0].fileno())  # its end of the pipe

        def start(self):
            begun.set()
            go_on.wait(10)

        def kill(self):
            held, self.held = self.held, 0  # two threads may kill it
            if held:
                os.close(held)

        def join(self, *seconds):
            pass

    monkeypatch.setattr(workers, "_context", lambda: SimpleNamespace(Process=Process, Pipe=multiprocessing.Pipe))
    with ThreadPoolExecutor(2) as pool:
        rows = pool.submit(list, workers.rows_of(None, (), 1.0, 1.0))
        assert begun.wait(10)
        stopping = pool.submit(workers.stop)
        time.sleep(0.1)
        go_on.set()
        stopping.result(10)
        assert rows.result(10) == [{"died": "its process was ended by SIGKILL"}]


def test_interrupted_it_keeps_and_uses_what_was_measured(scripted):
    with pytest.raises(KeyboardInterrupt):
        scripted({("timed", "unit_rows"): [KeyboardInterrupt()]}, **TWO)
    assert scripted.plan()["left"] == ["not timed: unit_rows (interrupted)"]
    assert machine_plan.in_force("cpu").choices["row_kl"]["float32"] == ((0, "blocked"),)


def test_a_later_run_on_other_operations_keeps_the_earlier_ones(scripted):
    scripted({}, operations=["row_kl"])
    scripted({}, operations=["unit_rows"])
    assert set(scripted.plan()["choices"]) == {"row_kl", "unit_rows"}


def test_rows_are_written_as_they_come(scripted, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        scripted({("timed", "row_kl"): [*raced("row_kl"), KeyboardInterrupt()]}, out=tmp_path / "out", **TWO)
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["device", *["verify"] * 3, "device", *["verify"] * 3, "device", "time"]


def test_an_unknown_operation_and_a_plan_without_a_place_are_errors(scripted, monkeypatch, capsys):
    assert tune.main(["--operations", "row_klo"]) == 2
    assert "unknown operation 'row_klo': choose among edge_sum" in capsys.readouterr().err
    monkeypatch.setenv("GRAPHKD_PLAN", "none")
    assert tune.main([]) == 2
    assert "unset it, or name a file" in capsys.readouterr().err


def test_choices_follow_from_the_times_that_the_plan_has():
    found = Found("cpu")
    for row in (*checked("row_kl"), raced("row_kl")[0] | {"size": 1024, "ms": {"eager": 0.200004}}):
        found.take(row)
    (row,) = found.plan({})["times"]["row_kl"]["float32"]
    assert row == {"size": 1024, **found.points["row_kl"]["float32"][1024]} == {"size": 1024, "eager": 0.2}


def test_types_that_were_not_timed_follow_those_that_were_if_they_are_right():
    found = Found("cpu")
    for dtype in ("float32", "bfloat16", "float16"):
        for row in checked("row_kl", "triton", dtype, verdict=dtype != "float16" or "gradient off by inf"):
            found.take(row)
    for dtype in ("float32", "bfloat16"):
        found.take(raced("row_kl")[0] | {"dtype": dtype, "ms": {"eager": 2.0, "triton": 1.0}})
    (choices,) = found.plan({})["choices"].values()
    assert choices == {"float32": ((0, "triton"),), "float16": ((0, "eager"),), "float64": ((0, "eager"),)}


# tiles

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@needs_triton
def test_a_kernel_takes_the_tile_that_was_the_fastest_here():
    from graphkd_kernels._triton import configs, launch

    card, kind = torch.device("meta"), configs.math(torch.float32)
    with launch.recording(90):
        before, tried = configs.pick("gram", kind, card), launch.Config(32, 128, 64, 4, 3)
        with machine_plan.using("meta", machine_plan.Table("a plan", tiles={f"gram {kind.name}": astuple(tried)})):
            assert configs.pick("gram", kind, card) == tried
            assert configs.pick("terms_product", kind, card) != tried
        assert configs.pick("gram", kind, card) == before


@needs_triton
def test_tiles_that_are_tried_are_at_most_eight_and_compile():
    from graphkd_kernels._triton import launch
    from graphkd_kernels.tuning import tiles

    found = tiles.near(launch.Config(64, 64, 32, 8, 3))
    assert len(set(found)) == len(found) <= 8
    assert tiles.faults("gram", "bf16x6", found[0], 90) == []
    assert any(
        "shared memory" in each for each in tiles.faults("gram", "bf16x6", launch.Config(128, 128, 128, 8, 4), 90)
    )


def test_a_tile_is_kept_where_it_is_clearly_faster():
    found = Found("cpu")
    for kernel, times in (("gram", (1.0, 0.98)), ("knn", (1.0, 0.9))):
        for config, ms in zip(([64, 64, 32, 8, 3, 0], [32, 64, 32, 8, 3, 0]), times, strict=True):
            found.take({"kind": "tiles", "kernel": kernel, "math": "tf32x3", "config": config, "ms": ms})
    found.take({"kind": "tiles", "kernel": "knn", "math": "tf32x3", "config": [1, 1, 1, 1, 1, 0], "why": "it spills"})
    assert found.plan({})["tiles"] == {"knn tf32x3": [32, 64, 32, 8, 3, 0]}


# whole processes

PLANTS = {
    "row_kl": "return 1.5 * right(*arguments)",
    "row_pearson": "raise RuntimeError('no such instruction')",
    "damped_row_pearson": "__import__('time').sleep(1000)",
    "knn": "__import__('os').abort()",
}


def planted(folder):
    """A copy of the package in which three kernels are wrong, each in its own way, and one takes its process along."""
    shutil.copytree(KERNELS, folder / KERNELS.name, ignore=shutil.ignore_patterns("__pycache__"))
    file = {"damped_row_pearson": "row_pearson"}
    for name, body in PLANTS.items():
        path = folder / KERNELS.name / "_triton" / f"{file.get(name, name)}.py"
        plant = f"\n\ndef planted(right):\n    def call(*arguments):\n        {body}\n    return call\n\n"
        path.write_text(path.read_text() + plant + f"{name} = planted({name})\n")
    return os.environ | {"PYTHONPATH": str(folder), "GRAPHKD_PLAN": str(folder / "plan.json"), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_planted_faults_are_found_named_and_left_out(tmp_path):
    environment = planted(tmp_path) | {"TRITON_INTERPRET": "1"}
    names = ",".join([*PLANTS, "damped_column_pearson"])
    command = [sys.executable, "-m", "graphkd_kernels.tune", "--operations", names, "--budget", "1500"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 1, done.stdout + done.stderr
    plan = machine_plan.read(tmp_path / "plan.json")
    triton = {name: by_dtype["float32"].get("triton") for name, by_dtype in plan["verified"].items()}
    assert triton["row_kl"] == "97x65: value off by 5.0e-01 of float64"
    assert triton["row_pearson"] == "97x65: RuntimeError: no such instruction"
    assert triton["damped_row_pearson"].startswith("it hung for")
    assert triton["knn"] == "its process was ended by SIGABRT"
    assert triton["damped_column_pearson"] is True
    for name in PLANTS:
        assert f"FAILED {name}, triton" in done.stdout
        assert plan["verified"][name]["float32"]["blocked"] is True
    assert {"row_kl", "row_pearson", "damped_row_pearson", "damped_column_pearson", "knn"} == set(plan["choices"])
    ask = "import torch; from graphkd_kernels import backend, dispatch\nwith backend('triton'):\n"
    ask += "    dispatch.run('row_kl', torch.ones(4, 4), torch.ones(4, 4), 1.0)"
    refused = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, timeout=300)
    assert (
        "row_kl failed its verification on this machine for torch.float32: 97x65: value off by 5.0e-01"
        in refused.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_measured(tmp_path, number):
    environment = os.environ | {"GRAPHKD_PLAN": str(tmp_path / "plan.json"), "PYTHONPATH": str(KERNELS.parent)}
    command = [sys.executable, "-m", "graphkd_kernels.tune", "--operations", "row_kl,rkd_angle", "--out", str(tmp_path)]
    rows = tmp_path / "rows.jsonl"
    foreground = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=foreground
    ) as process:
        end = time.monotonic() + 300
        while time.monotonic() < end and not (rows.exists() and "rkd_angle" in rows.read_text()):
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: what was measured is kept and used" in said
    plan = machine_plan.read(tmp_path / "plan.json")
    assert plan["verified"]["row_kl"]["float32"]["blocked"] is True
    assert plan["left"][0].startswith("not verified: rkd_angle")


@pytest.mark.slow
def test_ctrl_c_reaches_only_the_asking_process_and_a_kill_ends_all(tmp_path):
    """``hang`` runs in a process of its own, which has the number that it wrote."""
    (tmp_path / "hangs.py").write_text(
        "import os, time\n\n\ndef hang():\n    yield {'process': os.getpid()}\n    time.sleep(1000)\n\n\n"
        "if __name__ == '__main__':\n    import hangs\n    from graphkd_kernels.tuning.workers import rows_of\n"
        "    for row in rows_of(hangs.hang, (), 999.0, 999.0):\n        print(row['process'], flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(KERNELS.parent), str(tmp_path)])}
    command = [sys.executable, str(tmp_path / "hangs.py")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())
        status = Path(f"/proc/{worker}/status").read_text()
        server = Path(f"/proc/{re.search(r'PPid:.([0-9]+)', status)[1]}/status").read_text()
        process.kill()
    for each in (status, server):
        assert int(re.search(r"SigBlk:\s*(\w+)", each)[1], 16) & 1 << signal.SIGINT - 1
    end = time.monotonic() + 10
    while time.monotonic() < end and Path(f"/proc/{worker}").exists():
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_the_process_that_forks_the_others_touches_no_gpu():
    """A process forked from one that has counted its GPUs can use none."""
    from graphkd_kernels.tuning.workers import _PRELOADED

    ask = "import torch\nfor name in ('_cuda_getDeviceCount', '_cuda_init'):\n    setattr(torch._C, name, None)\n"
    ask += "\n".join(f"import {name}" for name in _PRELOADED) + "\nassert not torch.cuda._is_in_bad_fork()"
    done = subprocess.run([sys.executable, "-c", ask], env=os.environ | {"PYTHONPATH": str(KERNELS.parent)})
    assert done.returncode == 0


def test_several_are_verified_at_a_time_where_that_pays_and_one_is_timed(scripted, monkeypatch):
    running, most = {"verified": 0, "timed": 0}, {"verified": 0, "timed": 0}

    def rows_of(what, arguments, silent, seconds):
        name = what.__name__
        running[name] += 1
        most[name] = max(most[name], running[name])
        time.sleep(0.1)
        running[name] -= 1
        yield {"kind": "device"}
        yield from default(what, arguments[0])

    monkeypatch.setattr(run, "rows_of", rows_of)
    made = run._Run(Found("cuda:0"), 180.0, ["row_kl", "unit_rows", "edge_pkt"], lambda line: None)
    made.all()
    assert most == {"verified": 3, "timed": 1}
    assert made.found.left == []
