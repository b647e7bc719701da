"""Hostile inputs: none is executed, none writes outside its folder, none takes much memory, each gets a clear error."""

import json
import pickle
import resource

import pytest

from graphkd.errors import GraphKDError
from tests.faults import hostile_files, hostile_manifests, hostile_models, hostile_shards
from tests.faults.hostile import CASES, Payload

MODULES = (hostile_files, hostile_manifests, hostile_models, hostile_shards)  # each adds its cases
_MOST = 400  # MiB that a case may take beyond what was taken before
_SUCCEEDS = {"writing_through_a_link"}  # a good run in a bad folder


def tree(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def attack(name, folder):
    """One case, in a folder of its own beside one that must stay as it is."""
    outside, place = folder / "outside", folder / "place"
    outside.mkdir(parents=True)
    place.mkdir()
    (outside / "secret").write_text("nobody reads or writes this")
    before, memory, message = tree(outside), peak(), ""
    try:
        CASES[name](place, Payload(outside / "ran"))
    except GraphKDError as error:
        message = str(error)
    else:
        assert name in _SUCCEEDS, f"{name} was accepted"
    assert not (outside / "ran").exists(), f"{name} was executed"
    assert tree(outside) == before, f"{name} wrote outside its folder"
    assert sorted(path.name for path in folder.iterdir()) == ["outside", "place"]
    assert name in _SUCCEEDS or 20 < len(message) < 5000, message
    assert "nobody reads" not in message
    assert peak() - memory < _MOST, f"{name} took {peak() - memory:.0f} MiB"


@pytest.mark.filterwarnings("ignore:.*TorchScript.*")
@pytest.mark.parametrize("name", CASES)
def test_hostile_input(tmp_path, name):
    attack(name, tmp_path)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*TorchScript.*")
def test_hostile_inputs_in_full(tmp_path, record_figure):
    start = peak()
    for name in CASES:
        attack(name, tmp_path / name)
    assert len(CASES) >= 50
    record_figure("hostile inputs", len(CASES))
    record_figure("executed", 0)
    record_figure("written outside their folder", 0)
    record_figure("memory that all of them took, MiB", round(peak() - start))


def test_the_payload_would_run(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


SCRIPT = "<script>alert('cat')</script>"


def test_a_store_keeps_names_as_text(tmp_path):
    from graphkd.data.store.embed import embed
    from tests.data.store.fakes import Squares, TinyTeacher, ToTensor

    teacher = TinyTeacher()
    teacher.classes = [SCRIPT, "../../outside"]
    ids = ["../../outside/a.png", "/etc/passwd", "a\0b", f"{SCRIPT}.png"]
    store = embed(teacher, Squares(ids), tmp_path / "store", transform=ToTensor(), progress=False)
    assert store.ids == ids  # names of samples, never of files
    assert store.classes == teacher.classes
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["classes"][0] == SCRIPT
