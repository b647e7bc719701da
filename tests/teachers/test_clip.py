import json

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError, TeacherError, UnknownNameError
from graphkd.teachers.clip import CLIPTeacher


def test_features_are_those_of_the_equations(make_teacher, tiny_clip, tokenizer, classes, images):
    teacher, model = make_teacher(), tiny_clip()
    model.visual.preprocess_cfg = None
    got = teacher(images)
    mean, std = (torch.tensor(teacher.preprocess.spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        f = model.encode_image((images - mean) / std, normalize=True)
        t = torch.stack(
            [
                model.encode_text(tokenizer([text.replace("{}", name) for name in classes]), normalize=True)
                for text in teacher.templates
            ]
        )
    s = model.logit_scale.exp().item()
    assert (teacher.embedding_dim, teacher.num_classes, teacher.classes) == (32, 5, tuple(classes))
    assert teacher.logit_scale == pytest.approx(s)
    z = s * torch.einsum("bd,pcd->pbc", f, t)
    w = z.amax(-1, keepdim=True).clamp_min(1e-6)
    tbar = nn.functional.normalize(t.mean(0), dim=-1)
    assert_close(got.embedding, f)
    assert_close(got.logits, (w / w.sum(0) * z).sum(0))
    assert_close(got.proxies, tbar)
    assert_close(got.proxy_logits, s * tbar @ tbar.T)
    assert_close(teacher.zero_shot(got.embedding), s * f @ tbar.T)


def test_images_of_any_size_and_batches_of_any_size(make_teacher, images):
    teacher, small = make_teacher(), make_teacher(image_batch=4, text_batch=2)
    assert teacher(torch.rand(2, 3, 50, 77)).embedding.shape == (2, 32)
    assert_close(small(images).logits, teacher(images).logits)
    assert_close(small._texts, teacher._texts)
    assert teacher(images[:1]).logits.shape == (1, 5)


def test_frozen_without_gradient_and_in_eval_mode(make_teacher, tiny_clip, images):
    model = tiny_clip().train()
    teacher = make_teacher(model)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    features = teacher(images.requires_grad_())
    assert not any(value.requires_grad for value in (features.embedding, features.logits, features.proxy_logits))


def test_autocast_around_the_call_changes_nothing(make_teacher, images):
    teacher = make_teacher()
    outside = teacher(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = teacher(images)
        zero_shot = teacher.zero_shot(outside.embedding)
    assert_close(inside.logits, outside.logits, rtol=0, atol=0)
    assert_close(zero_shot, teacher.zero_shot(outside.embedding), rtol=0, atol=0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_towers_give_float32_features(make_teacher, images, precision):
    half, full = make_teacher(precision=precision)(images), make_teacher()(images)
    assert {half.embedding.dtype, half.logits.dtype, half.proxies.dtype} == {torch.float32}
    assert_close(half.embedding, full.embedding, atol=0.02, rtol=0)
    assert not torch.equal(half.embedding, full.embedding)


def test_weights_of_the_data_set(make_teacher, images):
    teacher = make_teacher(scope="dataset", weight="softmax", proxy="weighted")
    with pytest.raises(TeacherError, match=r"needs one pass over images first: teacher.fit_prompts"):
        teacher(images)
    with pytest.raises(TeacherError, match="fit_prompts"):
        teacher.fingerprint()
    teacher.fit_prompts(images.split(4))
    got = teacher(images)
    t, s = teacher._texts, teacher.logit_scale
    z = s * torch.einsum("bd,pcd->pbc", got.embedding, t)
    w = z.amax(-1).mean(1).softmax(0)[:, None, None]
    assert_close(got.logits, (w * z).sum(0))
    assert_close(got.proxies, nn.functional.normalize((w * t).sum(0), dim=-1))
    assert teacher.fingerprint() != make_teacher(scope="dataset").fit_prompts([images[:2]]).fingerprint()


def test_siglip_bias_enters_no_feature(make_teacher, tiny_clip, images):
    import open_clip

    plain = make_teacher(tiny_clip(open_clip.CustomTextCLIP))
    biased = make_teacher(tiny_clip(open_clip.CustomTextCLIP, init_logit_bias=-10.0))
    assert (plain.logit_bias, biased.logit_bias) == (0.0, -10.0)
    assert_close(biased(images).logits, plain(images).logits)
    assert biased.fingerprint()["weights"] != plain.fingerprint()["weights"]


def test_coca(make_teacher, tiny_clip, config, images):
    import open_clip

    decoder = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {**config["vision_cfg"], "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    text = {**config["text_cfg"], "embed_cls": True, "output_tokens": True}
    model = tiny_clip(open_clip.CoCa, multimodal_cfg=decoder, vision_cfg=vision, text_cfg=text)
    features = make_teacher(model)(images)
    assert features.logits.shape == (6, 5)
    assert_close(features.embedding.norm(dim=-1), torch.ones(6))


def test_fingerprint_tells_what_differs(make_teacher, tiny_clip):
    base = make_teacher().fingerprint()
    assert make_teacher().fingerprint() == base
    json.dumps(base)

    def changed(*args, **options):
        other = make_teacher(*args, **options).fingerprint()
        return {key for key in base if base[key] != other[key]}

    other = tiny_clip()
    with torch.no_grad():
        other.visual.proj[0, 0] += 1
    assert changed(other) == {"weights"}
    assert changed(tiny_clip(quick_gelu=True)) == {"structure"}
    assert changed(templates="photo") == {"prompts"}
    assert changed(weight="softmax") == changed(tau=2.0) == changed(score="cosine") == {"prompts"}
    assert changed(precision="bf16") == {"precision"}
    assert changed(preprocess={"resize_mode": "squash"}) == {"preprocess"}
    assert changed(classes=["a", "b"]) == {"prompts", "tokens"}


def test_moves_in_place_and_whole(make_teacher, images):
    teacher = make_teacher(scope="dataset").fit_prompts([images])
    assert teacher.to("meta") is teacher
    tensors = [value for value in vars(teacher).values() if isinstance(value, torch.Tensor)]
    tensors += [*teacher._model.parameters(), *teacher.preprocess.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def named(m):
    return 2 * m


def test_own_weight_function(make_teacher, images):
    own = make_teacher(weight=named)
    assert_close(own(images).logits, make_teacher(weight="softmax", tau=0.5)(images).logits)
    assert own.fingerprint() != make_teacher().fingerprint()
    with pytest.raises(OptionError, match=r"has no name of its own.*define the function with def"):
        make_teacher(weight=lambda m: m)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weight": "ratios"}, UnknownNameError, "unknown prompt weight 'ratios'; did you mean 'ratio'"),
        (
            {"scope": "datasets"},
            UnknownNameError,
            r"'datasets'; did you mean 'dataset'\? Known: class, sample, dataset",
        ),
        ({"score": "cosin"}, UnknownNameError, "unknown prompt score 'cosin'; did you mean 'cosine'"),
        ({"precision": "bf32"}, UnknownNameError, "unknown precision 'bf32'; did you mean"),
        ({"proxy": "man"}, UnknownNameError, "unknown proxy 'man'; did you mean 'mean'"),
        ({"proxy": "weighted"}, OptionError, "add scope='dataset'"),
        ({"tau": 0.0}, OptionError, "tau must be > 0, found 0.0"),
        ({"image_batch": 0}, OptionError, "batch sizes must be >= 1, found 0 images"),
        ({"preprocess": {"sizes": 3}}, UnknownNameError, "unknown preprocessing value 'sizes'; did you mean 'size'"),
        ({"tokenizer": None}, TeacherError, "a built model needs its tokenizer"),
        ({"pretrained": "openai"}, TeacherError, "has its weights and activations already"),
        ({"quick_gelu": True}, TeacherError, "leave pretrained= and quick_gelu= out"),
    ],
)
def test_bad_options(make_teacher, options, error, message):
    with pytest.raises(error, match=message):
        make_teacher(**options)


def infinite(model):
    with torch.no_grad():
        model.text_projection.fill_(torch.inf)
    return model


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda make, model: CLIPTeacher(nn.Linear(2, 2), classes=["a"]),
            TeacherError,
            "Linear is no open_clip model, it has no encode_image.*ClassifierTeacher",
        ),
        (lambda make, model: make().fit_prompts([]), OptionError, "scope='sample' needs no fitting"),
        (lambda make, model: make(infinite(model)), TeacherError, "not finite with precision='fp32'"),
        (lambda make, model: make()(torch.rand(3, 32, 32)), ShapeError, "expected images"),
    ],
)
def test_what_it_refuses(make_teacher, tiny_clip, call, error, message):
    with pytest.raises(error, match=message):
        call(make_teacher, tiny_clip())
