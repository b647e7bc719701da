"""8-bit integers: what is written, what is compared, which way is taken."""

import os

import pytest
import torch
from torch import nn

from graphkd.cli.errors import UsageError
from graphkd.cli.exported import open_onnx
from graphkd.cli.opened import onnx_file
from graphkd.data.tolerant import Portion
from graphkd.data.views import Batch
from graphkd.deploy.int8 import WAYS, best_int8, compare, quantise
from graphkd.deploy.rounding import on_grid, round_weights
from graphkd.deploy.sessions import latency, onnx_scores, session
from graphkd.errors import DataError, FileError

for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name, reason=f"{name} is not installed: pip install 'graphkd[export]'")


@pytest.fixture(scope="module")
def images():
    return torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model(tmp_path_factory, images):
    """A small network in floating point; classes lie at different brightness."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).eval()
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    batch = torch.export.Dim("batch")
    made = torch.onnx.export(
        net,
        (images[:2],),
        dynamo=True,
        dynamic_shapes=({0: batch},),
        input_names=["images"],
        output_names=["scores"],
        verbose=False,
    )
    made.save(str(path))
    return path


def types(path):
    import onnx

    graph = onnx.load(path).graph
    weights = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4]
    scales = {each.name: list(each.dims) for each in graph.initializer if "scale" in each.name}
    return weights, scales


def test_weights_have_a_scale_a_channel_and_scores_stay_near(model, images, tmp_path):
    out = tmp_path / "int8.onnx"
    quantise(model, out, images)
    weights, scales = types(out)
    assert [list(each.dims) for each in weights] == [[64, 3, 3, 3], [64, 64, 3, 3]]
    assert sum(dims == [64] for dims in scales.values()) >= 2
    exact, near = (onnx_scores(path)(images) for path in (model, out))
    assert float((exact - near).abs().max()) < 0.05 * float(exact.std(0).max() + exact.abs().max())
    assert os.listdir(tmp_path) == ["int8.onnx"]


def test_a_kernel_keeps_its_sum_where_the_nearest_integers_would_not():
    exact = torch.tensor(
        [[[127.0, 0.4, 0.4, 0.3], [-0.3, -0.4, -0.4, 0.0]], [[-254.0, 3.0, 0.9, 0.9], [1.2, 0.8, 4.0, 6.2]]]
    )
    found = on_grid(exact)
    steps = torch.tensor([1.0, 2.0])[:, None, None]
    assert torch.equal(found[0], torch.tensor([[127.0, 1, 0, 0], [0, -1, 0, 0]]))
    assert torch.equal(found[1, 0], torch.tensor([-254.0, 4, 0, 0]))  # -249.2 in steps of 2
    assert torch.equal((found / steps).round() * steps, found)
    assert bool(((found - exact).sum(2).abs() <= steps[..., 0] / 2 + 1e-6).all())


def test_rounded_weights_leave_the_mean_of_a_channel_where_it_was(model, images, tmp_path):
    import onnx

    def means(path):
        made = onnx.load(path)
        first = next(node for node in made.graph.node if node.op_type == "Conv")
        made.graph.output.append(onnx.helper.make_tensor_value_info(first.output[0], onnx.TensorProto.FLOAT, None))
        found = torch.from_numpy(
            session(made.SerializeToString()).run([first.output[0]], {"images": images.numpy()})[0]
        )
        weight = next(each for each in made.graph.initializer if each.name == first.input[1])
        return found.mean((0, 2, 3)), torch.tensor(onnx.numpy_helper.to_array(weight))

    path = tmp_path / "rounded.onnx"
    path.write_bytes(model.read_bytes())
    round_weights(path, images)
    (exact, weight), (near, rounded) = means(model), means(path)
    steps = rounded / (weight.abs().amax((1, 2, 3), keepdim=True) / 127)
    assert float((steps - steps.round()).abs().max()) < 1e-3
    assert float((exact - near).abs().max()) < 0.1 * float((weight - rounded).abs().max())  # borders differ a little


def test_the_layers_that_stay_in_floating_point():
    layers = list("abcdefghijklm")
    found = [WAYS[number].kept(layers) for number in range(3)]
    assert found == [[], ["a", "m"], ["a", "b", "c", "m"]]  # a sixth of 13 is 2.2


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_writes_a_model_that_runs(model, images, tmp_path, way, capsys):
    quantise(model, tmp_path / "int8.onnx", images[:20], way)  # a batch, and four that are left over
    assert onnx_scores(tmp_path / "int8.onnx")(images).shape == (40, 3)
    assert len(types(tmp_path / "int8.onnx")[0]) == (1 if way.first else 2)
    assert capsys.readouterr().out == ""


def test_ways_are_tried_until_one_is_good_else_the_best_is_taken(model, images, tmp_path, monkeypatch):
    out = tmp_path / "int8.onnx"
    assert list(best_int8(model, out, images, images[:20])) == [WAYS[0].name]
    shares = iter([0.25, 0.75, 0.5, 0.0, 0.1])

    def answers(scores, images):
        if not hasattr(answers, "expected"):
            answers.expected = torch.zeros(100)
            return answers.expected
        return torch.cat([torch.zeros(right := int(100 * next(shares))), torch.ones(100 - right)])

    monkeypatch.setattr("graphkd.deploy.int8._answers", answers)
    tried = best_int8(model, out, images, images[:20])
    assert set(tried) == {way.name for way in WAYS}
    assert list(tried.items())[-1] == (WAYS[1].name, 0.75)
    quantise(model, tmp_path / "second.onnx", images, WAYS[1])
    assert torch.equal(onnx_scores(out)(images), onnx_scores(tmp_path / "second.onnx")(images))


def test_what_is_compared_by_hand(model, images, tmp_path):
    answer = onnx_scores(model)(images).argmax(1)
    wrong = answer.clone()
    wrong[0] = (answer[0] + 1) % 3
    first = Batch(images[:30], images[:30], torch.arange(30), wrong[:30])
    second = Portion(Batch(images[30:], images[30:], torch.arange(30, 40), wrong[30:]), [])
    found = compare(model, model, [first, second, Portion(None, [])])
    assert found.numbers() == {"agreement": 1.0, "top1_float": 39 / 40, "top1_int8": 39 / 40}
    unlabelled = Batch(images, images, torch.arange(40))
    assert compare(model, model, [unlabelled]).numbers() == {"agreement": 1.0, "top1_float": None, "top1_int8": None}
    with pytest.raises(DataError, match="no image to compare on can be read"):
        compare(model, model, [Portion(None, [])])


def test_a_full_disk_leaves_nothing(model, images, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(FileError, match="No space left"):
        best_int8(model, tmp_path / "int8.onnx", images, images)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("export.json", "[]", "export.json is damaged: it does not describe a student"),
        ("export.json", "{}", "export.json is damaged: it does not describe a student"),
        ("model.onnx", "no model", "model.onnx is damaged: "),
        ("model.onnx", "", "model.onnx is damaged: "),
    ],
)
def test_a_damaged_export_says_so(model, tmp_path, name, content, what):
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    (tmp_path / "export.json").write_text('{"classes": ["a", "b", "c"], "size": 8}')
    assert onnx_file(tmp_path) == tmp_path / "model.onnx"
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=f"{what}.*: export the student again"):
        open_onnx(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").unlink()
    assert onnx_file(tmp_path) is None


def test_latency_has_quantiles_in_order(model, images):
    found = latency({"float": model, "again": model}, images[:1], seconds=0.1)
    assert set(found) == {"float", "again"}
    assert 0 < found["float"]["p10"] <= found["float"]["median"] <= found["float"]["p90"]
    assert found["float"]["calls"] == found["again"]["calls"] >= 1
