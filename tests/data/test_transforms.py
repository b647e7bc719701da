import numpy as np
import pytest
import torch
from PIL import Image

from graphkd.data.transforms import (
    CenterView,
    PadView,
    RandomCropView,
    RandomResizedCropView,
    ResizeView,
    network_view,
    view_of,
)
from graphkd.errors import OptionError, UnknownNameError
from graphkd.teachers.preprocess import Preprocess

RANDOM = [RandomCropView(8), RandomResizedCropView(8)]


def noise(height=12, width=16):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "view", [ResizeView(8), CenterView(8), PadView(8), *RANDOM], ids=lambda view: type(view).__name__
)
@pytest.mark.parametrize("size", [(12, 16), (5, 40), (1, 1)])
def test_views_are_square_floats_between_0_and_1(view, size):
    tensor = view(noise(*size))
    assert tensor.shape == (3, 8, 8)
    assert tensor.dtype == torch.float32
    assert tensor.min() >= 0
    assert tensor.max() <= 1


def test_center_view_takes_the_middle_at_full_size():
    image = noise(8, 12)
    expected = torch.from_numpy(np.asarray(image)[:, 2:10].copy()).permute(2, 0, 1) / 255
    assert torch.equal(CenterView(8)(image), expected)


def test_resize_view_keeps_the_whole_image():
    image = Image.new("RGB", (20, 10), "red")
    image.paste("blue", (10, 0, 20, 10))
    tensor = ResizeView(10)(image)
    assert torch.equal(tensor[:, 5, 0], torch.tensor([1.0, 0, 0]))
    assert torch.equal(tensor[:, 5, 9], torch.tensor([0, 0, 1.0]))


def test_pad_view_has_black_around():
    tensor = PadView(10)(Image.new("RGB", (20, 10), "white"))
    assert not tensor[:, :2].any()
    assert (tensor[:, 2:7] == 1).all()
    assert not tensor[:, 7:].any()


@pytest.mark.parametrize("view", [CenterView(16), RandomCropView(16, padding=0, flip=False)])
@pytest.mark.parametrize("size", [(1, 60), (60, 1), (20, 170), (170, 20), (30, 400), (400, 30)])
def test_of_a_thin_image_the_kept_part_alone_gives_the_same_pixels(view, size, monkeypatch):
    found = view(noise(*size))
    monkeypatch.setattr("graphkd.data.transforms._THIN", 10**6)  # scales the whole image, then cuts
    assert (found - view(noise(*size))).abs().max() <= 2.001 / 255


def test_a_thin_image_is_not_scaled_whole(monkeypatch):
    sizes, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image,
        "resize",
        lambda self, size, *args, **options: sizes.append(size) or resize(self, size, *args, **options),
    )
    assert CenterView(224)(Image.new("RGB", (20_000, 1))).shape == (3, 224, 224)
    assert max(width * height for width, height in sizes) == 224 * 224  # whole: 224 x 4,480,000


@pytest.mark.parametrize(
    ("options", "view"),
    [
        ({"size": 32}, CenterView(32)),
        ({"size": (24, 32), "interpolation": "bilinear"}, CenterView((24, 32), "bilinear")),
        ({"size": 32, "resize_mode": "squash"}, ResizeView(32)),
        ({"size": 32, "resize_mode": "longest"}, PadView(32)),
        ({}, CenterView(224)),
    ],
)
def test_a_network_is_shown_what_its_preprocessing_makes(options, view):
    own = Preprocess((0.5,) * 3, (0.5,) * 3, **options)
    assert network_view(own) == view
    assert view_of(view.spec) == view
    assert network_view(own, 48).size == 48
    assert network_view(None) == CenterView(224)


def test_random_crop_is_a_shift_of_the_image_with_black_around():
    image = Image.new("RGB", (8, 8), "white")
    torch.manual_seed(0)
    views = torch.stack([RandomCropView(8, padding=2)(image) for _ in range(60)])
    white = views[:, 0].sum((1, 2))
    sides = {float((8 - a) * (8 - b)) for a in range(3) for b in range(3)}
    assert set(white.tolist()) == sides  # every shift of 0, 1, 2 pixels in both directions occurs, no other


@pytest.mark.parametrize("make", [RandomCropView, RandomResizedCropView])
def test_random_views_follow_the_global_generator_and_flip_only_when_asked(make):
    options = {"padding": 0} if make is RandomCropView else {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    ramp = Image.fromarray(np.tile(np.arange(0, 256, 32, dtype=np.uint8), (8, 1))).convert("RGB")

    def rising(flip):
        torch.manual_seed(1)
        views = [make(8, flip=flip, **options)(ramp) for _ in range(40)]
        return [bool(view[0, 0, 0] < view[0, 0, -1]) for view in views]

    assert all(rising(False))
    assert 8 < sum(rising(True)) < 32
    assert rising(True) == rising(True)


def test_spec_says_everything_that_determines_the_view():
    assert CenterView(8).spec == {"transform": "CenterView", "size": 8}
    assert RandomCropView(8, flip=False).spec == {"transform": "RandomCropView", "size": 8, "padding": 4, "flip": False}
    assert CenterView(8, "bilinear").spec == {"transform": "CenterView", "size": 8, "interpolation": "bilinear"}
    assert CenterView(8) == CenterView(8)


def test_no_size_is_refused():
    with pytest.raises(OptionError, match="CenterView expects a size of at least 1 pixel, found 0"):
        CenterView(0)
    with pytest.raises(UnknownNameError, match="unknown interpolation 'cubic'; did you mean 'bicubic'"):
        CenterView(8, "cubic")


@pytest.mark.parametrize("options", [{"side": 32}, {"size": 32, "crop": True}, {}])
def test_a_stored_description_with_other_options_is_refused(options):
    assert view_of(CenterView(32).spec) == CenterView(32)
    with pytest.raises(OptionError, match="CenterView does not take the options"):
        view_of({"transform": "CenterView", **options})
