"""A student's first weights, and what is said of those that do not fit."""

import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from graphkd import create_student
from graphkd.errors import CheckpointError
from graphkd.weights import load_weights, read_weights


@pytest.fixture
def model():
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=3)


def equal(student, model, without=()):
    own = student.model.state_dict()
    return all(torch.equal(own[name], value) for name, value in model.state_dict().items() if name not in without)


@pytest.mark.parametrize("wrap", [dict, lambda state: {"state_dict": state}, lambda state: {"model": state, "epoch": 3},
                                  lambda state: {f"module.{name}": value for name, value in state.items()},
                                  lambda state: {f"student.model.{name}": value for name, value in state.items()}])  # fmt: skip
def test_every_usual_form(tmp_path, model, wrap):
    torch.save(wrap(model.state_dict()), tmp_path / "weights.pt")
    student = create_student("test_resnet", 3, init=tmp_path / "weights.pt")
    assert equal(student, model)


def test_a_head_of_other_classes_stays_fresh(tmp_path, model):
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    student = create_student("test_resnet", 7)
    assert load_weights(student, tmp_path / "weights.safetensors") == ["fc.weight", "fc.bias"]
    assert equal(student, model, without=("fc.weight", "fc.bias"))
    assert student.num_classes == 7


def test_the_report_names_what_does_not_fit(tmp_path, model):
    state = model.state_dict()
    del state["bn1.weight"]
    state["extra"] = torch.ones(1)
    state["conv1.0.weight" if "conv1.0.weight" in state else "conv1.weight"] = torch.ones(2, 2)
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(
        CheckpointError,
        match=r"1 missing \(bn1.weight\); 1 unexpected \(extra\); 1 of another shape \(conv1\S* \(2, 2\) instead of",
    ):
        create_student("test_resnet", 3, init=tmp_path / "weights.safetensors")


def test_files_that_are_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="there is no file .*nowhere.pt: give the path of a checkpoint"):
        read_weights(tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(CheckpointError, match="is no checkpoint of plain tensors"):
        read_weights(tmp_path / "text.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(print))
    with pytest.raises(CheckpointError, match="is no checkpoint of plain tensors"):
        read_weights(tmp_path / "code.pt")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds no tensors by name"):
        read_weights(tmp_path / "list.pt")
