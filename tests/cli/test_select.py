"""graphkd select and distill --select: pools of files, shards and stores; a kill; every way to ask wrongly."""

import csv
import json
import shlex
import shutil
import tarfile
from pathlib import Path

import pytest

from graphkd.cli.main import main
from graphkd.teachers.clip import CLIPTeacher
from tests.cli.conftest import write_digits

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 2 --batch-size 8 --trackers '' --no-report --watch 0"


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits, teacher_checkpoint):
    """Forty loose images, their class names, and a store of them."""
    home = tmp_path_factory.mktemp("home")
    write_digits(home / "pool", digits, 40)
    (home / "names.txt").write_text("\n".join(digits.classes))
    line = f"embed --data {home}/pool --classes {home}/names.txt --teacher {teacher_checkpoint} --templates photo"
    assert main(shlex.split(f"{line} --text-cache {home}/text --out {home}/features --quiet")) == 0
    return home


@pytest.fixture
def asking(home, teacher):
    """The options that name pool and teacher."""
    return f"--data {home}/pool --classes {home}/names.txt {teacher} --text-cache {home}/text"


def is_png(path):
    return Path(path).read_bytes()[:4] == b"\x89PNG"


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_pool_becomes_a_table_a_list_and_a_folder(graphkd, home, asking, asked):
    found = graphkd.json(f"select {asking} --number 12 --out all.csv")
    rows = table("all.csv")
    kept = [row["name"] for row in rows if row["kept"] == "True"]
    assert (found["images"], found["taken"], found["left"]) == (len(rows), len(kept), 28) == (40, 12, 28)
    assert sum(found["classes_taken"].values()) == 12
    assert [float(min(row["score"] for row in rows if row["name"] in kept))] == [found["scores_taken"][0]]
    assert is_png("all-selection.png")
    assert not Path("all.csv.part").exists()
    del asked[:]
    graphkd(f"select --store {home}/features --data {home}/pool --number 0.3 --out list.txt")
    assert Path("list.txt").read_text().splitlines() == [f"{home}/pool/{name}" for name in kept]
    graphkd(f"select --store {home}/features --number 12 --out names.txt")
    assert Path("names.txt").read_text().splitlines() == kept
    for way in ("link", "copy"):
        graphkd(f"select --store {home}/features --data {home}/pool --number 12 --out {way} --{way}")
        assert sorted(each.name for each in Path(way).iterdir()) == kept
    assert Path("link", kept[0]).samefile(home / "pool" / kept[0])
    assert not Path("copy", kept[0]).samefile(home / "pool" / kept[0])
    assert asked == []
    said = graphkd(f"select --store {home}/features --number 20 --band 0 0.9 --score entropy --out all.jsonl").out
    assert said.startswith("20 of 40 images taken: entropy ")
    lines = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    assert sum(each["kept"] for each in lines) == 20


def test_shards_are_a_pool(graphkd, home, asking):
    Path("shards").mkdir()
    with tarfile.open("shards/0.tar", "w") as tar:
        for name in ("00.png", "01.png", "02.png"):
            tar.add(home / "pool" / name, name)
    line = f"select {asking.replace(f'{home}/pool', 'shards')} --number 2"
    graphkd(f"{line} --out list.txt")
    ids = Path("list.txt").read_text().splitlines()
    graphkd(f"{line} --out all.csv")
    assert ids == [row["name"] for row in table("all.csv") if row["kept"] == "True"]
    assert len(ids) == 2
    graphkd.refused(
        f"{line} --out few --link", "only images that are files can be put", "unpack shards and data sets first"
    )


def test_a_list_is_data(graphkd, home, asking, teacher):
    graphkd(f"select --store {home}/features --data {home}/pool --number 20 --out list.txt")
    line = f"--data list.txt --classes {home}/names.txt {teacher} --text-cache {home}/text"
    graphkd(f"distill {line} --held-out 0.2 {SMALL}")
    assert json.loads(Path("runs/list-1/config.json").read_text())["images"] == 16
    graphkd(f"embed {line} --out few")
    assert graphkd.json("store info few")["samples"] == 20


