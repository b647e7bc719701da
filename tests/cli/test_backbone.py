"""A backbone without labels, from distillation to timm: no class name anywhere."""

import json
import shlex

import pytest
import timm
import torch

from graphkd.cli.main import main
from graphkd.training.run_folder import read_metrics
from tests.cli.conftest import write_digits

SMALL = "--student test_efficientnet --size 32 --no-flip --epochs 2 --batch-size 16 --lr 3e-3 --trackers '' --watch 8"


@pytest.fixture(scope="module")
def home(tmp_path_factory, digits, teacher_checkpoint):
    """A hundred loose images, and a backbone of them."""
    home = tmp_path_factory.mktemp("backbone")
    write_digits(home / "loose", digits, 100)
    line = f"distill --data {home}/loose --teacher {teacher_checkpoint} --student-head none --method rkd {SMALL}"
    assert main(shlex.split(f"{line} --run {home}/run --held-out 0.3 --store {home}/features --quiet --report")) == 0
    return home


def test_a_run_ends_with_its_quality(home):
    found = json.loads((home / "run" / "results.json").read_text())["quality"]
    assert (found["images"], found.keys() >= {"agreement", "cosine"}, "knn" in found) == (30, True, False)
    lines = [line for line in read_metrics(home / "run" / "metrics.jsonl") if "cosine" in line]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert found["best"]["agreement"] == max(line["agreement"] for line in lines)
    about = json.loads((home / "run" / "student.json").read_text())
    assert (about["num_classes"], about["classes"]) == (0, [])
    assert "nearest neighbours in common" in (home / "run" / "report.md").read_text()
    assert "nearest neighbours in common" in (home / "run" / "report.html").read_text()


def test_other_images_with_labels_score_it(graphkd, home, class_folders, teacher_checkpoint):
    line = f"evaluate --model {home}/run --data images"
    found = graphkd.json(line)["quality"]
    assert found.keys() >= {"knn", "linear_probe", "teacher_knn", "teacher_linear_probe"}
    answer = graphkd(f"{line} --teacher {teacher_checkpoint}").out
    assert f"{100 * found['agreement']:.2f} % of the 10 nearest neighbours" in answer
    assert "linear probe" in answer


def test_it_goes_back_to_timm_and_to_onnx(graphkd, home, tmp_path):
    import onnxruntime

    answer = graphkd(f"export {home}/run --formats safetensors,onnx --out out").out
    call = 'timm.create_model("test_efficientnet", num_classes=0, checkpoint_path="out/model.safetensors")'
    assert call in answer
    network = eval(call, {"timm": timm}).eval()
    images = torch.rand(2, 3, 32, 32)
    config = network.pretrained_cfg
    mean, std = (torch.tensor(config[name]).view(3, 1, 1) for name in ("mean", "std"))
    session = onnxruntime.InferenceSession("out/model.onnx")
    assert [each.name for each in session.get_outputs()] == ["embedding"]
    (found,) = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(network((images - mean) / std), torch.from_numpy(found), rtol=1e-3, atol=1e-4)


def test_its_embeddings_are_a_store_that_teaches(graphkd, home):
    found = graphkd.json(f"embed --data {home}/loose --teacher {home}/run --out ours")
    assert (found["samples"], found["embedding_dim"], found["num_classes"]) == (100, 256, None)
    line = f"distill --data {home}/loose --store ours --student-head none --method mimic {SMALL} --quiet --no-report"
    assert graphkd.json(f"{line} --run again")["quality"]["images"] == 20
    graphkd(f"{line} --run dry --dry-run")


@pytest.mark.parametrize(
    ("line", "what", "todo"),
    [
        ("distill --data {home}/loose {teacher} --student-head none --method prg", "prg compares class scores", "rkd"),
        ("distill --data {home}/loose {teacher} --student-head none --labels task", "--labels task", "leave one"),
        ("distill --data {home}/loose {teacher} --student-head none --student hf:x", "cannot be built", "timm"),
        ("distill --data {home}/loose {teacher} --method rkd", "have none", "--classes"),
        ("predict --model {home}/run --data {home}/loose", "has no classes to predict", "graphkd embed --teacher"),
        ("export {home}/run --int8 --out out", "--int8 compares class scores", "leave --int8 out"),
        ("evaluate --model {home}/run --data few", "3 images are too few", "more images"),
    ],
)
def test_what_a_backbone_cannot_do_takes_two_lines(graphkd, home, teacher, tmp_path, line, what, todo):
    (tmp_path / "few").mkdir()
    for number in range(3):
        (tmp_path / "few" / f"{number}.png").write_bytes((home / "loose" / f"0{number}.png").read_bytes())
    graphkd.refused(line.format(home=home, teacher=teacher), what, todo)
    assert not (tmp_path / "out" / "export.json").exists()
    assert not (tmp_path / "runs").exists()
