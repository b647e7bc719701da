"""Images that are watched through a run: what is kept, when, and that it changes nothing else."""

import dataclasses
import json
import os

import pytest
import torch
from safetensors.torch import load_file

from graphkd.errors import MissingFeatureError, OptionError
from graphkd.training.loop import Trainer
from graphkd.training.watch import Watch, Watched, channel_spectrum
from tests.pictures.conftest import CLASSES, colours, teacher, train


def weights(result):
    return result.model.state_dict()


def test_watching_changes_no_bit_of_the_run(tmp_path):
    one, two = train(tmp_path / "one"), train(tmp_path / "two", watch=None)
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())
    assert not (tmp_path / "two" / "watched").exists()


def test_what_is_kept_is_what_the_networks_say(tmp_path):
    result = train(tmp_path / "run")
    found = Watched.read(result.run)
    watch = Watch(colours(24, 4), teacher, images=20, times=3)
    assert sorted(found.student) == [0, 2, 4]
    assert found.classes == CLASSES
    assert found.ids == [str(index) for index in watch.indices]
    assert found.labels.tolist() == [index % 3 for index in watch.indices]
    (batch,) = watch.batches()
    assert torch.equal(found.images, (batch.student * 255).round().to(torch.uint8))
    last, model = found.student[4], result.model.eval()
    with torch.no_grad():
        said = model(batch.student)
    assert torch.equal(last.embedding, said.embedding)
    assert torch.equal(last.logits, said.logits)
    assert torch.equal(last.proxies, said.proxies)
    assert torch.equal(found.teacher.embedding, teacher(batch).embedding)
    (name,) = last.spectra
    torch.testing.assert_close(last.spectra[name], channel_spectrum(said.maps[name][:8]))


@pytest.mark.parametrize(("epochs", "times", "looks"), [(4, 3, [0, 2, 4]), (3, 11, [0, 1, 2, 3]), (5, 2, [0, 5])])
def test_looks_are_spread_over_the_epochs(tmp_path, epochs, times, looks):
    train(tmp_path / "run", Watch(colours(12, 4), teacher, times=times), epochs=epochs)
    assert sorted(Watched.read(tmp_path / "run").student) == looks


def test_a_resumed_run_looks_on_where_it_was(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    epoch = Trainer._epoch

    def killed(self, wrapped):
        if self.at.epoch == 3:
            raise KeyboardInterrupt
        epoch(self, wrapped)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "broken")
    assert sorted(Watched.read(tmp_path / "broken").student) == [0, 2]
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self: fit(self, resume=True))
    train(tmp_path / "broken")
    for name in os.listdir(whole.run / "watched"):
        assert (tmp_path / "broken" / "watched" / name).read_bytes() == (whole.run / "watched" / name).read_bytes()


def test_without_labels_or_a_teacher(tmp_path):
    train(tmp_path / "run", Watch(colours(12, 4, labels=False), times=2), epochs=1)
    found = Watched.read(tmp_path / "run")
    assert found.labels is None
    assert found.teacher is None
    assert sorted(found.student) == [0, 1]


def test_large_images_are_kept_small(tmp_path):
    from graphkd.data.transforms import ResizeView

    views = colours(6, 4)
    views.student = ResizeView(100)
    train(tmp_path / "run", Watch(views, times=2), epochs=1)
    assert load_file(tmp_path / "run" / "watched" / "images.safetensors")["images"].shape == (6, 3, 48, 48)


def test_a_spectrum_by_hand_and_of_what_is_broken():
    maps = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 4.0, 6.0]]).view(1, 3, 1, 3)
    # correlations 1 between the first and the third, -1 (dropped) with the second, which is alone
    torch.testing.assert_close(channel_spectrum(maps), torch.tensor([[0.0, 1.0, 2.0]]), atol=1e-5, rtol=0)
    assert channel_spectrum(maps * torch.nan).isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"images": 0}, "images must be >= 1, found 0"), ({"times": 1}, "times must be >= 2, found 1")],
)
def test_how_many_images_and_times(options, message):
    with pytest.raises(OptionError, match=message):
        Watch(colours(6, 4), **options)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (lambda batch: dataclasses.replace(teacher(batch), embedding=None), r"watching needs features\.embedding"),
        (lambda batch: batch.teacher.mean((2, 3)), "watching needs a network that gives Features: wrap it in Tap"),
    ],
)
def test_what_cannot_be_watched(tmp_path, said, message):
    with pytest.raises(MissingFeatureError, match=message):
        train(tmp_path / "run", Watch(colours(6, 4), said))


def test_the_latest_scoring_is_kept_with_its_confusions(tmp_path):
    result = train(tmp_path / "run")
    kept = json.loads((result.run / "scores.json").read_text())
    assert kept["top1"] == result.scores.top1
    assert kept["seconds"] <= result.seconds
    counts = torch.zeros(3, 3, dtype=torch.int64)
    for row, column, count in kept["confusion"]:
        counts[row, column] = count
    assert torch.equal(counts, result.scores.confusion)
