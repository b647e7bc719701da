"""Processes that were given different things find out before the first step, and say which."""

from contextlib import nullcontext
from unittest.mock import patch

import numpy as np
import pytest
from torch import nn

from graphkd import distributed
from graphkd.data.class_names import Classes
from graphkd.data.sources import ArraySource, source_subset
from graphkd.data.transforms import CenterView, RandomCropView
from graphkd.data.views import Views
from graphkd.distillers.kd import KDDistiller
from graphkd.distillers.pkt import PKTDistiller
from graphkd.errors import DistributedError, NonFiniteError
from graphkd.step import Step, labelled_cross_entropy
from graphkd.training import run_folder
from graphkd.training.agreement import described
from graphkd.training.config import TrainConfig
from graphkd.training.loop import Trainer
from tests.training import tiny
from tests.training.tiny import Named


def source(changed=None, targets=(0, 1, 2, 0), classes=("red", "green", "blue")):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (16, 8, 8, 3)).astype(np.uint8)
    if changed is not None:
        images[changed] += 1
    return ArraySource(images, targets=[*targets] * 4, classes=Classes(classes))


def unlabelled(**changes):
    return Views(source(**changes), student=RandomCropView(8, padding=1), seed=3)


def labelled(**changes):
    return Views(source(**changes), student=CenterView(8), labels=True)


def student(drop=0.2):
    made = tiny.Student()
    made.drop = nn.Dropout(drop)
    return made


BASE = {
    "student": student,
    "methods": lambda: [KDDistiller(), PKTDistiller(weight=3.0)],
    "task": None,
    "views": unlabelled,
    "teacher": lambda: Named("one"),
    "features": tiny.teacher,
    "scored": labelled,
    "inside": nullcontext,
}
CONFIG = {"epochs": 1, "batch_size": 8, "lr": 0.02, "log_every": 2, "progress": False, "trackers": ()}
# What the second process is given instead, and what the message names.
OTHER = {
    "lr is 0.02 on rank 0 and 0.002 on rank 1": {"lr": 0.002},
    "epochs is 1 on rank 0 and 3 on rank 1": {"epochs": 3},
    "batch_size is 8 on rank 0 and 4 on rank 1": {"batch_size": 4},
    "seed is 0 on rank 0 and 1 on rank 1": {"seed": 1},
    "optimizer is adamw on rank 0 and lamb on rank 1": {"optimizer": "lamb"},
    "accumulate is 1 on rank 0 and 2 on rank 1": {"accumulate": 2},
    "ema is None on rank 0 and 0.9 on rank 1": {"ema": 0.9},
    "log_every is 2 on rank 0 and 1 on rank 1": {"log_every": 1},
    "checkpoint_every is 0 on rank 0 and 1 on rank 1": {"checkpoint_every": 1},
    "nonfinite is stop on rank 0 and skip on rank 1": {"nonfinite": "skip"},
    "distillers/1/terms/divergence/0 is 3.0 on rank 0 and 4.0 on rank 1": {
        "methods": lambda: [KDDistiller(), PKTDistiller(weight=4.0)]
    },
    "distillers/1/is is graphkd.distillers.pkt.PKTDistiller on rank 0 and absent on rank 1": {
        "methods": lambda: [KDDistiller()]
    },
    "modules/student.drop is torch.nn.modules.dropout.Dropout(p=0.2, inplace=False) on rank 0": {
        "student": lambda: student(0.5)
    },
    "task is None on rank 0 and graphkd.step.labelled_cross_entropy on rank 1": {"task": labelled_cross_entropy},
    "images is 16 on rank 0 and 15 on rank 1": {
        "views": lambda: Views(source_subset(source(), range(15)), student=RandomCropView(8, padding=1), seed=3)
    },
    "data/order is ": {
        "views": lambda: Views(source_subset(source(), [*range(15, -1, -1)]), student=RandomCropView(8, padding=1), seed=3)
    },
    "data/content is ": {"views": lambda: unlabelled(changed=7)},
    "data/classes is ": {"views": lambda: unlabelled(classes=("green", "red", "blue"))},
    " data/classes is ": {"views": lambda: unlabelled(classes={"a": "red", "b": "green", "c": "blue"})},
    "scored/data/labels is ": {"scored": lambda: labelled(targets=(1, 0, 2, 1))},
    "teacher_fingerprint/weights is one on rank 0 and two on rank 1": {"teacher": lambda: Named("two")},
    "teacher_fingerprint/weights is one on rank 0 and absent on rank 1": {"teacher": lambda: None},
    "views_seed is 3 on rank 0 and 4 on rank 1": {
        "views": lambda: Views(source(), student=RandomCropView(8, padding=1), seed=4)
    },
    "views/student/padding is 1 on rank 0 and absent on rank 1": {
        "views": lambda: Views(source(), student=CenterView(8), seed=3)
    },
    "views/labels is False on rank 0 and True on rank 1": {
        "views": lambda: Views(source(), student=RandomCropView(8, padding=1), seed=3, labels=True)
    },
    "scored/images is 16 on rank 0 and absent on rank 1": {"scored": lambda: None},
    "teaches is True on rank 0 and False on rank 1": {"features": None},
    "gather_limit is 1073741824 on rank 0 and 0 on rank 1": {"inside": lambda: distributed.gather_limit(0)},
    "versions/torch is ": {"inside": lambda: patch.object(run_folder, "version", lambda name: "2.0.0")},
}  # fmt: skip