def test_a_killed_command_goes_on_and_chooses_the_same(graphkd, asking, asked, monkeypatch):
    line, answer = f"select {asking} --number 15 --batch-size 8", CLIPTeacher.features
    graphkd(f"{line} --out whole.csv")
    del asked[:]
    with monkeypatch.context() as patch:

        def dying(self, images):
            if len(asked) == 2:
                raise KeyboardInterrupt
            return answer(self, images)

        patch.setattr(CLIPTeacher, "features", dying)
        said = graphkd(f"{line} --out all.csv", 130)
    assert said.err[-2:] == [
        "interrupted: what the teacher said is kept in all.csv.part",
        "try:   run the same command again: it goes on there",
    ]
    assert not Path("all.csv").exists()
    graphkd.refused(
        f"{line} --out all.csv --teacher-size 16", "all.csv.part was begun with other", "remove it to begin"
    )
    del asked[:]
    graphkd(f"{line} --out all.csv")
    assert asked == [8, 8, 8]
    assert Path("all.csv").read_text() == Path("whole.csv").read_text()


def test_a_run_chooses_once(graphkd, home, asking, asked, monkeypatch):
    line = f"distill {asking} --select 16 --held-out 0.25 --no-score-teacher {SMALL}"
    from graphkd.cli import select_for_run

    answer = CLIPTeacher.features
    with monkeypatch.context() as patch:

        def dying(self, images):
            if sum(asked) > 20:
                raise KeyboardInterrupt
            return answer(self, images)

        patch.setattr(CLIPTeacher, "features", dying)
        patch.setattr(select_for_run, "_BATCH", 10)
        said = graphkd(f"{line} --run run", 130)
        assert "go on with: graphkd distill --config run/run.yaml --resume" in said.err[-1]
        assert Path("run/selection.part").is_file()
    found = graphkd.json("distill --config run/run.yaml --resume")
    assert (found["selection"]["taken"], found["selection"]["of"], found["updates"]) == (16, 30, 4)
    assert "trained on 16 of 30 images, chosen by the teacher's confidence" in Path("run/report.md").read_text()
    assert is_png("run/selection.png")
    assert not Path("run/selection.part").exists()
    graphkd(f"{line} --run stored --store {home}/features")
    chosen = [json.loads(Path(each, "selection.json").read_text())["ids"] for each in ("run", "stored")]
    assert chosen[0] == chosen[1]
    graphkd.refused("distill --config run/run.yaml --resume --select 12", "run chose 16 images, and --select 12 asks")
    Path("run/selection.part").write_text("as a kill leaves it")
    shutil.rmtree("run/checkpoints")
    graphkd.refused(
        "distill --config run/run.yaml --resume --prompt-weight uniform",
        "the images of run were chosen by another teacher",
        "give that one, or choose another --run",
    )
    graphkd("distill --config run/run.yaml --resume")
    assert not Path("run/selection.part").exists()
    assert graphkd.json(f"{line} --run dry --dry-run")["images"] == 16


def test_what_cannot_be_read_is_counted_and_named(graphkd, home, asking):
    shutil.copytree(home / "pool", "pool")
    Path("pool/07.png").write_text("no image")
    line = f"select {asking.replace(str(home / 'pool'), 'pool')} --out all.csv"
    found = graphkd.json(f"{line} --number 39")
    assert (found["unreadable"], found["unreadable_examples"]) == (1, ["07.png"])
    assert table("all.csv")[7] == {"name": "07.png", "class": "", "score": "", "kept": "False"}
    graphkd.refused(f"{line} --number 5 --on-error stop", "cannot read image pool/07.png", "give --on-error skip")
    for each in Path("pool").iterdir():
        each.write_text("no image")
    graphkd.refused(f"{line} --number 5", "none of 40 images can be read")
    assert not Path("all.csv.part").exists()


