"""A run folder under attack: two processes at once, checkpoints that were edited, links, bad lines."""

import logging
import os
import random
import shutil
import signal
import time
from collections import Counter
from functools import partial

import pytest

from graphkd.errors import CheckpointError, LockedError
from graphkd.files import one_writer
from graphkd.training.checkpoint import Checkpoints, student_weights
from tests.faults import jobs
from tests.faults.edits import KINDS, edited, forget
from tests.faults.launch import finished, rounds, said
from tests.training import tiny
from tests.training.tiny import lines

OPTIONS = tiny.HARD | {"workers": 0, "log_every": 5}  # the newest checkpoint falls into an open window of it


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that was stopped inside an epoch, and the state with which an unbroken one ends."""
    place = tmp_path_factory.mktemp("run")
    tiny.trainer(place / "whole", **OPTIONS).fit()
    made = tiny.at_batch(tiny.trainer(place / "broken", **OPTIONS), 8, tiny.interrupt)
    with pytest.raises(KeyboardInterrupt):
        made.fit()
    assert Checkpoints(place / "broken" / "checkpoints").updates() == [3, 4]
    return place, tiny.end_of(place / "whole")


@pytest.fixture
def broken(interrupted, tmp_path):
    """A copy of the interrupted run."""
    return shutil.copytree(interrupted[0] / "broken", tmp_path / "broken")


# one writer


def start(context, folder, seconds, delay):
    """A job that waits a while at its fourth batch, begun after a delay."""
    time.sleep(delay)
    given = {"at": 4, "act": time.sleep, "number": seconds, "epochs": 1}
    process = context.Process(target=jobs.train_job, args=(str(folder),), kwargs=given)
    process.start()
    return process


@rounds(3, 60)
def test_two_processes_never_share_a_run_folder(rounds, fault_seed, context, tmp_path, record_figure):
    """Two jobs on one folder, every third time with a SIGKILL of the one that trains; then one that finishes."""
    whole = finished(context, tmp_path / "whole", epochs=1)
    expected, ends, told = lines(tmp_path / "whole" / "run"), Counter(), 0
    for number in range(rounds):
        draw, folder = random.Random(f"{fault_seed}-{number}"), tmp_path / f"{number}"
        delays = (0.0, draw.uniform(0, 0.15))
        both = [start(context, folder, 0.4, delay) for delay in delays]
        if number % 3 == 2:
            time.sleep(draw.uniform(0.1, 0.5))
            both[0].kill()
        for each in both:
            each.join(60)
        codes = sorted(each.exitcode for each in both)
        if 1 in codes:
            other = next(each.pid for each in both if each.exitcode != 1)
            assert f"LockedError: {folder / 'run'} is being written by process {other} on " in said(folder), said(
                folder
            )
            told += 1
        assert codes in ([0, 1], [0, 0], [-signal.SIGKILL, 0], [-signal.SIGKILL, 1]), said(folder)
        tiny.same(finished(context, folder, epochs=1), whole)
        assert lines(folder / "run") == expected, f"seed {fault_seed}, round {number}"
        assert not list((folder / "run").rglob(".*")), "a lock or a temporary file is left"
        ends[" and ".join(map(str, codes))] += 1
        shutil.rmtree(folder)
    record_figure("rounds of two processes on one run folder", rounds)
    record_figure("exit codes", dict(ends))
    record_figure("second writers that were told who holds it", told)
    record_figure("lines of metrics lost or doubled", 0)


def test_a_trainer_in_another_thread_is_refused(tmp_path):
    first, said = tiny.trainer(tmp_path / "one"), []
    plain = first.features

    def features(batch):
        if not said:
            with pytest.raises(
                LockedError, match="both would draw from torch's global generator: let it end"
            ) as caught:
                second.fit()
            said.append(caught.value)
        return plain(batch)

    second = tiny.trainer(tmp_path / "two")
    first.features = features
    first.fit()
    assert said
    assert second.fit().updates == 10  # the first one is done


# a refused resume


def tree(folder):
    """Every file below a folder, with its bytes and time."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def test_a_refused_resume_changes_no_file(tmp_path):
    tiny.trainer(tmp_path, epochs=1).fit()
    before = tree(tmp_path)
    for changes, message in {
        ("lr", 0.5): r"was started with other options: lr was 0.01, now 0.5",
        ("epochs", 2): "epochs was 1, now 2",
        ("batch_size", 4): "batch_size was 8, now 4",
        ("width", 6): r"belongs to another model: .*of another shape.*\(8, 4\)|\(4, 8\) instead of \(4, 6\)",
    }.items():
        with pytest.raises(CheckpointError, match=message):
            tiny.trainer(tmp_path, **({"epochs": 1} | dict([changes]))).fit(resume=True)
    with pytest.raises(CheckpointError, match="holds a run already: resume it"):
        tiny.trainer(tmp_path, epochs=1).fit()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl", "scores.json"])
