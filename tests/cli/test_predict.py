"""graphkd predict and export --int8, from a run folder, an export, a teacher; and every way to ask wrongly."""

import csv
import io
import json
import shlex
import shutil
from pathlib import Path

import pytest

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 2 --batch-size 16 --lr 3e-3 --trackers '' --no-report --watch 0"


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits):
    """Images, and a student of their labels."""
    from graphkd.cli.main import main

    home = tmp_path_factory.mktemp("home")
    for label, name in enumerate(digits.classes[:4]):
        (home / "images" / name).mkdir(parents=True)
        members = [i for i in range(400) if digits.target(i) == label][:15]
        for number, index in enumerate(members):
            digits.image(index).resize((32, 32)).save(home / "images" / name / f"{number}.png")
    assert (
        main(shlex.split(f"distill --data {home}/images --method none --labels task --run {home}/run --quiet {SMALL}"))
        == 0
    )
    return home


@pytest.fixture(scope="module")
def exported(home):
    """The student as model.onnx and model.int8.onnx, and what the command said of them."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install 'graphkd[export]'")
    from graphkd.cli.main import main

    assert main(shlex.split(f"export {home}/run --formats onnx --int8 --quiet")) == 0
    return home / "run" / "export"


def table(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_student_on_a_folder_a_list_and_an_image(graphkd, home):
    found = graphkd.json(f"predict --model {home}/run --data {home}/images --out guesses.csv --top 2")
    rows = table("guesses.csv")
    assert len(rows) == found["images"] == sum(found["classes"].values()) == 60
    right = sum(row["name"].startswith(f"{row['class']}/") for row in rows) / 60
    assert right == pytest.approx(graphkd.json(f"evaluate --model {home}/run --data {home}/images")["top1"])
    image = home / "images" / "one" / "3.png"
    (one,) = graphkd.json(f"predict --model {home}/run --data {image} --top 1")["predictions"]
    (same,) = [row for row in rows if row["name"] == "one/3.png"]
    assert (one["name"], one["classes"]) == (str(image), [same["class"]])
    assert one["confidences"][0] == pytest.approx(float(same["confidence"]), abs=1e-5)
    Path("list.txt").write_text(f"{image}\n\n{home}/images/two/4.png\n")
    printed = graphkd(f"predict --model {home}/run --data list.txt --top 1").out.splitlines()
    assert printed[0] == "name,class,confidence,error"
    assert [line.partition(",")[0] for line in printed[1:]] == [str(image), f"{home}/images/two/4.png"]


def test_a_teacher_labels_a_pool(graphkd, home, teacher, digits):
    shutil.copytree(home / "images", "pool")
    Path("names.txt").write_text("\n".join(digits.classes[:4]))
    line = f"predict {teacher} --classes names.txt --data pool --out guesses.csv"
    found = graphkd.json(f"{line} --move sorted --above 0.5")
    moved = list(Path("sorted").rglob("*.png"))
    assert len(moved) == sum(found["placed"].values())
    assert len(moved) + found["uncertain"] == 60
    sure = {row["name"]: row["class"] for row in table("guesses.csv") if float(row["confidence"]) >= 0.5}
    assert {
        path.relative_to(f"sorted/{sure[name]}").as_posix()
        for name in sure
        for path in [Path("sorted") / sure[name] / name]
        if path.is_file()
    } == set(sure)
    graphkd.refused(f"{line} --move again", "guesses.csv is there", "choose another file to write")
    assert "moved to again" in graphkd(f"{line.replace('guesses', 'rest')} --move again").out


def test_what_cannot_be_read_is_counted_and_named(graphkd, home):
    shutil.copytree(home / "images", "pool")
    Path("pool/one/bad.png").write_text("no image")
    found = graphkd.json(f"predict --model {home}/run --data pool --out guesses.jsonl")
    assert (found["images"], found["unreadable"], found["unreadable_examples"]) == (61, 1, ["one/bad.png"])
    assert (
        "cannot be read: 1, such as one/bad.png" in graphkd(f"predict --model {home}/run --data pool --out a.csv").out
    )
    graphkd.refused(
        f"predict --model {home}/run --data pool --out b.csv --on-error stop",
        "cannot read image pool/one/bad.png",
        "give --on-error skip",
    )
    assert not Path("b.csv").exists()


def test_an_interrupted_command_goes_on(graphkd, home, monkeypatch):
    from graphkd.deploy import predict as module

    predictions = module.predictions

    def stopped(*words, **options):
        for count, each in enumerate(predictions(*words, **options)):
            if count == 40:
                raise KeyboardInterrupt
            yield each

    line = f"predict --model {home}/run --data {home}/images --out guesses.csv --batch-size 16"
    with monkeypatch.context() as patch:
        patch.setattr(module, "predictions", stopped)
        answer = graphkd(line, 130)
    assert answer.err[-2:] == [
        "interrupted: whole lines are kept in guesses.csv.part",
        "try:   run the same command again: it goes on there",
    ]
    assert not Path("guesses.csv").exists()
    graphkd.refused(
        f"{line} --top 1",
        "guesses.csv.part was begun with other top",
        "remove it to begin anew, or choose another file to write",
    )
    graphkd(line)
    graphkd(f"predict --model {home}/run --data {home}/images --out whole.csv --batch-size 16")
    assert Path("guesses.csv").read_text() == Path("whole.csv").read_text()


def test_another_file_in_the_way_is_exit_code_one(graphkd, home):
    shutil.copytree(home / "images", "pool")
    image = Path("pool/one/3.png")
    (one,) = graphkd.json(f"predict --model {home}/run --data {image}")["predictions"]
    target = Path("sorted") / one["classes"][0] / "one" / "3.png"
    target.parent.mkdir(parents=True)
    target.write_text("mine")
    answer = graphkd(f"predict --model {home}/run --data pool --out a.csv --copy sorted", 1)
    assert "another file is in the way of 1, such as one/3.png" in answer.out
    assert target.read_text() == "mine"


def test_what_an_interrupted_copy_left_is_no_answer_to_another_question(graphkd, home):
    Path("few").mkdir()
    for name in ("3", "4"):
        shutil.copy(home / "images" / "one" / f"{name}.png", "few")
    line = f"predict --model {home}/run --out guesses.csv"
    Path("sorted").mkdir()
    for name in ("zero", "one", "two", "three"):
        (Path("sorted") / name).write_text("a file where a folder is to be")
    graphkd.refused(f"{line} --data few --copy sorted", "cannot write sorted/", "free some space")
    for other, what in ((f"--data {home}/images", "root and images"), ("--data few --top 1", "top")):
        graphkd.refused(f"{line} {other}", f"guesses.csv.part was begun with other {what}", "remove it to begin anew")
    shutil.rmtree("sorted")
    assert graphkd.json(f"{line} --data few --copy sorted")["placed"]
    assert len(list(Path("sorted").rglob("*.png"))) == len(table("guesses.csv")) == 2


def test_no_image_that_can_be_read_is_exit_code_two_on_standard_output_too(graphkd, home):
    Path("gone.txt").write_text("nowhere.png\n")
    for more in ("", " --json"):
        answer = graphkd.refused(
            f"predict --model {home}/run --data gone.txt{more}", "none of 1 images can be read", "look at the files"
        )
        assert "nowhere.png" in answer.out


def test_a_full_disk_keeps_what_is_whole(graphkd, home, monkeypatch):
    def full(file, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphkd.deploy.journal._add", full)
    graphkd.refused(
        f"predict --model {home}/run --data {home}/images --out a.csv",
        "cannot write a.csv.part: No space left on device",
        "free some space",
    )
    assert not Path("a.csv").exists()


def test_int8_is_compared_stored_scored_and_asked(graphkd, home, exported):
    about = json.loads((exported / "export.json").read_text())["int8"]
    assert (about["calibrated_on"], about["images"]) == (48, 12)  # 48 to train on, 12 held out
    assert about["agreement"] >= 0.9
    assert about["bytes"]["int8"] == (exported / "model.int8.onnx").stat().st_size
    assert about["size_ratio"] == pytest.approx(about["bytes"]["int8"] / about["bytes"]["float"])
    assert {"median", "p10", "p90", "calls", "threads"} == set(about["latency_ms"]["int8"])
    line = f"--data {home}/images"
    scores = graphkd.json(f"evaluate --model {exported}/model.int8.onnx {line}")
    assert scores["images"] == 60
    graphkd(f"predict --model {exported}/model.int8.onnx {line} --out int8.csv")
    graphkd(f"predict --model {exported} {line} --out float.csv")
    graphkd(f"predict --model {home}/run {line} --out torch.csv")
    same = [a["class"] == b["class"] for a, b in zip(table("float.csv"), table("torch.csv"), strict=True)]
    assert all(same)
    right = sum(row["name"].startswith(f"{row['class']}/") for row in table("int8.csv")) / 60
    assert right == pytest.approx(scores["top1"])


def test_int8_of_other_images_and_of_images_that_are_gone(graphkd, home, exported, tmp_path):
    shutil.copytree(home / "run", "run")
    shutil.copytree(home / "images" / "one", "loose")
    found = graphkd.json("export run --formats onnx --int8 --calibration loose --out files")["int8"]
    assert (found["calibrated_on"], found["images"], found["top1_float"]) == (8, 7, None)
    assert (
        "the same answer for"
        in graphkd(f"export run --formats onnx --int8 --calibration {home}/images --out files").out
    )
    graphkd("export run --formats onnx --out files")
    assert not Path("files/model.int8.onnx").exists()  # it might be of other weights
    options = Path("run/run.yaml")
    options.write_text(options.read_text().replace(f"{home}/images", "gone"))
    before = {path: path.stat().st_mtime_ns for path in Path("run/export").iterdir()}
    assert Path("run/export/model.int8.onnx") in before
    graphkd.refused(
        "export run --formats onnx --int8", "the images of run cannot be opened", "give --calibration FOLDER"
    )
    assert before == {path: path.stat().st_mtime_ns for path in Path("run/export").iterdir()}
    options.unlink()
    graphkd.refused(
        "export run --formats onnx --int8", "run does not say where its images are", "give --calibration FOLDER"
    )
    Path("loose/bad.png").write_text("no image")
    for image in Path("loose").glob("?.png"):
        image.write_text("no image")
    for image in Path("loose").glob("??.png"):
        image.unlink()
    graphkd.refused("export run --formats onnx --int8 --calibration loose --out bad", "can be read")
    assert not Path("bad/model.int8.onnx").exists()


def test_a_run_of_a_trainer_is_shown_what_it_was_scored_on(graphkd, class_folders):
    from graphkd import Step, TrainConfig, Trainer, Views, create_student, open_folder
    from graphkd.cli.opened import open_classifier
    from graphkd.data.transforms import RandomCropView, ResizeView
    from graphkd.step import labelled_cross_entropy

    images = open_folder("images")
    views = Views(images, student=RandomCropView(32), labels=True)
    scored = Views(images, student=ResizeView((32, 48), "bilinear"), labels=True)
    config = TrainConfig(epochs=1, batch_size=16, progress=False, trackers=())
    step = Step(create_student("test_efficientnet", 5), task=labelled_cross_entropy)
    Trainer(step, views, None, config, "mine", scored=scored).fit()
    assert open_classifier(Path("mine")).view == ResizeView((32, 48), "bilinear")
    last = json.loads(Path("mine/scores.json").read_text())
    right = sum(count for row, column, count in last["confusion"] if row == column)
    assert graphkd.json("evaluate --model mine --data images")["top1"] == pytest.approx(right / 60)
    assert graphkd.json("predict --model mine --data images --out a.csv")["images"] == 60


LATER = [
    ("predict --model damaged --data images", "damaged/student.json is damaged", "train again, or restore the file"),
    ("predict --model run --data empty", "empty holds no image", "expected files that end in .avif"),
    ("predict --model run --data names.bin", "names.bin is neither an image nor a text file of paths", "give a folder, an image, or a UTF-8 text file"),
    ("predict --model run --data blank.txt", "blank.txt names no image", "write the path of an image a line, each once"),
    ("predict --model run --data twice.txt", "twice.txt names a.png twice", "write the path of an image a line, each once"),
    ("predict --model run --data gone.txt --out a.csv", "none of 1 images can be read, such as nowhere.png", "look at the files"),
    ("predict --model run --data digits --out a.csv --copy sorted", "only images that are files can be put into folders", "unpack shards and data sets first"),
    ("predict {t} --data images", "tells classes apart by their names, and these images have none", "give --classes names.txt"),
    ("predict --model run --data images --out notes.csv", "notes.csv.part is no journal of predictions", "remove it, or choose another file to write"),
    ("predict --model run --data images --device cuda:99", "there is no device 'cuda:99'", "give --device auto"),
    ("predict --model run --data images --max-megapixels 0.00001 --out a.csv", "none of 60 images can be read", "look at the files"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "what", "todo"), LATER, ids=lambda each: str(each)[:50])
def test_what_the_images_and_networks_say(graphkd, home, teacher, line, what, todo):
    for name in ("run", "images"):
        shutil.copytree(home / name, name)
    Path("damaged").mkdir()
    Path("damaged/student.json").write_text("{")
    Path("empty").mkdir()
    Path("names.bin").write_bytes(b"\xff\xfe")
    for name, text in {
        "blank.txt": "\n",
        "twice.txt": "a.png\n./a.png\n",
        "gone.txt": "nowhere.png\n",
        "notes.csv.part": "mine\n",
    }.items():
        Path(name).write_text(text)
    graphkd.refused(line.format(t=teacher), what, todo)
    assert not Path("a.csv").exists()
    assert Path("notes.csv.part").read_text() == "mine\n"


def test_parquet_needs_its_package_before_the_first_image(graphkd, home, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    graphkd.refused(
        f"predict --model {home}/run --data {home}/images --out a.parquet",
        "needs the package 'pyarrow'",
        "pip install 'graphkd[parquet]'",
    )
    assert not list(Path().glob("a.*"))


def test_the_page_of_production_runs_from_top_to_bottom(graphkd, home, exported, capsys):
    """And what it makes of an image without torch is what graphkd makes of it, bit for bit."""
    import numpy as np
    from PIL import Image

    from graphkd.data.transforms import CenterView
    from graphkd.deploy.sessions import onnx_scores
    from tests.pages import ROOT, blocks

    shutil.copytree(home / "run", "runs/photos-1")
    shutil.copytree(home / "images", "new-photos")
    space = {}
    for block in (each for each in blocks("python") if each.page == ROOT / "docs" / "production.md"):
        exec(compile(block.text, "docs/production.md", "exec"), space)
    assert len(table("guesses.csv")) == 60
    noise = np.random.default_rng(0)
    for number, sides in enumerate([(32, 32), (50, 41), (41, 50), (33, 100), (97, 64)]):
        Image.fromarray(noise.integers(0, 256, (*sides, 3), np.uint8)).save(f"{number}.png")
        own = CenterView(32)(Image.open(f"{number}.png"))
        assert np.array_equal(space["pixels"](f"{number}.png")[0], own.numpy()), sides
        scores = onnx_scores(exported / "model.int8.onnx")(own[None])
        name, confidence = space["guess"](f"{number}.png")
        assert name == sorted(path.name for path in Path("new-photos").iterdir())[int(scores.argmax())]
        assert confidence == pytest.approx(float(scores.softmax(1).max()), abs=1e-6)
        assert served(space["app"], Path(f"{number}.png").read_bytes()) == (
            "200 OK", {"class": name, "confidence": round(confidence, 4)}
        )  # fmt: skip
    status, said = served(space["app"], b"no image")
    assert (status, said) == (
        "400 Bad Request",
        {"error": "expected an image of at most 16777216 bytes, found 8 bytes"},
    )
    assert served(space["app"], b"")[0] == "400 Bad Request"


def served(app, body):
    """Status and JSON of a request to a WSGI application."""
    statuses = []
    environ = {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
    answer = app(environ, lambda status, headers: statuses.append(status))
    return statuses[0], json.loads(b"".join(answer))
