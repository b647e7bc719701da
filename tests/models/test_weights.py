"""Checkpoints of students and teachers, and what is said of those that do not fit."""

import pickle
import zipfile
from argparse import Namespace

import pytest
import timm
import torch
from safetensors.torch import save_file

from graphkd import create_student
from graphkd.cli.networks import classifier_teacher
from graphkd.cli.option_groups import TeacherOptions
from graphkd.errors import CheckpointError
from graphkd.models.weights import load_weights, read_weights


@pytest.fixture
def model():
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=3)


def equal(student, model, without=()):
    own = student.model.state_dict()
    return all(torch.equal(own[name], value) for name, value in model.state_dict().items() if name not in without)


def prefixed(*prefixes):
    return lambda state: {"".join(prefixes) + name: value for name, value in state.items()}


def averaged(state):
    """As torchvision's reference training saves it: a moving average beside the weights, under DDP, with its options."""
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    average = {"n_averaged": torch.tensor(3), **prefixed("module.")(state)}
    return {"model": other, "model_ema": average, "optimizer": {}, "epoch": 3, "args": Namespace(lr=0.1)}


FORMS = {
    "plain": dict,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "epoch": 3},
    "nested": lambda state: {"model_state_dict": {"net": state}},
    "module.": prefixed("module."),
    "_orig_mod.": prefixed("_orig_mod."),
    "student.model.": prefixed("student.model."),
    "compiled under DDP": prefixed("module.", "_orig_mod."),
    "DDP under Lightning, twice": prefixed("model.", "_orig_mod.", "module.", "module.", "model."),
    "one compiled layer": lambda state: {name.replace("layer1.", "layer1._orig_mod."): x for name, x in state.items()},
    "average": averaged,
    "options of an average": lambda state: {"model": state, "ema": {"decay": 0.9, "updates": 3}},
    "an average with its options": lambda state: {"model": {}, "ema": {"decay": 0.9, "shadow": state}},
    "timm's average": lambda state: {"state_dict": {}, "state_dict_ema": state, "args": Namespace(lr=0.1)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_for_student_and_teacher(tmp_path, model, form):
    path = tmp_path / "weights.pt"
    torch.save(FORMS[form](model.state_dict()), path)
    assert equal(create_student("test_resnet", 3, init=path), model)
    teaching = TeacherOptions(teacher="timm:test_resnet", pretrained=str(path))
    teacher = classifier_teacher("test_resnet", teaching, ["a", "b", "c"], torch.device("cpu"), (), ())
    assert equal(teacher._tap, model)


def test_a_prefix_that_is_the_networks_own_stays(tmp_path, model):
    from graphkd.models.embedding_head import EmbeddingHead
    from graphkd.models.tap import Tap

    first, second = (Tap(EmbeddingHead(timm.create_model("test_resnet"), 8, classes=3)) for _ in range(2))
    torch.save(
        prefixed("module.")(first.model.state_dict()), tmp_path / "weights.pt"
    )  # its own names begin with model.
    load_weights(second, tmp_path / "weights.pt")
    assert equal(second, first.model)


def test_a_teachers_head_must_fit(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(CheckpointError, match=r"2 of another shape \(fc.weight .*same architecture and 7 classes"):
        load_weights(create_student("test_resnet", 7), tmp_path / "weights.pt", other_classes=False)


def test_an_archive_that_unpacks_to_more_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", b"0" * 10**7)
    with pytest.raises(CheckpointError, match="would unpack to 10000000"):
        read_weights(tmp_path / "bomb.pt")


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


def itself():
    found = {}
    found["model"] = found
    return found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file .*weights.pt: give the path of a checkpoint"),
        (b"text", "is no checkpoint of plain tensors"),
        (pickle.dumps(print), "is no checkpoint of plain tensors"),
        (itself(), "holds no tensors by name"),
        ([torch.ones(1)], "holds no tensors by name"),
    ],
    ids=["absent", "text", "code", "itself", "list"],
)
def test_files_that_are_no_checkpoint(tmp_path, content, message):
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)
