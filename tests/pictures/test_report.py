"""The gallery and the HTML page of a run folder."""

import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch

from graphkd.errors import CheckpointError
from graphkd.pictures.facts import Facts, per_class
from graphkd.pictures.gallery import gallery
from graphkd.pictures.html import write_html_report
from graphkd.training.watch import Watched
from tests.pictures.conftest import CLASSES, train


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def page(report):
    return report.read_text(encoding="utf-8")


def test_every_section_has_its_pictures(run):
    sections = {section.key: section for section in gallery(run)}
    assert {key: [each.name for each in section.pictures] for key, section in sections.items()} == {
        "summary": ["curves"],
        "relations": ["relations", "relations-proxies"],
        "graph": ["graph"],
        "spectra": ["spectrum-samples", "spectra-channels"],
        "embeddings": ["embeddings", "embeddings-epochs"],
        "classes": ["confusion"],
    }
    assert [section.absent for section in sections.values()] == [[]] * 6
    pair, epochs = (each.figure for each in sections["embeddings"].pictures)
    assert [axis.get_title() for axis in pair.axes] == ["student, epoch 4", "teacher"]
    assert [axis.get_title() for axis in epochs.axes] == ["epoch 0", "epoch 2", "epoch 4"]


def test_the_page_is_whole_and_asks_for_nothing(run, page):
    found = Page(page)
    images = found.of("img")
    assert len(images) == 9
    assert all(each["src"].startswith("data:image/png;base64,") and each["alt"] for each in images)
    assert not [tag for tag, _ in found.tags if tag in ("script", "iframe", "object", "embed")]
    assert all(each["href"].startswith("data:") for each in found.of("link"))
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"data:[^\"']*", "", page))
    policy = next(each["content"] for each in found.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert len(page) < 4 * 2**20


def test_the_page_tells_of_the_run(run, page):
    text = " ".join(" ".join(Page(page).text).split())
    for told in ("updates 20", "scored images 24", "watched images 20", "epochs 4 of 4", "batch_size 8", "torch", "lr"):
        assert told in text, told
    scores = json.loads((run / "scores.json").read_text())
    assert f"{100 * scores['top1']:.2f}" in text


def test_names_are_shown_and_not_run(page):
    found = Page(page)
    assert [name for name in CLASSES if any(name == data for data in found.text)] == CLASSES
    assert not [each for each in found.of("img") if not each["src"].startswith("data:")]
    assert "<script" not in page


def test_the_table_of_classes_counts_what_was_scored(run):
    rows = per_class(Facts.read(run).confusion, CLASSES)
    assert [row["class"] for row in rows] == CLASSES
    assert [row["images"] for row in rows] == [8, 8, 8]
    scores = json.loads((run / "scores.json").read_text())
    assert sum(row["right"] * row["images"] for row in rows) / 24 == pytest.approx(scores["top1"])


def test_the_same_run_gives_the_same_page(run, page, tmp_path):
    assert write_html_report(run, tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_a_run_that_watched_nothing_says_so(tmp_path):
    train(tmp_path / "run", watch=None, epochs=1)
    sections = {section.key: section for section in gallery(tmp_path / "run")}
    assert [key for key, section in sections.items() if section.pictures] == ["summary", "classes"]
    assert "graphkd distill --watch 200" in sections["embeddings"].absent[0]
    assert "graphkd distill --watch 200" in write_html_report(tmp_path / "run").read_text()


def test_an_interrupted_run_shows_what_it_has(run, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(run, part)
    for name in ("scores.json", "watched/student-00004.safetensors"):
        (part / name).unlink()
    kept = (part / "metrics.jsonl").read_text().splitlines()[:3]
    (part / "metrics.jsonl").write_text("\n".join(kept) + '\n{"update": 9, "ep')  # cut off while it was written
    sections = {section.key: section for section in gallery(part)}
    epochs = sections["embeddings"].pictures[1].figure
    assert [axis.get_title() for axis in epochs.axes] == ["epoch 0", "epoch 2"]
    assert "nothing was scored" in sections["classes"].absent[0]
    assert write_html_report(part).stat().st_size > 100_000
    (part / "metrics.jsonl").unlink()
    assert "no loss was read yet" in write_html_report(part).read_text()


def test_what_is_not_finite_is_told_and_the_rest_is_shown(run, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    path = broken / "watched" / "student-00004.safetensors"
    found = load_file(path)
    found["embedding"][3] = torch.nan
    save_file(found, path)
    sections = {section.key: section for section in gallery(broken)}
    assert "NaN or infinite: nothing to draw" in sections["relations"].absent[0]
    assert sections["relations"].pictures == []
    assert sections["spectra"].pictures
    assert sections["summary"].pictures


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.json", '{"classes": 99999999, "confusion": []}', "scores.json tells of 99999999 classes"),
        ("scores.json", '{"classes": 2, "confusion": [[5, 0, 1]], "top1": 0}', "is damaged"),
        ("scores.json", '{"classes": 2, "confusion": [[0, 0, "3"]], "top1": 0}', "confusions that are no counts"),
        ("scores.json", '{"classes": 2, "confusion": [[0, 0, 1]], "seconds": "9"}', "seconds is no number"),
        ("scores.json", "[1]", "scores.json is damaged .it holds no mapping"),
        ("results.json", '{"teacher": [1]}', "is damaged"),
        ("results.json", '{"teacher": {"clip": {"top1": "0.5"}}}', "top1 is no number"),
        ("run.yaml", "a: !!python/object/apply:os.system [exit 1]", "run.yaml is damaged"),
        ("student.json", '{"classes": [1]}', "classes are no names"),
        ("watched/about.json", '{"classes": null, "ids": [], "labels": null}', "do not fit together"),
        ("watched/about.json", '{"classes": null, "ids": 3, "labels": null}', "expected a list of names"),
        ("watched/about.json", '{"classes": null, "ids": ["a"], "labels": [1e999]}', "labels without a class"),
        ("watched/teacher.safetensors", "no tensors", "teacher.safetensors"),
    ],
)
def test_a_damaged_folder_is_refused(run, tmp_path, name, content, message):
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        write_html_report(damaged)
    assert not (damaged / "report.html").is_file() or (run / "report.html").is_file()


def test_lines_of_metrics_that_cannot_be_drawn_are_left_out(run, tmp_path, caplog):
    shutil.copytree(run, tmp_path / "odd")
    with (tmp_path / "odd" / "metrics.jsonl").open("a") as file:
        for line in (
            {"update": 99, "loss": 1.0},
            {"update": 99, "epoch": 4, "loss": "low"},
            {"update": 99, "epoch": []},
        ):
            file.write(json.dumps(line) + "\n")
    assert Facts.read(tmp_path / "odd").lines == Facts.read(run).lines
    assert caplog.text.count("is damaged") == 3
    write_html_report(tmp_path / "odd")


def test_a_file_of_another_name_among_the_looks_is_none(run, tmp_path):
    shutil.copytree(run, tmp_path / "more")
    (tmp_path / "more" / "watched" / "student-mine.safetensors").write_text("no tensors")
    assert sorted(Watched.read(tmp_path / "more").student) == [0, 2, 4]


def test_classes_of_one_name_are_shown_with_their_ids(tmp_path):
    (tmp_path / "student.json").write_text('{"classes": {"n1": "crane", "n2": "cat", "n0": "crane"}}')
    assert Facts.read(tmp_path).classes == ["crane (n1)", "cat", "crane (n0)"]
    (tmp_path / "student.json").write_text('{"classes": ["cat", "dog"]}')
    assert Facts.read(tmp_path).classes == ["cat", "dog"]