def test_links_in_a_run_folder_are_not_followed(tmp_path, name):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.write_text("mine")
    run.mkdir()
    for waiting in (name, f".{name}.tmp"):
        (run / waiting).symlink_to(outside)
    tiny.trainer(run, epochs=1, scored=True).fit()
    assert outside.read_text() == "mine"
    assert (run / name).is_file()
    assert not (run / name).is_symlink()


def test_links_among_the_checkpoints_are_not_followed(tmp_path):
    outside, checkpoints = tmp_path / "outside", tmp_path / "run" / "checkpoints"
    outside.mkdir()
    (outside / "file").write_text("mine")
    checkpoints.mkdir(parents=True)
    for waiting in (".update-00000005.tmp", ".update-00000005.old.tmp", ".newest.json.tmp"):
        (checkpoints / waiting).symlink_to(outside)
    (checkpoints / "newest.json").symlink_to(outside / "file")
    tiny.trainer(tmp_path / "run", epochs=1).fit()
    assert os.listdir(outside) == ["file"]
    assert (outside / "file").read_text() == "mine"
    assert Checkpoints(checkpoints).updates() == [5]


@pytest.mark.parametrize("name", ["checkpoints", "watched", "tensorboard", "best"])
def test_a_folder_of_a_run_that_is_a_link_is_refused(tmp_path, name):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    run.mkdir()
    (outside / ".mine.0123456789ab.tmp").write_text("mine")
    (run / name).symlink_to(outside)
    with pytest.raises(CheckpointError, match=f"{name} is a link, and a run writes in its own folder only: remove"):
        tiny.trainer(run, epochs=1).fit()
    assert os.listdir(outside) == [".mine.0123456789ab.tmp"]
    assert os.listdir(run) == [name]


# what is read


FILES = (
    "config.json", "metrics.jsonl", "scores.json", "checkpoints/newest.json", "checkpoints/update-00000004/manifest.json",
    "checkpoints/update-00000004/state.json", "checkpoints/update-00000004/tensors.safetensors",
)  # fmt: skip


def gone_on_with(folder):
    """Whether a run goes on, or is refused with one clear error; no other end, and no waiting."""

    def late(number, frame):
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    try:
        tiny.trainer(folder, **OPTIONS).fit(resume=True)
    except CheckpointError:
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return True


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_a_run_folder_is_not_waited_for(broken, interrupted, name):
    (broken / name).unlink(missing_ok=True)
    os.mkfifo(broken / name)
    if gone_on_with(broken):
        tiny.same(tiny.end_of(broken), interrupted[1])
    else:
        assert "/" not in name  # files beside the checkpoints are to be replaced, which a pipe is not


@pytest.mark.parametrize("name", [*FILES[:2], *FILES[3:6]])
@pytest.mark.parametrize("text", ["[" * 200_000, '{"update": 1e999}', '{"update": [], "format": {}}', None])
def test_files_of_any_size_and_depth_are_not_read(broken, interrupted, name, text):
    if text is None:
        os.truncate(broken / name, 1 << 40)  # a terabyte without a block on the disk
    else:
        (broken / name).write_text(text + "\n")
    if gone_on_with(broken):
        tiny.same(tiny.end_of(broken), interrupted[1])
    else:
        assert (name, text) == ("metrics.jsonl", None)


# checkpoints


@rounds(len(KINDS), 10 * len(KINDS))
def test_edited_checkpoints_are_noticed(rounds, fault_seed, interrupted, tmp_path, caplog, record_figure):
    home, expected = interrupted
    ends = Counter()
    for number in range(rounds):
        draw, folder = random.Random(f"{fault_seed}-{number}"), tmp_path / f"{number}"
        shutil.copytree(home / "broken", folder)
        kept = Checkpoints(folder / "checkpoints")
        kind = KINDS[number % len(KINDS)]
        done = edited(kept.path(kept.updates()[-1]), partial(kind, draw))
        context = f"seed {fault_seed}, round {number}, {kind.__name__}: {done}"
        caplog.clear()
        try:
            tiny.trainer(folder, **OPTIONS).fit(resume=True)
        except CheckpointError:
            ends["CheckpointError"] += 1
        except BaseException as error:
            raise AssertionError(f"{context}: a bare {error!r}") from error
        else:
            if "by its checkpoint no gradient had reached " in caplog.text:
                ends["believed, and named in the log"] += 1
                shutil.rmtree(folder)
                continue
            aloud = "going back to the checkpoint before it" in caplog.text or "is left aside" in caplog.text
            ends["the one before used, aloud" if aloud else "accepted, the same end"] += 1
            if not aloud:
                print(context)
            try:
                tiny.same(tiny.end_of(folder), expected)
            except AssertionError as error:
                raise AssertionError(f"{context}: another end state, at {error}") from error
        shutil.rmtree(folder)
    record_figure("edits of a checkpoint with recomputed digests", f"{rounds}, {len(KINDS)} kinds")
    record_figure("ends", dict(ends))
    record_figure("silent, into another end state", 0)
    record_figure("bare tracebacks", 0)


