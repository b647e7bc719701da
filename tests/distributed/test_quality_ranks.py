"""A run without labels on several processes: the quality of one process, and its best student."""

import pytest
import torch

from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.step import Step
from graphkd.training.checkpoint import student_weights
from graphkd.training.loop import Trainer
from graphkd.training.quality import ask
from tests.distributed.test_sharded_training import network
from tests.training import tiny

IMAGES = 17  # held out; in batches of 8 the last would have one, which two processes cannot share


def train(folder, shard):
    """Train to the end; what the run says of its student and the best one that it kept."""
    student, teacher = network(4), network(6).eval()

    def features(batch):
        with torch.no_grad():
            return teacher(batch.teacher)

    held_out = tiny.views(IMAGES, seed=4)
    config = tiny.config(shard=shard, epochs=3)
    step = Step(student, PRGDistiller(8, 12, tiny.CLASSES).double())
    made = Trainer(
        step, tiny.views(16), features, config, folder, scored=held_out, answers=ask(features, held_out, batch_size=8)
    )
    quality = made.fit().quality
    return {"numbers": quality.numbers(), "pairs": quality.pairs, "best": student_weights(f"{folder}/best")}


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_say_what_one_says(on_ranks, same, tmp_path, shard):
    expected = train(str(tmp_path / "one"), False)
    for found in on_ranks(2, train, str(tmp_path / "two"), shard):
        assert found["numbers"] == pytest.approx(expected["numbers"], abs=1e-6)
        assert found["pairs"] == expected["pairs"]
        assert found["best"].keys() == expected["best"].keys()
        for name, value in expected["best"].items():
            same(found["best"][name].double(), value.double(), name)