def trainer(folder, shard, changes):
    parts = BASE | {name: value for name, value in changes.items() if name in BASE}
    options = CONFIG | {name: value for name, value in changes.items() if name not in BASE}
    step = Step(parts["student"](), *parts["methods"](), task=parts["task"])
    with parts["inside"]():
        beside = {"teacher": parts["teacher"](), "scored": parts["scored"]()}
        return Trainer(step, parts["views"](), parts["features"], TrainConfig(**options, shard=shard), folder, **beside)


def disagree(folder, shard):
    """The message of each kind, on this rank."""
    said = {}
    for expected, changes in OTHER.items():
        try:
            trainer(folder, shard, changes if distributed.rank() else {})
            said[expected] = "nothing"
        except DistributedError as error:
            said[expected] = str(error)
    return said


@pytest.mark.parametrize("shard", [False, True], ids=["DDP", "FSDP2"])
def test_whatever_decides_the_result_is_compared_and_named_with_the_value_of_each_rank(on_ranks, tmp_path, shard):
    for said in on_ranks(2, disagree, str(tmp_path / "run"), shard):
        assert len(said) == len(OTHER) >= 10
        for expected, message in said.items():
            assert message.startswith("the processes of this run differ: "), expected
            assert expected in message
            assert "Launch all of them with the same options, data and versions" in message
    assert not (tmp_path / "run").exists()


def manners(folder):
    """One process shards and the other does not; then what may differ does, and both train."""
    try:
        trainer(folder, bool(distributed.rank()), {})
    except DistributedError as error:
        said = str(error)
    own = {"progress": True, "timeout": 60.0} if distributed.rank() else {}
    made = trainer(folder, False, own)
    return said, made.fit().updates


def test_sharding_must_be_the_same_and_what_concerns_one_process_alone_need_not(on_ranks, tmp_path):
    for said, updates in on_ranks(2, manners, str(tmp_path / "run")):
        assert "shard is False on rank 0 and True on rank 1" in said
        assert updates == 2


def test_options_are_described_without_addresses_paths_and_weights():
    method = KDDistiller()
    method.note, method.where, method.how = "plain", "/home/somebody/weights.pt", lambda: None
    found = described(method)["."]
    assert found["is"] == "graphkd.distillers.kd.KDDistiller"
    assert (found["note"], found["where"]) == ("plain", "a local path")
    assert " at 0x" not in str(found)
    assert found["how"].endswith("<lambda>")


def broken(folder):
    """A loss of the second process is NaN; what ends each of them."""
    made = tiny.trainer(folder, poison=8 if distributed.rank() else None, **tiny.HARD | {"workers": 0})
    try:
        made.fit()
    except NonFiniteError as error:
        return str(error)


def test_all_processes_stop_where_the_loss_of_one_breaks(on_ranks, tmp_path):
    for said in on_ranks(2, broken, tmp_path / "run"):
        assert "mimic/feature became NaN" in said
