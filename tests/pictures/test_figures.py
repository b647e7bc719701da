"""Each picture shows what it was given, in order, and refuses what it cannot show."""

import re
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from graphkd.errors import MissingFeatureError, NonFiniteError, OptionError, ShapeError
from graphkd.pictures import (
    Plane,
    draw_confusion,
    draw_curves,
    draw_embeddings,
    draw_proxy_graph,
    draw_relations,
    draw_spectra,
    save_picture,
)
from graphkd.pictures.canvas import label, picture_bytes

NAMES = ["cat", "dog", "horse"]


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def shown(axis):
    """The matrix that an axis shows."""
    return torch.from_numpy(np.asarray(axis.images[0].get_array()))


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


LABELS = torch.tensor([2, 0, 1, 0, 2, 2])


def test_what_is_not_finite_is_refused_by_name():
    bad, good = torch.full((3, 3), float("nan")), torch.eye(3)
    images = torch.zeros(3, 3, 8, 8)
    for draw, whose in (
        (lambda: draw_relations(good, bad), "student edges"),
        (lambda: draw_spectra({"layer": bad}), "student's spectrum of layer"),
        (lambda: draw_embeddings({"epoch 0": bad}), "embedding"),
        (lambda: draw_proxy_graph({"teacher": bad}, images), "teacher's edges"),
    ):
        with pytest.raises(NonFiniteError, match=f"9 of 9 values of the {whose} are NaN or infinite"):
            draw()


def test_a_proxy_graph_shows_images_names_and_the_strongest_edges():
    edges = {"teacher": random(9, 3), "student": random(9, 3, seed=1)}
    figure = draw_proxy_graph(edges, random(9, 3, 8, 8), torch.arange(9) % 3, NAMES)
    assert [axis.get_title() for axis in figure.axes] == ["teacher", "student"]
    for axis, weights in zip(figure.axes, edges.values(), strict=True):
        assert len(axis.images) == 9
        assert [text.get_text() for text in axis.texts] == NAMES
        (lines,) = axis.collections
        assert len(lines.get_segments()) == 18
        chosen = torch.arange(9)[(torch.arange(9) % 3).argsort(stable=True)]
        top = weights[chosen].topk(2).values.flatten()
        widths = torch.tensor(lines.get_linewidths())
        assert_close(widths.argsort(), top.argsort())  # the stronger the thicker


def test_no_image_of_a_proxy_graph_covers_another():
    boxes = [
        image.get_extent() for image in draw_proxy_graph({"t": random(40, 10)}, random(40, 3, 8, 8)).axes[0].images
    ]
    for i, (left, right, low, high) in enumerate(boxes):
        for east, west, south, north in boxes[:i]:
            wide, tall = min(right, west) - max(left, east), min(high, north) - max(low, south)
            assert min(wide, tall) < 0.02  # a hair's breadth of a side of 0.13


@pytest.mark.parametrize(("count", "width"), [(1, 1), (1, 3), (2, 1), (60, 100)])
def test_proxy_graphs_of_odd_sizes(count, width):
    figure = draw_proxy_graph({"student": random(count, width)}, torch.zeros(count, 3, 4, 4, dtype=torch.uint8))
    (axis,) = figure.axes
    assert len(axis.images) == min(count, 40)
    assert 1 <= len(axis.texts) <= 20
    assert picture_bytes(figure)


@pytest.mark.parametrize(("draw", "message"), [
    (lambda: draw_proxy_graph({}, torch.zeros(1, 3, 4, 4)), "no network has edges to class proxies"),
    (lambda: draw_spectra({}), "no maps were kept"),
    (lambda: draw_embeddings({}), "no embedding to draw"),
    (lambda: draw_curves([]), "no loss was read yet"),
])  # fmt: skip
def test_nothing_to_draw(draw, message):
    with pytest.raises(MissingFeatureError, match=message):
        draw()


def test_spectra_pair_the_levels_and_show_the_mean():
    ours, theirs = {"layer1": random(5, 8).sort().values, "layer2": random(5, 4)}, {"blocks.0": random(5, 16)}
    figure = draw_spectra(ours, theirs)
    axes = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in axes] == ["layer1 / blocks.0", "layer2"]
    teacher, student = axes[0].lines
    assert_close(torch.tensor(student.get_ydata()), ours["layer1"].mean(0))
    assert_close(torch.tensor(student.get_xdata()), torch.arange(1, 9) / 8)
    assert teacher.get_label() == "teacher, 16 nodes"
    assert picture_bytes(draw_spectra({"one": torch.zeros(1, 1)}))