def test_a_missing_moment_is_named_and_the_checkpoint_before_is_used(broken, interrupted, caplog):
    def change(state, tensors, manifest):
        del state["optimizer"]["state"]["3"]["exp_avg"], tensors["optimizer/state/3/exp_avg"]

    edited(broken / "checkpoints" / "update-00000004", change)
    tiny.trainer(broken, **OPTIONS).fit(resume=True)
    assert (
        "update-00000004 does not hold what this run needs: its optimizer belongs to another model: 1 missing (state/3/exp_avg)"
        in caplog.text
    )
    assert "going back to the checkpoint before it" in caplog.text
    tiny.same(tiny.end_of(broken), interrupted[1])


def test_a_parameter_said_to_have_had_no_gradient_is_named_when_one_reaches_it(broken, caplog):
    def change(state, tensors, manifest):
        del state["optimizer"]["state"]["3"]
        forget(tensors, "optimizer/state/3")
        state["optimizer"]["untouched"] = [3]

    edited(broken / "checkpoints" / "update-00000004", change)
    made = tiny.trainer(broken, **OPTIONS)
    made.fit(resume=True)
    parameter = [p for group in made.updater.optimizer.param_groups for p in group["params"]][3]
    name = next(name for name, p in made.step.named_parameters() if p is parameter)
    assert f"by its checkpoint no gradient had reached {name}, and now one does" in caplog.text


def test_a_copy_under_a_later_name_is_not_the_newest(broken, interrupted, caplog):
    folder = broken / "checkpoints"
    shutil.copytree(folder / "update-00000003", folder / "update-00000099")
    tiny.trainer(broken, **OPTIONS).fit(resume=True)
    assert "update-00000099 holds update 3: a copy under another name is left aside" in caplog.text
    assert "resuming" in caplog.text
    assert "after update 4 of" in caplog.text
    tiny.same(tiny.end_of(broken), interrupted[1])


def test_an_earlier_format_is_not_gone_on_with_and_its_student_is_read(broken):
    for update in (3, 4):
        edited(broken / "checkpoints" / f"update-{update:08d}", lambda state, tensors, manifest: manifest.pop("format"))
    with pytest.raises(CheckpointError, match=r"was written by an earlier graphkd, .*\(format 1, this is 3\)"):
        tiny.trainer(broken, **OPTIONS).fit(resume=True)
    assert student_weights(broken).keys() == tiny.Student().state_dict().keys()


def test_a_missing_key_is_no_bare_error_for_who_wants_the_student_either(broken):
    def change(state, tensors, manifest):
        del state["ema"]
        forget(tensors, "ema")

    for update in (3, 4):
        edited(broken / "checkpoints" / f"update-{update:08d}", change)
    with pytest.raises(CheckpointError, match=r"the checkpoint of update 4 holds no student: KeyError\('ema'\)"):
        student_weights(broken)


def test_a_bad_line_of_metrics_costs_that_line(broken, interrupted, caplog):
    path = broken / "metrics.jsonl"
    good = path.read_bytes().split(b"\n")
    bad = [b'{"update": 2, "loss": \xff', b"[1]", b'{"loss": 1}', b'{"update": 2}', b'{"update": 2, "epoch": "one"}']
    bad += [b'{"update": 1e999, "epoch": 1}', b'{"update": 2, "epoch": 1, "loss": ' + b"[" * 100_000]
    path.write_bytes(b"\n".join([good[0], *bad, *good[1:]]))
    with caplog.at_level(logging.WARNING, "graphkd"):
        tiny.trainer(broken, **OPTIONS).fit(resume=True)
    told = [f"line {number} of {path} is damaged" in caplog.text for number in range(1, len(bad) + 3)]
    assert told == [False, *[True] * len(bad), False]
    assert lines(broken) == lines(interrupted[0] / "whole")


def test_what_a_kill_left_half_written_is_removed_on_resuming(broken):
    left = [".config.json.0123456789ab.tmp", ".metrics.jsonl.0123456789ab.tmp"]
    for name in left:
        (broken / name).touch()
    (broken / ".mine.0123456789ab.tmp").touch()
    tiny.trainer(broken, **OPTIONS).fit(resume=True)
    assert [path.name for path in broken.glob(".*")] == [".mine.0123456789ab.tmp"]


def test_a_process_that_only_reads_needs_no_lock(broken):
    with one_writer(broken):
        assert student_weights(broken)
        assert lines(broken)
