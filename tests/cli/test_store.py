"""graphkd store: what a store is, whether it is whole, mended, brought together."""

import shutil

import pytest


@pytest.fixture
def store(graphkd, class_folders, teacher, tmp_path):
    """Four shards of sixty images."""
    graphkd(f"embed --data images {teacher} --out features --shard-size 16 --quiet")
    return tmp_path / "features"


def damage(store):
    shard = store / "shard-00001.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)


def test_info(graphkd, store):
    found = graphkd.json("store info features")
    assert (found["samples"], found["complete"], found["shards"], found["absent"]) == (60, True, 4, [])
    assert found["widths"] == {"embedding": 128, "logits": 5}
    assert "teacher kind" in graphkd("store info features").out


def test_a_damaged_store_is_found_and_mended(graphkd, store, teacher):
    graphkd("store verify features --data images")
    damage(store)
    assert list(graphkd.json("store verify features", 1)["damaged"]) == ["shard-00001.safetensors"]
    assert "graphkd store repair features" in graphkd("store verify features", 1).out
    assert graphkd.json(f"store repair features --data images {teacher} --json")["embedded"] == 16
    graphkd("store verify features")
    assert graphkd("store repair features --config features/run.yaml").out == "features: nothing was damaged\n"


def test_an_image_that_changed_is_named(graphkd, store, class_folders):
    image = class_folders / "one" / "1.png"
    image.write_bytes(image.read_bytes()[:-1] + b"x")
    assert graphkd.json("store verify features --data images", 1)["damaged"] == {
        "one/1.png": "the image changed since it was embedded"
    }


def test_another_teacher_mends_nothing(graphkd, store, teacher):
    damage(store)
    graphkd.refused(
        f"store repair features --data images {teacher} --prompt-weight uniform",
        "the prompts differ from those of the store",
    )


def test_parts_of_several_machines_become_one_store(graphkd, store, tmp_path):
    for number in (0, 1):
        part = tmp_path / f"machine{number}"
        part.mkdir()
        for file in store.iterdir():
            if not file.name.startswith("shard") or int(file.name[6:11]) % 2 == number:
                shutil.copy(file, part)
    absent = graphkd.json("store merge machine0 machine0 --out half", 1)["absent"]
    assert absent == ["shard-00001", "shard-00003"]
    graphkd("store merge machine0 machine1 --out whole")
    graphkd("store verify whole --data images")
