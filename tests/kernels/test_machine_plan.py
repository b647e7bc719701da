"""The plan of a machine: what is believed, what is ignored and said, what a choice follows from."""

import errno
import logging
import os
import pwd

import pytest
import torch
from graphkd_kernels import dispatch, explain, machine_plan
from graphkd_kernels.errors import BackendUnavailableError

from graphkd.cli.commands.doctor import _plans

F32 = torch.float32


def plan(**changes):
    """A plan of this machine, in which edge_pkt and row_kl go another way than in the shipped table."""
    steps = {"edge_pkt.inner": {"float32": [[0, "blocked"]]}, "row_kl": {"float32": [[0, "eager"], [90, "blocked"]]}}
    verified = {"rkd_distance": {"float32": {"eager": True, "blocked": "value off by 0.1"}}}
    data = {"format": 1, "machine": machine_plan.machine("cpu"), "choices": steps, "verified": verified}
    return data | changes


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user's cache folder; what is in force is forgotten before and after."""
    monkeypatch.delenv("GRAPHKD_PLAN")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine_plan.put("cpu", None)
    yield machine_plan.place("cpu")
    machine_plan.put("cpu", None)


def picked(n):
    return explain("edge_pkt", [(n, 8), None, (n, 8), None]).plan.backend


def test_without_a_plan_the_shipped_table_rules(user, caplog):
    assert picked(16) == "eager"
    assert machine_plan.in_force("cpu").source == "the shipped table"
    assert not caplog.records


def test_auto_reads_the_plan_of_this_machine(user):
    machine_plan.write(user, plan())
    assert picked(16) == "blocked"
    assert "by the plan of this machine" in str(explain("edge_pkt", [(64, 8), None, (64, 8), None]))
    assert "by the shipped table" in str(explain("rkd_distance", [(64, 8), (64, 8)]))


def test_a_cpu_with_the_number_of_a_process_is_the_cpu(user):
    machine_plan.write(user, plan())
    assert machine_plan.in_force("cpu:1") is machine_plan.in_force("cpu")
    with machine_plan.using("cpu:1", machine_plan.shipped()):
        assert picked(16) == "eager"
    assert picked(16) == "blocked"


def test_a_plan_of_another_number_of_threads_says_so(user):
    here = torch.get_num_threads()
    for threads, said in ((here, False), (here + 1, True)):
        machine_plan.write(user, plan(threads=threads))
        machine_plan.put("cpu", None)
        clause = f"measured with {threads} threads, and here are {here}"
        assert (clause in str(explain("edge_pkt", [(64, 8), None, (64, 8), None]))) is said
        assert any(clause in each.text for each in _plans()) is said


def test_the_plan_is_read_once(user, monkeypatch):
    machine_plan.write(user, plan())
    assert picked(16) == "blocked"
    monkeypatch.setattr(machine_plan, "load", None)
    assert picked(17) == "blocked"


def test_a_plan_in_force_is_used_where_choices_were_remembered(user):
    x = torch.randn(8, 12, requires_grad=True)
    before = dispatch.run("row_kl", x, x.detach(), 1.0).grad_fn
    own = machine_plan.Table.of(plan(), "a plan")
    with machine_plan.using("cpu", own):
        inside = dispatch.run("row_kl", x, x.detach(), 1.0).grad_fn
    after = dispatch.run("row_kl", x, x.detach(), 1.0).grad_fn
    assert [type(each).__name__ for each in (before, inside, after)] == [
        "SumBackward1",
        "_ValueBackward",
        "SumBackward1",
    ]


@pytest.mark.parametrize("name", ["device", "torch", "kernels"])
def test_a_plan_of_another_machine_is_ignored_and_said_once(user, caplog, name):
    machine_plan.write(user, plan(machine=machine_plan.machine("cpu") | {name: "other"}))
    assert picked(16) == picked(17) == "eager"
    assert len(caplog.records) == 1
    assert f"is not used: {name} 'other', here" in caplog.text
    assert "graphkd tune makes a new one" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 2}',
        "[" * 100_000,
        '{"format": 1, "machine": {}, "choices": {"a": {}}, "verified": {}}',
        '{"format": 1, "machine": {}, "choices": {"a": {"float32": [[0, "eager"], [1e999, "eager"]]}}, "verified": {}}',
        '{"format": 1, "machine": {}, "choices": {}, "verified": {}, "tiles": {"gram bf16x3": [1e999]}}',
        '{"format": 1, "machine": {}, "choices": {}, "verified": {}, "tiles": {"gram bf16x3": [64, 64]}}',
        '{"format": 1, "machine": {}, "choices": {}, "verified": {}, "times": []}',
    ],
    ids=range(10),
)
def test_a_damaged_plan_is_ignored_and_said_once(user, caplog, text):
    user.parent.mkdir()
    user.write_text(text)
    assert picked(16) == picked(17) == "eager"
    assert len(caplog.records) == 1
    assert "it is damaged" in caplog.text


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkdir, "it is no file"),
        (os.mkfifo, "it is no file"),
        (lambda path: os.symlink(path, path), "Too many levels of symbolic links"),
    ],
    ids=["folder", "pipe", "loop"],
)
def test_what_is_no_file_is_ignored_and_said_once(user, caplog, make, why):
    user.parent.mkdir()
    make(user)
    assert picked(16) == picked(17) == "eager"
    assert len(caplog.records) == 1
    assert why in caplog.text
    assert why in machine_plan.in_force("cpu").source