def test_embeddings_share_one_plane_fitted_on_the_last():
    early, late = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)), random(30, 5, seed=1)
    labels, proxies = torch.arange(30) % 3, random(3, 5, seed=2)
    figure = draw_embeddings({"epoch 0": early, "epoch 9": late}, labels, NAMES, {"epoch 9": proxies})
    assert [axis.get_title() for axis in figure.axes] == ["epoch 0", "epoch 9"]
    assert legend(figure) == [*NAMES, "proxies"]
    plane = Plane.fit(late)
    for axis, x in zip(figure.axes, (early, late), strict=True):
        for number in range(3):
            points = torch.as_tensor(axis.collections[number].get_offsets().data).float()
            assert_close(points, plane(x)[labels == number])
    stars = torch.as_tensor(figure.axes[1].collections[3].get_offsets().data).float()
    assert_close(stars, plane(proxies))
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    rows = torch.nn.functional.normalize(late, dim=1)
    spread = torch.linalg.eigvalsh((rows - rows.mean(0)).T @ (rows - rows.mean(0)))
    assert sum(plane.share) == pytest.approx(float(spread[-2:].sum() / spread.sum()), rel=1e-4)


def test_networks_of_different_widths_have_a_plane_each():
    maps = {"student": random(30, 5), "teacher": random(30, 8, seed=1)}
    figure = draw_embeddings(maps, torch.arange(30) % 3, NAMES, shared=False)
    for axis, x in zip(figure.axes, maps.values(), strict=True):
        points = torch.cat([torch.as_tensor(each.get_offsets().data).float() for each in axis.collections])
        assert_close(points, Plane.fit(x)(x)[(torch.arange(30) % 3).argsort(stable=True)])
        assert axis.get_xlabel().startswith("component 1")
    with pytest.raises(ShapeError, match="the plane is one of 8 features"):
        draw_embeddings(maps)


