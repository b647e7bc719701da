"""graphkd doctor --speed."""

from functools import partial

import pytest
from PIL import Image

from graphkd.training import speed
from graphkd.training.config import METHOD

SMALL = (
    "doctor --speed --data photos --student test_resnet --teacher timm:test_vit --size 32 --batch-size 4 --device cpu"
)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr("graphkd.cli.speed.measure_speed", partial(speed.measure_speed, seconds=0.05))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "photos" / "cat" / "1.png")
    return tmp_path / "photos"


def test_it_says_what_was_measured_and_what_limits(graphkd, photos):
    found = graphkd.json(SMALL)["speed"]
    assert set(found["images_per_second"]) == {"decode", "student_view", "teacher_view", "store", "teacher", "step"}
    assert (found["student"], found["method"], found["batch_size"]) == ("test_resnet", METHOD, 4)
    hours = [found[f"{kind}_teacher"]["imagenet_epoch_hours"] for kind in ("stored", "live")]
    assert hours[0] > 0
    assert hours[1] == pytest.approx(1_281_167 / 3600 / found["live_teacher"]["images_per_second"])


def test_people_read_the_same_and_unreadable_images_are_named(graphkd, photos):
    (photos / "bad.png").write_bytes(b"nothing")
    said = graphkd(SMALL)
    assert "1 of the images cannot be read: bad.png" in said.out
    assert "hours with a stored teacher, at " in said.out
    assert "trained: test_resnet, combined, batches of 4, on the cpu" in said.out
    assert said.err[-1] == "speed: training test_resnet by combined"


REFUSED = [
    ("doctor --data photos", "--data says what --speed measures, and --speed is missing", "add --speed"),
    ("doctor --speed --data nowhere", "nowhere", ""),
    ("doctor --speed --data empty", "no image", ""),
    ("doctor --speed --data file.txt", "file.txt", ""),
    ("doctor --speed --student resnet81", "unknown student 'resnet81'; did you mean 'resnet18'", ""),
    ("doctor --speed --teacher timm:vit_base_patch32_clip", "unknown teacher", ""),
    ("doctor --speed --teacher ViT-B-23", "unknown open_clip model 'ViT-B-23'; did you mean 'ViT-B-32'", ""),
    ("doctor --speed --teacher lite1", "unknown teacher 'lite1'; did you mean 'lite2'", "choose one of lite"),
    ("doctor --speed --teacher resnet50", "unknown teacher 'resnet50'; did you mean 'timm:resnet50'", ""),
    ("doctor --speed --teacher hf:org/clip", "no network that can be built without", "give a name of open_clip"),
    ("doctor --speed --teacher empty", "empty is no network that can be built without", "give a name of open_clip"),
    ("doctor --speed --method prq", "prq", "--method: how it is distilled"),
    ("doctor --speed --batch-size 1", "--batch-size", ""),
    ("doctor --speed --size 0", "--size", ""),
    ("doctor --speed --device gpu", "unknown device 'gpu'", "give auto, cpu, cuda or cuda:1"),
    ("doctor --speed --device cuda:99", "there is no device 'cuda:99'", "give --device auto"),
]


@pytest.mark.parametrize(("line", "what", "todo"), REFUSED, ids=lambda each: each if " " in each else None)
def test_what_is_refused(graphkd, photos, tmp_path, line, what, todo):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    graphkd.refused(line, what, todo)
    assert sorted(tmp_path.rglob("*")) == before


def test_only_broken_images_and_methods_on_maps_are_refused(graphkd, photos):
    graphkd.refused(
        SMALL + " --method at",
        "at needs more than a store keeps",
        "choose a method that compares embeddings or class scores",
    )
    (photos / "cat" / "1.png").write_bytes(b"nothing")
    graphkd.refused(SMALL, "cannot read image photos/cat/1.png", "repair or remove it")


def test_an_interruption_leaves_nothing(graphkd, photos, tmp_path, monkeypatch):
    def interrupted(*parts, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("graphkd.cli.speed.measure_speed", interrupted)
    assert graphkd(SMALL, 130).err[-2:] == ["interrupted: nothing was written", "try:   run the command again"]
