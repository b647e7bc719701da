"""The study of CRG with another network as teacher: its pictures, and what the teacher says of each."""

import pytest
import torch

from benchmarks.accuracy import data, tin100_crg
from benchmarks.accuracy.config import Config, Recipe
from benchmarks.accuracy.study import run
from graphkd import Features
from graphkd.data.sources import ArraySource


class Echo:
    """A teacher whose maps have the image's own colours, repeated to twelve channels."""

    _tap = torch.nn.Identity()

    def __call__(self, images):
        maps = {name: images.repeat(1, 4, 1, 1) for name in tin100_crg.SIDES}
        return Features(logits=torch.eye(100)[: len(images)], maps=maps)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Twelve images of noise in the place of the data, of which eight are seen in two views."""
    pixels = torch.randint(256, (12, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    source = ArraySource(pixels.numpy(), list(range(12)), [str(k) for k in range(100)])
    monkeypatch.setattr(data, "tin100", lambda part: source)
    monkeypatch.setattr(data, "tin100_classes", dict)
    monkeypatch.setattr(tin100_crg, "lite_teacher", lambda *_, **__: Echo())
    monkeypatch.setattr(tin100_crg, "IMAGES", 8)
    monkeypatch.setattr(tin100_crg, "VIEWS", 2)
    monkeypatch.setenv("GRAPHKD_STUDY_CACHE", str(tmp_path))
    tin100_crg.pictures.cache_clear()
    yield
    tin100_crg.pictures.cache_clear()


def test_every_view_has_its_own_maps_and_its_images_label(drawn):
    pictures, kept = tin100_crg.pictures(), tin100_crg.seen()
    labels = [pictures.target(index) for index in range(16)]
    assert labels[:8] == labels[8:]
    assert (pictures.images[:8] != pictures.images[8:]).any()
    shown = torch.from_numpy(pictures.images).permute(0, 3, 1, 2) / 255
    for name, side in tin100_crg.SIDES.items():
        means = torch.nn.functional.adaptive_avg_pool2d(shown, side)
        torch.testing.assert_close(kept.maps[name][:, :3].float(), means, atol=1e-3, rtol=0)
    assert tin100_crg.seen().maps.keys() == kept.maps.keys()  # from the file


@pytest.mark.parametrize("label", ["CRG", "KD"])
def test_a_student_learns_from_the_kept_maps(drawn, label):
    row = next(each for each in tin100_crg.METHODS if each.label == label)
    recipe = Recipe("thin_resnet", epochs=1, batch=2)
    config = Config("tin100-crg", row.label, row.name, 0, recipe, row.options)
    found = run(config, tin100_crg.problem(config))
    assert len(found["shares"]) == (4 if label == "CRG" else 2)
    assert 0 <= found["top1"] <= 100