@pytest.mark.parametrize("named", ["nowhere.json", "~nobody-of-that-name/plan.json", "x" * 5000])
def test_a_file_that_is_named_and_not_there_is_said_once(user, monkeypatch, caplog, named):
    monkeypatch.setenv("GRAPHKD_PLAN", named)
    assert picked(16) == picked(17) == "eager"
    assert len(caplog.records) == 1
    assert "is not used: " in caplog.text


def test_a_user_without_a_home_has_no_plan(user, monkeypatch, caplog):
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert picked(16) == "eager"
    assert not caplog.records
    with pytest.raises(FileNotFoundError, match="the plan has no place: set HOME, XDG_CACHE_HOME or GRAPHKD_PLAN"):
        machine_plan.place("cpu")


@pytest.mark.parametrize(
    "steps", [[], [[5, "eager"]], [[0, "eager"], [0, "blocked"]], [[0, "cuda"]], "eager", [[0]], [[0, []]]]
)
def test_steps_that_are_none_are_damage(user, steps):
    machine_plan.write(user, plan(choices={"row_kl": {"float32": steps}}))
    with pytest.raises(ValueError, match="damaged"):
        machine_plan.read(user)


def test_the_variable_names_a_file_or_none(user, monkeypatch, tmp_path):
    machine_plan.write(tmp_path / "mine.json", plan())
    monkeypatch.setenv("GRAPHKD_PLAN", str(tmp_path / "mine.json"))
    assert picked(16) == "blocked"
    machine_plan.put("cpu", None)
    monkeypatch.setenv("GRAPHKD_PLAN", "none")
    assert picked(16) == "eager"


def test_no_space_leaves_the_older_plan(user, monkeypatch):
    machine_plan.write(user, plan())
    before = user.read_text()

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the plan was not written: No space left on device"):
        machine_plan.write(user, plan(choices={}))
    assert user.read_text() == before
    assert [each.name for each in user.parent.iterdir()] == [user.name]


def test_what_failed_is_refused_by_name_and_says_what_failed(user):
    machine_plan.write(user, plan())
    x = torch.randn(6, 3)
    with (
        dispatch.backend("blocked"),
        pytest.raises(
            BackendUnavailableError,
            match=r"'blocked' cannot run: rkd_distance failed its verification on this machine for torch.float32: value "
            r"off by 0.1. Let 'auto' choose",
        ),
    ):
        dispatch.run("rkd_distance", x, x)
    with dispatch.backend("blocked"):
        dispatch.run("rkd_distance", x.double(), x.double())
    with dispatch.backend("eager"):
        dispatch.run("rkd_distance", x, x)


def test_what_failed_is_not_chosen_by_a_table_that_was_made_elsewhere(user):
    machine_plan.write(user, plan())  # it has a verdict on rkd_distance, and no times
    shapes = [(512, 8), (512, 8)]
    assert machine_plan.shipped().choices["rkd_distance"]["float32"][-1][1] == "blocked"
    assert explain("rkd_distance", shapes).plan.backend == "eager"
    assert explain("rkd_distance", shapes, dtype=torch.float64).plan.backend == "blocked"


def test_a_graphics_card_without_a_plan_runs_no_kernel_and_says_so_once(user, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(dispatch, "_backends_of", lambda *_: frozenset({"eager", "blocked", "triton"}))
    machine_plan.machine.cache_clear()
    found = [explain("edge_pkt", [(n, 8), None] * 2, device="cuda:0").plan for n in (2048, 2049)]
    machine_plan.put("cuda:0", None)
    machine_plan.machine.cache_clear()
    assert [each.backend for each in found] == ["eager", "blocked"]
    assert len(caplog.records) == 1
    assert "no plan of A card is here" in caplog.text
    assert "graphkd tune compares every kernel with float64" in caplog.text


def test_what_would_run_on_a_card_can_be_asked_where_there_is_none(user, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = [explain("edge_pkt", [(n, 8), None] * 2, device="cuda").plan.backend for n in (2048, 2049)]
    assert found == ["eager", "blocked"]
    assert not caplog.records
    assert "torch finds no CUDA device here" in str(explain("edge_pkt", [(8, 8), None] * 2, device="cuda"))


def test_a_plan_is_asked_by_a_compiler_and_sizes_stay_symbols(user, caplog):
    machine_plan.write(user, plan())
    torch.compiler.reset()
    caplog.set_level(logging.DEBUG, "graphkd_kernels")
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    call = torch.compile(lambda s, t: dispatch.run("row_kl", s, t, 1.0), fullgraph=True, backend=backend, dynamic=True)
    for n in (12, 13, 14, 3, 4):
        s, t = torch.randn(n, 10), torch.randn(n, 10)
        torch.testing.assert_close(call(s, t), dispatch.run("row_kl", s, t, 1.0))
    assert len(graphs) == 2, "one for each backend, not one for each size"


def test_digests_name_choices_and_not_times(user):
    tables = [machine_plan.Table.of(data, "") for data in (plan(), plan(times={"a": 1}), plan(choices={}))]
    assert tables[0].digest == tables[1].digest != tables[2].digest
    assert machine_plan.Table.of(tables[0].to_json(), "").digest == tables[0].digest
