"""What training does when something breaks: it says what, keeps what there is, and goes on to the same end."""

import os
import shutil
import signal

import pytest
from torch.testing import assert_close

from graphkd.data.folders import open_folder
from graphkd.data.sources import readable
from graphkd.data.store.embed import embed
from graphkd.data.transforms import ResizeView
from graphkd.data.views import Views
from graphkd.errors import CheckpointError, DataError, FileError
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.failures import Interrupted, Signals
from graphkd.training.loop import Trainer
from tests.faults import jobs
from tests.faults.damage import cut, flip
from tests.faults.launch import finished, run, said
from tests.training import tiny
from tests.training.tiny import lines

pytestmark = pytest.mark.usefixtures("both_forms")
SEVERAL = {"accumulate": 1, "epochs": 2}


# signals

SIGNALLED = tiny.HARD | {"workers": 0, "checkpoint_every": 0}


@pytest.fixture(scope="module")
def unsignalled(tmp_path_factory):
    """The state with which a run ends that no signal reaches."""
    run = tmp_path_factory.mktemp("whole")
    tiny.trainer(run, **SIGNALLED).fit()
    return tiny.end_of(run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("batch", [1, 4, 5, 7])  # first, inside an update, at an update's end, in the second epoch
def test_a_signal_ends_the_run_after_a_checkpoint_and_changes_nothing(unsignalled, tmp_path, batch, number, caplog):
    made = tiny.at_batch(tiny.trainer(tmp_path, **SIGNALLED), batch, lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stop:
        made.fit()
    assert stop.value.code == 128 + number
    assert stop.value.checkpoint.is_dir()
    assert signal.getsignal(number) == before
    assert "stopped by a signal after update" in caplog.text
    tiny.trainer(tmp_path, **SIGNALLED).fit(resume=True)
    tiny.same(tiny.end_of(tmp_path), unsignalled)


def test_a_signal_while_scoring_is_answered_there(unsignalled, tmp_path):
    made = tiny.trainer(tmp_path, **SIGNALLED)
    made.model.register_forward_hook(lambda module, *_: module.training or os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        made.fit()
    assert made.scores is None
    tiny.trainer(tmp_path, **SIGNALLED).fit(resume=True)
    tiny.same(tiny.end_of(tmp_path), unsignalled)


@pytest.fixture
def interruptible():
    """SIGINT as in a foreground job: a shell starts those in the background with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_signal_is_obeyed_at_once(interruptible):
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.asked == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


# checkpoints


@pytest.mark.parametrize(
    ("damage", "file", "told"),
    [
        (cut, "tensors.safetensors", "going back to the checkpoint before it"),
        (flip, "tensors.safetensors", "is damaged: its SHA-256 is not the one"),
        (os.unlink, "tensors.safetensors", "going back to the checkpoint before it"),
        (shutil.rmtree, "", "update-00000010 was written last and is missing; going back to the checkpoint before it"),
    ],
)
def test_a_damaged_newest_checkpoint_costs_the_updates_since_the_one_before(tmp_path, damage, file, told, caplog):
    options = {"epochs": 2, "checkpoint_every": 2}
    tiny.trainer(tmp_path / "whole", **options).fit()
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    damage(tmp_path / "run" / "checkpoints" / "update-00000010" / file)
    tiny.trainer(tmp_path / "run", **options).fit(resume=True)
    assert told in caplog.text
    tiny.same(*(tiny.end_of(tmp_path / name) for name in ("run", "whole")))
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_all_checkpoints_missing_is_an_error_and_no_new_start(tmp_path):
    tiny.trainer(tmp_path, epochs=1).fit()
    kept = Checkpoints(tmp_path / "checkpoints")
    for update in kept.updates():
        shutil.rmtree(kept.path(update))
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is gone: put one back"):
        tiny.trainer(tmp_path, epochs=1).fit(resume=True)


def test_no_space_for_a_line_of_metrics(tmp_path, monkeypatch):
    made = tiny.trainer(tmp_path, epochs=1)
    monkeypatch.setattr(made.run, "metrics", tmp_path)  # a folder cannot be appended to
    with pytest.raises(FileError, match=r"cannot write .*: Is a directory\. The checkpoints are intact"):
        made.run.add({"update": 1})


# images


@pytest.fixture
def photos(tmp_path):
    """Twelve images of which one is cut short."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        jobs.source().image(number).save(folder / f"{number:02d}.png")
    cut(folder / "07.png")
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_stops_the_run_by_name(tmp_path, photos, workers):
    made = jobs.trainer(tmp_path, jobs.alone, epochs=1, workers=workers)
    views = Views(open_folder(photos, layout="flat"), student=ResizeView(8))
    made = Trainer(made.step, views, made.features, tiny.config(batch_size=4, workers=workers), tmp_path / "run")
    with pytest.raises(DataError, match=r"^cannot read image .*07\.png \(.*skipped") as caught:
        made.fit()
    assert "Traceback" not in str(caught.value)


def test_a_corrupt_image_stops_embedding_by_name_and_nothing_is_lost(tmp_path, photos):
    source = open_folder(photos, layout="flat")
    how = {"transform": ResizeView(8), "batch_size": 2, "shard_size": 2, "progress": False}
    with pytest.raises(DataError, match=r"07\.png"):
        embed(jobs.ColourTeacher(), source, tmp_path / "store", **how)
    finished = list((tmp_path / "store").glob("shard-*.json"))
    assert len(finished) == 3  # of six: those before the image's
    jobs.source().image(7).save(photos / "07.png")
    again = jobs.ColourTeacher()
    kept = embed(again, open_folder(photos, layout="flat"), tmp_path / "other", **how)
    assert len(kept) == 12


def test_corrupt_images_are_skipped_counted_and_bounded(photos):
    source, skipped = readable(open_folder(photos, layout="flat"), on_error="skip", max_share=0.1)
    assert (len(source), skipped) == (11, ["07.png"])
    with pytest.raises(DataError, match=r"1 of 12 images cannot be read, at most a share of 0\.05.*07\.png"):
        readable(open_folder(photos, layout="flat"), on_error="skip", max_share=0.05)


def test_a_dead_loader_worker_ends_the_run_with_a_message(context, tmp_path):
    whole = finished(context, tmp_path / "whole", workers=2)
    codes, seconds = run(context, tmp_path / "run", at=5, act=jobs.hurt_a_worker, number=signal.SIGKILL, workers=2)
    assert codes == [1]
    assert "graphkd.errors.DataError: a process that loads images died (" in said(tmp_path / "run")
    assert "the newest checkpoint is" in said(tmp_path / "run")
    assert seconds < 30
    tiny.same(finished(context, tmp_path / "run", workers=2), whole)


# several processes


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True], ids=["DDP", "FSDP2"])
def test_a_lost_process_ends_the_others_with_a_message_and_the_run_goes_on_from_there(
    context, tmp_path, record_figure, shard
):
    how = {"world": 3, "shard": shard, **SEVERAL}
    whole = finished(context, tmp_path / "whole", **how)
    codes, seconds = run(context, tmp_path / "run", victim=1, at=7, act=jobs.hurt_itself, number=signal.SIGKILL, **how)
    assert codes == [1, -signal.SIGKILL, 1], said(tmp_path / "run")
    assert said(tmp_path / "run").count("DistributedError: another of the 3 processes is gone or silent") == 2
    record_figure("seconds until the others of a killed process ended", round(seconds, 1))
    again = finished(context, tmp_path / "run", **how)
    if shard:
        tiny.same(again, whole)
        return
    tiny.same(again["state"]["random"], whole["state"]["random"])  # each process's own dropout
    for name in ("student.body.0.weight", "student.head.weight"):
        # not bit for bit: DDP forms its buckets anew, and a sum over three processes depends on its order
        assert_close(again["state"]["step"][name], whole["state"]["step"][name], rtol=1e-4, atol=1e-5)
