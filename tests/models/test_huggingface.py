"""Vision models of transformers as students and teachers, from folders with random weights."""

import json
import os
from functools import cache

import pytest
import torch
from PIL import Image

from graphkd import ClassifierTeacher, Tap, create_student
from graphkd.errors import TapError, TeacherError
from tests.faults.hostile import Payload
from tests.models.hf_models import CLASSES, KINDS, SIZE, small, towers

pytest.importorskip("transformers", reason="pip install 'graphkd[integrations]'")
import transformers

from graphkd.models.huggingface import hf_config, hf_model, hf_preprocessing
from graphkd.teachers.huggingface import hf_teacher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a model once: kind -> its folder."""

    @cache
    def of(kind):
        torch.manual_seed(0)
        return small(kind, tmp_path_factory.mktemp(kind))

    return of


def noise(size=SIZE):
    """An image of bytes."""
    return torch.randint(0, 256, (size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def processed(folder, pixels, **options):
    """What transformers' own processor makes of an image."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    return processor(images=Image.fromarray(pixels.numpy()), return_tensors="pt", **options)["pixel_values"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_by_name_answers_as_transformers_does(folder, kind):
    student = create_student(f"hf:{folder(kind)}", CLASSES, pretrained=True).eval()
    model = transformers.AutoModelForImageClassification.from_pretrained(folder(kind)).eval()
    pixels = noise()
    with torch.no_grad():
        expected = model(processed(folder(kind), pixels, do_resize=False, do_center_crop=False)).logits
        found = student(pixels.permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(found.logits, expected, atol=1e-5, rtol=0)
    assert found.embedding.shape == (1, student.embedding_dim)
    torch.testing.assert_close(found.embedding @ found.proxies.T + student.classifier.bias, found.logits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_prepares_images_as_the_models_own_processor(folder, kind):
    teacher = hf_teacher(str(folder(kind)))
    size = 36 if kind == "dinov2" else SIZE  # the centre of which is cut
    pixels = noise(size)
    image = pixels.permute(2, 0, 1)[None] / 255
    if kind == "dinov2":
        image = image[..., 2:-2, 2:-2]
    if kind in ("vit", "swin", "dinov2"):
        torch.testing.assert_close(teacher.preprocess(image), processed(folder(kind), pixels), atol=1e-5, rtol=0)
    assert teacher.preprocess.size == (SIZE, SIZE)
    assert teacher.preprocess.resize_mode == ("squash" if kind in ("vit", "swin") else "shortest")
    assert teacher(image).logits.shape == (1, CLASSES)


@pytest.mark.parametrize(
    ("kind", "part", "path", "shape"),
    [
        ("vit", "tokens", "vit.layernorm", (2, 17, 32)),
        ("dinov2", "tokens", "dinov2.layernorm", (2, 17, 32)),
        ("resnet", "maps", "resnet.encoder", (2, 16, 4, 4)),  # a stage that answers with a record
    ],
)
def test_tokens_and_maps(folder, kind, part, path, shape):
    features = Tap(hf_model(str(folder(kind))), **{part: [path]})(torch.rand(2, 3, SIZE, SIZE))
    assert getattr(features, part)[path].shape == shape


def test_other_classes_get_a_fresh_head_and_keep_the_rest(folder):
    source = transformers.AutoModelForImageClassification.from_pretrained(folder("vit"))
    student = create_student(f"hf:{folder('vit')}", 3, pretrained=True)
    assert student.num_classes == 3
    assert torch.equal(student.model.vit.layernorm.weight, source.vit.layernorm.weight)
    own = student.model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in source.state_dict().items() if "classifier" not in name)
    scratch = create_student(f"hf:{folder('vit')}", 3)
    name = "vit.embeddings.patch_embeddings.projection.weight"
    assert not torch.equal(scratch.model.state_dict()[name], own[name])


def test_a_backbone_gives_its_pooled_embedding(tmp_path):
    teacher = hf_teacher(str(small("dinov2", tmp_path, form="Model")))
    images = torch.rand(2, 3, SIZE, SIZE)
    assert teacher.num_classes is None
    model = transformers.AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = model(teacher.preprocess(images)).pooler_output
    torch.testing.assert_close(teacher(images).embedding, expected)
    assert hf_teacher(str(tmp_path), classes=["cat", "dog"]).classes is None


def test_a_pooling_layer_without_weights_is_not_used(folder):
    pooled = hf_model(str(folder("vit")), pooled=True).eval()
    images = torch.rand(2, 3, SIZE, SIZE)
    classifier = Tap(hf_model(str(folder("vit"))), mean=False).eval()
    torch.testing.assert_close(pooled(images), classifier(images).embedding)


def test_a_teacher_of_other_classes_has_its_embedding_only(folder):
    images = torch.rand(2, 3, SIZE, SIZE)
    features = hf_teacher(str(folder("convnext")), classes=["cat", "dog"])(images)
    own = hf_teacher(str(folder("convnext")), classes=list("abcde"))
    assert features.logits is None
    assert own.classes == tuple("abcde")
    torch.testing.assert_close(features.embedding, own(images).embedding)


def test_the_number_of_heads_is_in_the_fingerprint():
    facts = []
    for heads in (2, 4):
        torch.manual_seed(0)
        options = {**KINDS["vit"][1], "num_attention_heads": heads}
        model = transformers.ViTForImageClassification(transformers.ViTConfig(**options))
        facts.append(ClassifierTeacher(model, mean=[0.5] * 3, std=[0.5] * 3, image_size=SIZE).fingerprint())
    assert {name for name in facts[0] if facts[0][name] != facts[1][name]} == {"structure"}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_two_towers_teach_by_prompts(tmp_path, kind):
    path, names = towers(kind, tmp_path), ["cat", "dog", "horse"]
    teacher = hf_teacher(f"hf:{path}", classes=names, templates=["a photo of a {}."])
    pixels = noise()
    model = transformers.AutoModel.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    ids = tokenizer(
        [f"a photo of a {name}." for name in names], padding="max_length", max_length=16, return_tensors="pt"
    )["input_ids"]
    with torch.no_grad():
        expected = model(input_ids=ids, pixel_values=processed(path, pixels)).logits_per_image
    found = teacher(pixels.permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(found.logits, expected - teacher.logit_bias, atol=1e-4, rtol=1e-4)
    assert found.proxies.shape == (3, teacher.embedding_dim)
    with pytest.raises(TeacherError, match=r"tells classes apart by their names: give classes"):
        hf_teacher(str(path))


def test_mean_and_deviation_are_those_of_pixels_in_0_to_1(tmp_path):
    small("vit", tmp_path)
    transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}, do_rescale=False, image_mean=[127.5] * 3, image_std=[255.0] * 3
    ).save_pretrained(tmp_path)
    said = hf_preprocessing(str(tmp_path))
    assert said["mean"] == [0.5] * 3
    assert said["std"] == [1.0] * 3
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, do_normalize=False).save_pretrained(tmp_path)
    assert hf_preprocessing(str(tmp_path))["mean"] == [0.0] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nobody/nothing",
            "the configuration of 'hf:nobody/nothing' cannot be had: not on this machine, .* Give a folder",
        ),
        ("{}", "the configuration of .* cannot be had"),
        ("{}/bert", r"the architecture of .* cannot be had \(ValueError"),
    ],
)
def test_what_cannot_be_had(tmp_path, monkeypatch, name, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    transformers.BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(TapError, match=message):
        create_student(f"hf:{name.format(tmp_path)}", 3)


def test_no_preprocessing_no_teacher(tmp_path):
    small("vit", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(TapError, match=r"the image processor of .* cannot be had"):
        hf_teacher(str(tmp_path))
    assert create_student(f"hf:{tmp_path}", 3).mean is not None  # from scratch: ImageNet's


def test_weights_that_lack_a_layer(tmp_path):
    from safetensors.torch import load_file, save_file

    small("vit", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "classifier" not in name},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(TapError, match=r"lack classifier.bias, classifier.weight: give a complete checkpoint"):
        hf_model(str(tmp_path))
    assert create_student(f"hf:{tmp_path}", 3, pretrained=True).num_classes == 3


def changed(folder, **options):
    """A small ViT whose configuration says something else than its weights."""
    config = json.loads((small("vit", folder) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **options}))
    return str(folder)


@pytest.mark.parametrize(("options", "problem"), [
    ({"hidden_size": 2**15, "intermediate_size": 2**15}, r"describes at least \d{9,} parameters in \d tensors, and its checkpoint .* bytes"),
    ({"image_size": 10**6}, r"describes at least \d{9,} parameters"),
    ({"num_labels": 3 * 10**6, "id2label": None}, r"has a num_labels of no known model: correct it"),
    ({"num_hidden_layers": 10**9}, r"has a num_hidden_layers of no known model"),
])  # fmt: skip
@pytest.mark.parametrize("pretrained", [True, False])
def test_a_configuration_larger_than_its_weights_is_refused_before_it_is_built(tmp_path, options, problem, pretrained):
    with pytest.raises((TapError, TeacherError), match=problem):
        hf_model(changed(tmp_path, **options), pretrained=pretrained)


def test_a_model_of_endless_layers_is_built_no_further_than_the_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("graphkd.models.weights._TENSORS", 500)
    folder = changed(tmp_path, num_hidden_layers=10**6, hidden_size=2, intermediate_size=2)
    with pytest.raises(TeacherError, match=r"parameters in 501 tensors"):
        hf_model(folder)


def test_a_configuration_may_stand_in_another_file_and_is_bounded_all_the_same(tmp_path):
    folder = changed(tmp_path)
    (tmp_path / "config.1.0.0.json").write_text(json.dumps({"model_type": "vit", "num_labels": 10**7}))
    (tmp_path / "config.json").write_text(json.dumps({"configuration_files": ["config.1.0.0.json"]}))
    with pytest.raises(TapError, match="num_labels of no known model"):
        hf_config(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "config.1.0.0.json", "preprocessor_config.json", "model.safetensors.index.json"]
)
def test_a_description_of_many_bytes_is_not_read(tmp_path, name):
    folder = changed(tmp_path)
    if name == "config.1.0.0.json":
        (tmp_path / "config.json").write_text(json.dumps({"configuration_files": [name]}))
    if name.startswith("model"):
        (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, 300 << 20)  # a hole: it takes no room on the disk
    with pytest.raises(TapError, match=rf"{name} of .* has 314572800 bytes, expected at most 4194304"):
        hf_preprocessing(folder) if name.startswith("pre") else hf_model(folder)


@pytest.mark.parametrize("architectures", [5, "ViT", [5]])
def test_architectures_that_are_no_names(tmp_path, architectures):
    with pytest.raises(TapError, match=r"has architectures .*, expected a list of names: correct it"):
        hf_model(changed(tmp_path, architectures=architectures))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("open_it", [hf_model, lambda path: hf_teacher(path, classes=["cat"])])
def test_pickled_weights_are_named_and_not_loaded(tmp_path, name, open_it):
    kind = "vit" if open_it is hf_model else "clip"
    (small if kind == "vit" else towers)(kind, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weight": Payload(tmp_path / "ran")}, tmp_path / name)
    problem = (
        r"hold more than plain tensors: pickled objects could run code" if name.endswith("bin") else "cannot be had"
    )
    with pytest.raises((TapError, TeacherError), match=problem):
        open_it(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_an_index_of_weights_names_files_of_its_folder_only(tmp_path):
    path = small("vit", tmp_path / "model")
    (path / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"metadata": {"total_size": 1}, "weight_map": {"a": "../outside.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(TapError, match="names files outside its folder"):
        hf_model(str(path))
