"""Pictures of quality without labels, and what a page says of it."""

import json
import shutil

import pytest
import torch

from graphkd.errors import CheckpointError, MissingFeatureError, ShapeError
from graphkd.pictures import draw_class_bars, draw_guesses, draw_reliability
from graphkd.pictures.canvas import label
from graphkd.pictures.facts import class_agreement
from graphkd.pictures.gallery import gallery
from graphkd.pictures.html import write_html_report
from graphkd.training.quality import Answers, Quality, ask
from tests.pictures.conftest import CLASSES, colours, teacher, train

PAIRS = [(0, 0, 6), (0, 1, 2), (0, 2, 3), (2, 2, 4)]
NAMES = ["cat", "dog", "a $horse$"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a run that was compared with its teacher."""
    return train(tmp_path_factory.mktemp("runs") / "two", answers=ask(teacher, colours(24, 4))).run


def bars(axis):
    return [round(bar.get_width(), 6) for bar in axis.patches]


def test_agreement_by_class_by_hand():
    keys = ("class", "teacher", "student", "agreement", "taken_for")
    assert [tuple(row[key] for key in keys) for row in class_agreement(PAIRS, 3, NAMES)] == [
        ("cat", 11, 6, 6 / 11, "a $horse$"),
        ("dog", 0, 2, None, None),
        ("a $horse$", 4, 7, 1.0, None),
    ]
    assert [row["class"] for row in class_agreement(PAIRS, 3, ["two", "names"])] == ["0", "1", "2"]


def test_bars_of_both_by_class():
    figure = draw_class_bars(class_agreement(PAIRS, 3, NAMES))
    counts, shares = figure.axes
    assert bars(counts) == [11, 4, 0, 6, 7, 2]  # the teacher's, then the student's; the teacher's commonest first
    assert [text.get_text() for text in counts.get_yticklabels()] == ["cat", r"a \$horse\$", "dog"]
    assert bars(shares) == pytest.approx([600 / 11, 100])
    assert [text.get_text() for text in shares.texts] == ["55", "100"]


def test_of_many_classes_those_that_differ_most_are_drawn():
    rows = class_agreement([(number, 0, number + 1) for number in range(50)], 50, None)
    counts = draw_class_bars(rows).axes[0]
    assert "the 30 of 50 classes that differ most" in counts.get_title()
    assert {text.get_text() for text in counts.get_yticklabels()} == {"0", *map(str, range(21, 50))}


def test_reliability_shows_agreement_and_how_many():
    bins = torch.zeros(3, 4, dtype=torch.float64)
    bins[:, 1], bins[:, 3] = torch.tensor([4.0, 1.6, 1.0]), torch.tensor([12.0, 11.4, 12.0])
    above, below = draw_reliability(bins).axes
    assert [bar.get_height() for bar in above.patches] == [0, 25, 0, 100]
    assert [bar.get_height() for bar in below.patches] == [0, 25, 0, 75]
    assert list(above.lines[0].get_xdata()) == pytest.approx([40, 95])
    assert "calibration error 7.5 %" in above.get_title()  # (0.6 + 0.6) / 16


def test_images_with_both_guesses():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    figure = draw_guesses(images, [(0, 0.9), (2, 0.5)], [(1, 0.8), (2, 1.0)], NAMES)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["dog 80", r"a \$horse\$ 100"]
    assert [axis.get_xlabel() for axis in figure.axes[:2]] == ["cat 90", r"a \$horse\$ 50"]


@pytest.mark.parametrize(("draw", "error"), [
    (lambda: draw_class_bars([]), MissingFeatureError),
    (lambda: draw_reliability(torch.ones(2, 4)), ShapeError),
    (lambda: draw_reliability(torch.zeros(3, 4)), MissingFeatureError),
    (lambda: draw_guesses(torch.zeros(0, 3, 8, 8), [], []), MissingFeatureError),
    (lambda: draw_guesses(torch.zeros(2, 3, 8, 8), [(0, 1.0)], [(0, 1.0)]), ShapeError),
])  # fmt: skip
def test_what_cannot_be_drawn(draw, error):
    with pytest.raises(error):
        draw()


def test_the_page_begins_with_quality_and_names_do_no_harm(compared):
    first = gallery(compared)[0]
    assert (first.key, first.absent, first.warnings) == ("quality", [], [])
    names = [picture.name for picture in first.pictures]
    assert names[:2] == ["quality-classes", "quality-reliability"]
    assert names[-1] == "quality-uncertain"
    page = write_html_report(compared, compared / "page.html").read_text()
    kept = json.loads((compared / "quality.json").read_text())
    assert f"<td>{100 * kept['agreement']:.2f}</td>" in page
    places = [page.index(f'id="{name}"') for name in ("quality", "quality-classes", "summary", "curves", "relations")]
    assert places == sorted(places)
    assert page.index('id="curves"') < page.index("<h3>Accuracy</h3>")  # pictures before tables
    assert "<script" not in page
    names = {text.get_text() for text in first.pictures[0].figure.axes[0].get_yticklabels()}
    assert names == {label(name) for name in CLASSES}


def test_a_collapse_is_told_on_the_page(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "run")
    path = tmp_path / "run" / "quality.json"
    kept = json.loads(path.read_text()) | {"collapsed": True, "student_classes": 1.2, "teacher_classes": 2.9}
    path.write_text(json.dumps(kept))
    told = "the student uses 1.2 classes in effect and its teacher 2.9 on 24 images"
    assert told in gallery(tmp_path / "run")[0].warnings[0]
    assert told in write_html_report(tmp_path / "run").read_text()


def test_a_run_without_labels_points_to_its_quality(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "run")
    (tmp_path / "run" / "scores.json").unlink(missing_ok=True)
    last = gallery(tmp_path / "run")[-1]
    assert (last.key, last.text, last.absent) == ("classes", "No labels: see Quality.", [])


def test_a_teacher_that_is_hardly_surer_than_chance_is_told_on_the_page(compared, tmp_path):
    shutil.copytree(compared, tmp_path / "run")
    path = tmp_path / "run" / "quality.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"teacher_confidence": 0.35}))
    assert "the teacher is hardly surer than chance" in gallery(tmp_path / "run")[0].warnings[-1]


def test_a_run_that_watched_nothing_has_no_images_to_show(tmp_path):
    train(tmp_path / "run", watch=None, answers=ask(teacher, colours(24, 4)), epochs=1)
    first = gallery(tmp_path / "run")[0]
    assert [picture.name for picture in first.pictures] == ["quality-classes", "quality-reliability"]
    assert "--watch 200" in first.absent[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 10**9}, "quality.json tells of 1000000000 classes"),
        ({"confusion": [[0, 7, 1]]}, "a class that there is not"),
        ({"confusion": [[0, 1, -1]]}, "confusions that are no counts"),
        ({"reliability": [[1, 2]]}, "no reliability by bins"),
        ({"collapsed": "yes"}, "no reliability by bins"),
        ({"agreement": "high"}, "agreement is no number"),
    ],
)
def test_a_damaged_quality_is_refused(compared, tmp_path, change, message):
    shutil.copytree(compared, tmp_path / "run")
    path = tmp_path / "run" / "quality.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        write_html_report(tmp_path / "run")


def test_what_is_shown_are_the_images_on_which_they_differ(compared):
    from graphkd.training.watch import Watched

    watched = Watched.read(compared)
    quality = Quality(Answers.of(watched.student[4].logits), Answers.of(watched.teacher.logits))
    unsure = gallery(compared)[0].pictures[-1].figure
    sure = [int(axis.get_xlabel().split()[-1]) for axis in unsure.axes if axis.get_visible()]
    assert sure == [round(100 * float(quality.student.confidence[at])) for at in quality.least_certain(16)]