def test_a_full_disk_keeps_what_is_whole(graphkd, asking, home, monkeypatch):
    def full(path, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphkd.deploy.chosen.link_file", full)
    line = f"select --store {home}/features --data {home}/pool --number 5 --out few --link"
    graphkd.refused(line, "cannot write few: No space left on device. Nothing was placed", "free some space")
    assert sorted(each.name for each in Path().iterdir()) == []


LATER = [
    ("--data pool --number 5", "graphkd select needs a value of --out", "--out: file to write"),
    ("--number 5 --out a.csv", "no images were given", "give --data FOLDER, or --store FOLDER, or both"),
    ("--data nowhere {t} --number 5 --out a.csv", "there is no --data nowhere", "give a folder of images"),
    ("--data empty {t} --classes names.txt --number 5 --out a.csv", "empty holds no image", "expected files that end"),
    ("--data pool --number 5 --out a.csv", "no teacher was given", "give --teacher"),
    ("--data pool {t} --number 5 --out a.csv", "tells classes apart by their names", "give --classes names.txt"),
    ("--data pool {t} --classes names.txt --number 0 --out a.csv", "Invalid value \"0.0\" for --number. Must be > 0", "--number: how many"),
    ("--data pool {t} --classes names.txt --number 2.5 --out a.csv", "--number 2.5 is no whole number", "give how many images, or a share"),
    ("--data pool {t} --classes names.txt --number 41 --out a.csv", "--number 41 is more than the 40 images", "give 40 or fewer"),
    ("--data pool {t} --classes names.txt --number 0.01 --out a.csv", "--number 0.01 of 40 images is none", "give a larger share"),
    ("--store features --number 5 --band 0.9 --out a.csv", "--band", ""),
    ("--store features --number 5 --band 0.9 0.1 --out a.csv", "--band 0.9 0.1 is no band of confidence", "give the lowest and the highest"),
    ("--store features --number 40 --band 0.99 1 --out a.csv", "samples, those of the pool that may be chosen, found 40", "choose fewer"),
    ("--store features --number 5 --score entropie --out a.csv", "Did you mean \"entropy\"?", "--score: what images are ranked by"),
    ("--store features --number 5 --out a.doc", "--out a.doc does not say what format it has", "give a name that ends in .txt, .csv"),
    ("--store features --data pool --number 5 --out pool/a.csv", "--out pool/a.csv lies in --data pool", "give a place beside it"),
    ("--store features --number 5 --out pool", "--out pool is a folder", "add --link or --copy, or give a file"),
    ("--store features --number 5 --out few --link", "a store holds no images to put into a folder", "give --data FOLDER too"),
    ("--store features --data pool --number 5 --out pool/few --link", "--out pool/few lies in --data pool", "give a place beside it"),
    ("--store features --data pool --number 5 --out empty --link", "--out empty is there already", "choose another folder"),
    ("--store features --data pool --number 5 --out few --link --copy", "--link and --copy were both given", "give one of them"),
    ("--store features --data digits --number 5 --out few --link", "only images that are files can be put into a folder", "unpack shards and data sets first"),
    ("--store pool --number 5 --out a.csv", "pool is no store: manifest.json is missing", "give the folder that graphkd embed"),
    ("--store features {t} --number 5 --out a.csv", "is not asked where there is a --store", "leave one of them out"),
    ("--store features --data more --number 1 --out a.csv", "features lacks 1 (x.png)", "choose another --store"),
    ("--store features --number 5 --nubmer 4 --out a.csv", "Unknown option: --nubmer. Did you mean --number?", "graphkd select --help"),
    ("--data pool {t} --classes names.txt --number 5 --out notes.csv", "notes.csv.part holds no scores of a pool", "remove it to begin anew"),
    ("--data broken {t} --classes names.txt --number 1 --out a.csv", "none of 1 images can be read, such as a.png", "look at the files"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "what", "todo"), LATER, ids=lambda each: str(each)[:60])
def test_every_way_to_ask_wrongly(graphkd, home, teacher, line, what, todo):
    for name in ("pool", "features", "names.txt"):
        Path(name).symlink_to(home / name)
    for name in ("empty", "more", "broken"):
        Path(name).mkdir()
    shutil.copy(home / "pool" / "00.png", "more/x.png")
    Path("broken/a.png").write_text("no image")
    Path("notes.csv.part").write_text("mine\n")
    before = sorted(Path().rglob("*"))
    graphkd.refused(f"select {line.format(t=teacher)}", what, todo)
    left = [path for path in Path().rglob("*") if path not in before and path.parts[0] != "cache"]
    assert [path.name for path in left if path.suffix != ".part"] == []


@pytest.mark.parametrize(
    ("more", "what", "todo"),
    [
        ("--select 41", "--select 41 is more than the 40 images", "give 40 or fewer"),
        ("--select 1.5", "--select 1.5 is no whole number", "give how many images"),
        ("--select 5 --method none --labels task", "--select asks a teacher", "leave --select out"),
    ],
)
def test_a_run_that_cannot_choose_is_refused(graphkd, asking, more, what, todo):
    graphkd.refused(f"distill {asking} --held-out 0 --run run {more}", what, todo)
    if what.startswith("--select 41"):
        graphkd.refused(f"distill {asking} --held-out 0.2 --run run {more}", "of 40 are held out", "or fewer")
    assert not Path("run").exists()