def test_a_plane_is_the_same_for_the_same_points_in_any_order():
    x = random(20, 4)
    assert_close(Plane.fit(x)(x), Plane.fit(x.flip(0))(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("count", "width", "classes"), [(1, 4, 1), (5, 1, 1), (3, 4, 3), (80, 4, 70)])
def test_embeddings_of_odd_sizes(count, width, classes):
    labels = torch.arange(count) % classes
    figure = draw_embeddings({"epoch 0": random(count, width)}, labels, [f"class {i}" for i in range(classes)])
    assert ("other classes" in legend(figure)) == (classes > 18)
    assert picture_bytes(figure)


def lines(scored=True):
    found = []
    for update in range(1, 101):
        terms = {"loss": 5 / update, "prg/ce": 3 / update, "prg/edge": 2 / update, "gradient": 1.0, "lr": 1 / update}
        found.append({"update": update, "epoch": update / 10, **terms, "images_per_second": 10.0})
        if scored and update % 10 == 0:
            found.append({"update": update, "epoch": update // 10, "top1": 0.9 - 0.5 / update, "top5": 0.95})
    return found


@pytest.mark.parametrize("scored", [True, False])
def test_curves_show_every_term_by_its_name(scored):
    figure = draw_curves(lines(scored), teacher=0.98)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["Training loss", *(["Accuracy on held-out images"] if scored else []), "Learning rate"]
    by_name = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(by_name) == {"prg/ce", "prg/edge", "total"}
    assert list(by_name["prg/ce"].get_ydata()) == [3 / update for update in range(1, 101)]
    assert list(figure.axes[-1].lines[0].get_ydata()) == [1 / update for update in range(1, 101)]
    if scored:
        accuracy = {line.get_label(): line for line in figure.axes[1].lines}
        assert list(accuracy["top-1"].get_ydata()) == [100 * (0.9 - 0.5 / update) for update in range(10, 101, 10)]
        assert set(accuracy["teacher, top-1"].get_ydata()) == {98.0}


def test_epochs_are_whole_and_no_legend_hides_a_curve():
    figure = draw_curves([{**line, "epoch": line["epoch"] / 5} for line in lines()])  # two epochs
    assert picture_bytes(figure)
    for axis in figure.axes:
        assert all(tick == round(tick) for tick in axis.get_xticks())
    for axis in figure.axes[:-1]:
        assert axis.get_legend().get_window_extent().y1 < axis.get_window_extent().y0


@pytest.mark.parametrize(("epochs", "shown"), [([1, 2, 2.5, 3], [1, 2, 3]), ([0.5, 1, 1.5, 2], [0.5, 1, 1.5, 2])])
def test_a_line_between_whole_epochs_is_no_kink(epochs, shown):
    figure = draw_curves([{"epoch": epoch, "loss": 1.0, "a/b": 1.0, "lr": 0.1} for epoch in epochs])
    assert all(list(line.get_xdata()) == shown for axis in figure.axes for line in axis.get_lines())


def test_no_two_curves_of_a_picture_share_a_colour():
    for terms, scored in ((8, False), (4, True)):
        scores = {"top1": 0.5, "top5": 0.6, "agreement": 0.4} if scored else {}
        found = [
            {"epoch": epoch, **{f"term{i}": 1.0 for i in range(terms)}, "loss": terms, "lr": 1.0} for epoch in (1, 2)
        ]
        axes = draw_curves([*found, {"epoch": 2, **scores}], teacher=0.9).axes[:-1]
        colours = [line.get_color() for axis in axes for line in axis.lines]
        assert len(set(colours)) == len(colours) == terms + 1 + 4 * scored


@pytest.mark.parametrize(("terms", "scale"), [
    ({"a": 1.0, "b": 0.5}, "linear"),
    ({"a": 1.0, "b": 0.01}, "log"),
    ({"a": -1.0, "b": 0.5}, "linear"),
    ({"a": -1.0, "b": 0.01}, "symlog"),
])  # fmt: skip
def test_a_term_that_dwarfs_the_others_does_not_flatten_them(terms, scale):
    found = [{"epoch": epoch, "loss": sum(terms.values()), "lr": 1.0, **terms} for epoch in (1, 2)]
    assert draw_curves(found).axes[0].get_yscale() == scale


@pytest.mark.parametrize("classes", [1, 3, 100])
def test_confusion(classes):
    counts = torch.eye(classes, dtype=torch.int64) * 20
    counts[0, -1] += 5
    figure = draw_confusion(counts, [f"class {i}" for i in range(classes)])
    assert_close(shown(figure.axes[0]).float(), 100 * counts / counts.sum(1, keepdim=True))
    assert len(figure.axes[0].texts) == {1: 1, 3: 4, 100: 0}[classes]


def test_names_are_drawn_as_they_are():
    assert label("$x^2$ <b>\n\x00y") == r"\$x^2\$ <b> \x00y"
    assert label("a rather long name of a class 17") == "a rather long n…class 17"
    assert len(label("a" * 100)) == 24


def test_pictures_as_files(tmp_path):
    names = ["$\\frac{1", "--></text><script>alert(1)</script>", "a--b"]
    draw = partial(draw_confusion, torch.eye(3, dtype=torch.int64), names)
    for name, magic in {"a.png": b"\x89PNG", "deep/a.svg": b"<?xml"}.items():
        first, again = (save_picture(draw(), tmp_path / place / name).read_bytes() for place in ("one", "two"))
        assert first.startswith(magic)
        assert first == again
    assert not re.search(rb"<\s*script", first)
    with pytest.raises(OptionError, match="pictures are png or svg, found 'a.pdf'"):
        save_picture(draw(), tmp_path / "a.pdf")


def test_the_users_own_style_is_left_alone_and_not_used():
    import matplotlib

    with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "red"}):
        figure = draw_curves(lines())
        assert matplotlib.rcParams["font.size"] == 40
    assert picture_bytes(figure) == picture_bytes(draw_curves(lines()))


def test_relations_show_both_matrices_and_their_difference_by_class():
    teacher, student = random(6, 6), random(6, 6, seed=1)
    figure = draw_relations(teacher, student, LABELS, NAMES)
    order = torch.tensor([1, 3, 2, 0, 4, 5])
    axes = figure.axes[:3]
    assert len(axes) == 3
    for axis, values in zip(axes, (teacher, student, student - teacher), strict=True):
        assert_close(shown(axis).float(), values[order][:, order])
    first, second, third = (axis.images[0] for axis in axes)
    low, high = float(torch.stack([teacher, student]).min()), float(torch.stack([teacher, student]).max())
    assert first.get_clim() == second.get_clim() == pytest.approx((low, high))
    most = float((student - teacher).abs().max())
    assert third.get_clim() == pytest.approx((-most, most))
    assert f"mean |Δ| = {float((student - teacher).abs().mean()):.3f}" in axes[2].get_title()
    assert [text.get_text() for text in axes[0].get_yticklabels()] == NAMES
    borders = sorted(line.get_ydata()[0] for line in axes[0].lines if line.get_xdata()[0] == 0)
    assert borders == [1.5, 2.5]  # between the classes: 2 cats, 1 dog, 3 horses


@pytest.mark.parametrize("columns", ["sample", "class"])
@pytest.mark.parametrize("counts", [[5] * 40, [100, 1, 2, 1, 60, 1, 1, 1, 20, 1]], ids=["many", "small"])
def test_no_name_beside_a_relation_touches_another(counts, columns):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    edges = random(len(labels), len(labels) if columns == "sample" else len(counts))
    names = [f"class {number}" for number in range(len(counts))]
    figure = draw_relations(edges, edges, labels, names, columns=columns)
    assert picture_bytes(figure)  # which lays it out
    rows = [text for text in figure.axes[0].get_yticklabels() if text.get_text()]
    boxes = sorted((text.get_window_extent() for text in rows), key=lambda box: box.y0)
    assert all(one.y1 <= other.y0 for one, other in pairwise(boxes))
    below = [text for text in figure.axes[1].get_xticklabels() if text.get_text()]
    points = [figure.axes[1].transData.transform((text.get_position()[0], 0))[0] for text in below]
    letters = below[0].get_fontsize() * figure.dpi / 72
    assert all(other - one >= letters / np.sin(np.pi / 3) for one, other in pairwise(points))
    assert {names[counts.index(max(counts))], names[0]} <= {text.get_text() for text in rows}


def test_relations_to_proxies_keep_the_order_of_the_classes():
    teacher, student = random(6, 3), random(6, 3, seed=1)
    figure = draw_relations(teacher, student, LABELS, NAMES, columns="class")
    assert_close(shown(figure.axes[1]).float(), student[[1, 3, 2, 0, 4, 5]])
    assert [text.get_text() for text in figure.axes[1].get_xticklabels()] == NAMES


def test_the_order_of_the_samples_does_not_matter():
    teacher, labels = random(30, 4), torch.arange(30) % 4
    shuffle = labels.argsort(stable=True)
    pictures = [
        picture_bytes(draw_relations(t, 0.5 * t, by, columns="class"))
        for t, by in ((teacher, labels), (teacher[shuffle], labels[shuffle]))
    ]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(("draw", "arguments", "message"), [
    (draw_relations, (torch.ones(4, 4), torch.ones(4, 3)), r"teacher edges \(4, 4\) and student edges \(4, 3\) differ"),
    (draw_relations, (torch.ones(4, 3), torch.ones(4, 3)), "edges between samples are square, found .*: say columns='class'"),
    (draw_relations, (torch.ones(4, 4), torch.ones(4, 4), torch.zeros(3)), "expected a label for each of 4 samples"),
    (draw_relations, (torch.ones(2, 2), torch.ones(2, 2), torch.tensor([0, 3]), NAMES), "labels 0 to 3 do not fit 3 class names"),
    (partial(draw_relations, columns="proxy"), (torch.ones(2, 2), torch.ones(2, 2)), "columns are 'sample' or 'class', found 'proxy'"),
    (draw_proxy_graph, ({"teacher": torch.ones(2, 2)}, torch.zeros(3, 3, 4, 4)), r"3 images and edges \(2, 2\)"),
    (Plane.fit(torch.eye(4)), (torch.ones(2, 3),), r"the plane is one of 4 features, found rows \(2, 3\)"),
])  # fmt: skip
def test_what_does_not_fit(draw, arguments, message):
    with pytest.raises((ShapeError, OptionError), match=message):
        draw(*arguments)


@pytest.mark.parametrize("samples", [1, 2])
def test_relations_of_one_sample_or_class(samples):
    edges = torch.ones(samples, samples)
    figure = draw_relations(edges, edges, torch.zeros(samples, dtype=torch.long), ["only"])
    assert "mean |Δ| = 0.000" in figure.axes[2].get_title()
    assert picture_bytes(figure)
