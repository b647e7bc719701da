import logging

import pytest
import torch
from torch import nn

from graphkd.errors import CheckpointError, FileError
from graphkd.training.checkpoint import Checkpoints, check_weights, student_weights
from tests.faults.damage import cut, flip

STATE = {
    "step": {"student.w": torch.arange(6.0).view(2, 3), "project.b": torch.ones(2, dtype=torch.bfloat16)},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "ema": None,
    "progress": {"seconds": 0.1 + 0.2},
}


def folder(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def test_a_state_comes_back_bit_for_bit(tmp_path):
    path = folder(tmp_path).save(7, STATE)
    assert sorted(p.name for p in path.iterdir()) == ["manifest.json", "state.json", "tensors.safetensors"]
    update, state = folder(tmp_path).newest()
    assert update == 7
    assert torch.equal(state["step"]["student.w"], STATE["step"]["student.w"])
    assert state["step"]["project.b"].dtype == torch.bfloat16
    assert state["optimizer"]["state"]["0"]["step"] == 3
    assert state["progress"] == STATE["progress"]
    assert state["ema"] is None


def test_tied_weights_and_transposed_ones_are_saved(tmp_path):
    w = torch.rand(2, 3)
    folder(tmp_path).save(1, {"a": w, "b": w, "c": w.T})
    state = folder(tmp_path).load(1)
    assert torch.equal(state["a"], w)
    assert torch.equal(state["b"], w)
    assert torch.equal(state["c"], w.T)


def test_the_last_two_stay(tmp_path):
    kept = folder(tmp_path)
    for update in range(1, 7):
        kept.save(update, STATE)
    assert kept.updates() == [5, 6]


def test_what_a_kill_left_half_written_is_ignored_and_removed(tmp_path):
    kept = folder(tmp_path)
    kept.save(1, STATE)
    (kept.folder / ".update-00000002.0123456789ab.tmp").mkdir()
    (kept.folder / ".newest.json.0123456789ab.tmp").touch()
    (kept.folder / ".mine.0123456789ab.tmp").touch()
    assert kept.newest()[0] == 1
    kept.save(3, STATE)
    left = [".mine.0123456789ab.tmp", "newest.json", "update-00000001", "update-00000003"]
    assert sorted(p.name for p in kept.folder.iterdir()) == left


DAMAGE = {
    "flipped": flip,
    "cut": cut,
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json", "manifest.json"])
def test_damage_is_noticed_said_and_the_one_before_is_used(tmp_path, caplog, how, file):
    kept = folder(tmp_path)
    kept.save(1, STATE)
    DAMAGE[how](kept.save(2, STATE) / file)
    with caplog.at_level(logging.WARNING, "graphkd"):
        assert kept.newest()[0] == 1
    assert "update-00000002" in caplog.text
    assert "going back to the checkpoint before it" in caplog.text
    kept.save(2, STATE)  # the run comes by here again
    assert kept.newest()[0] == 2


def test_a_full_disk_leaves_the_checkpoints_before_and_nothing_half_written(tmp_path, monkeypatch):
    kept = folder(tmp_path)

    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(FileError, match="There is no checkpoint before it"):
        patch.setattr("safetensors.torch.save_file", full)
        kept.save(1, STATE)
    kept.save(1, STATE)
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(FileError, match=r"cannot write .*update-00000002: No space left on device\. .*1 is intact"):
        kept.save(2, STATE)
    assert kept.newest()[0] == 1
    assert sorted(p.name for p in kept.folder.iterdir()) == ["newest.json", "update-00000001"]


def test_a_kill_while_an_old_one_is_removed_leaves_no_half_one(tmp_path, monkeypatch):
    kept = folder(tmp_path)
    for update in (1, 2):
        kept.save(update, STATE)
    monkeypatch.setattr("shutil.rmtree", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        kept.save(3, STATE)
    monkeypatch.undo()
    assert kept.updates() == [2, 3]
    for update in kept.updates():
        kept.load(update)
    kept.save(4, STATE)
    assert not list(kept.folder.glob(".*"))


def test_a_link_under_a_checkpoints_name_is_replaced_and_not_followed(tmp_path):
    kept = folder(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    kept.folder.mkdir()
    kept.path(5).symlink_to(tmp_path / "outside")
    kept.save(5, STATE)
    assert not kept.path(5).is_symlink()
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["file"]


def test_foreign_names_are_no_checkpoints(tmp_path):
    (folder(tmp_path).folder / "update-00000001 (copy)").mkdir(parents=True)
    assert folder(tmp_path).newest() is None


def test_every_checkpoint_damaged_is_an_error(tmp_path):
    flip(folder(tmp_path).save(1, STATE) / "state.json")
    message = r"no checkpoint in .* can be used, the newest because .*is damaged: .*\. Put a good copy back, or choose"
    with pytest.raises(CheckpointError, match=message):
        folder(tmp_path).newest()


def test_weights_of_another_model_are_named():
    expected, found = nn.Linear(2, 3).state_dict(), {"weight": torch.zeros(3, 4), "scale": torch.zeros(1)}
    shape = r"1 of another shape \(weight \(3, 4\) instead of \(3, 2\)\)"
    message = rf"1 missing \(bias\); 1 unexpected \(scale\); {shape}\. Build"
    with pytest.raises(CheckpointError, match=message):
        check_weights(expected, found, "run/update-1")


def test_student_weights_prefers_the_average(tmp_path):
    kept = folder(tmp_path)
    kept.save(1, STATE)
    assert list(student_weights(tmp_path)) == ["w"]
    kept.save(2, STATE | {"ema": {"w": torch.zeros(1)}})
    assert student_weights(tmp_path)["w"].shape == (1,)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        student_weights(tmp_path / "nowhere")
