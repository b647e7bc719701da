from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision.transforms.functional import to_tensor

from graphkd.errors import OptionError, UnknownNameError
from graphkd.teachers.openclip import LoadedCLIP, default_preprocess
from graphkd.teachers.preprocess import INTERPOLATIONS, RESIZES, Preprocess

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def test_normalizes_by_hand():
    images = torch.full((1, 3, 2, 2), 0.75)
    got = Preprocess((0.5, 0.25, 0.75), (0.5, 0.25, 1.0))(images)
    assert_close(got[0, :, 0, 0], torch.tensor([0.5, 2.0, 0.0]))


def hard(draw, shape):
    """Noise, or black and white pixels: where every shift and every overshoot shows."""
    pixels = draw.integers(0, 256, (*shape, 3), dtype=np.uint8)
    return Image.fromarray(pixels if draw.random() < 0.5 else (pixels > 127).astype(np.uint8) * 255)


def gaps(shapes, **options):
    """Largest differences to open_clip, in levels of 255: of the network's view of a file, and of float images."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from graphkd.data.transforms import network_view

    theirs = image_transform_v2(PreprocessCfg(**PLAIN, **options), is_train=False)
    ours, draw, found = Preprocess(**PLAIN, **options), np.random.default_rng(0), []
    for shape in shapes:
        image = hard(draw, shape)
        expected, whole = theirs(image), to_tensor(image)[None]
        views = ours(network_view(ours)(image)[None])[0], ours(whole)[0]
        assert views[0].shape == views[1].shape == expected.shape
        found.append([255 * float((view - expected).abs().max()) for view in views])
    return np.array(found)


@pytest.mark.parametrize(
    ("mode", "interpolation", "size"),
    [
        each
        for each in product(RESIZES, INTERPOLATIONS, [32, (24, 40), (40, 24)])
        if each[:2] != ("shortest", "bilinear") or each[2] == 32  # open_clip is bicubic there, whatever it is asked for
    ],
)
def test_pixels_are_open_clips(mode, interpolation, size):
    shapes = [(48, 80), (80, 48), (47, 80), (81, 40), (20, 20), (32, 32), (24, 40), (100, 33), (33, 101), (9, 7)]
    view, floats = gaps(shapes, size=size, resize_mode=mode, interpolation=interpolation).max(0)
    assert view == 0
    assert floats < 1.3


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (40, 390), (390, 40), (3, 1000), (7, 60)])
def test_thin_images_have_open_clips_pixels(shape):
    assert (gaps([shape], size=24) < 2.001).all()


@pytest.mark.slow
def test_pixels_are_open_clips_at_5000_sizes():
    shapes = np.random.default_rng(1).integers(30, 1201, (5000, 2)).tolist()
    found = gaps(shapes, size=224)
    print("largest gaps in levels of 255, of a view and of floats:", found.max(0))
    thin = np.array([max(shape) > 8 * min(shape) for shape in shapes])
    assert (found[~thin, 0] == 0).all()
    assert (found < 2.001).all()


def test_a_thin_image_costs_no_memory():
    image = torch.rand(1, 3, 20_000, 1)  # whole, at this width: 224 x 4,480,000 pixels
    assert Preprocess(**PLAIN, size=224)(image).shape == (1, 3, 224, 224)


def test_non_square_configurations_are_bicubic_as_in_open_clip():
    loaded = LoadedCLIP(None, None, default_preprocess() | {"interpolation": "bilinear"})
    assert loaded.preprocessing({"size": (32, 48)}).interpolation == "bicubic"
    assert loaded.preprocessing({"size": 32}).interpolation == "bilinear"


def test_half_precision_becomes_float32_and_stays_in_range():
    images = torch.randint(0, 2, (1, 3, 9, 9)).half()
    got = Preprocess(**PLAIN, size=32)(images)
    assert got.dtype == torch.float32
    assert got.min() >= 0
    assert got.max() <= 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mean": (0.5,), "std": (0.5,)}, OptionError, r"mean and std > 0 of 3 channels, found mean=\(0.5,\)"),
        ({"std": (0.5, 0.5, 0.0)}, OptionError, "std > 0"),
        ({"size": 0}, OptionError, r"image size in pixels, one side or \(height, width\), found 0"),
        ({"size": 10**6}, OptionError, "found 1000000: give 1 to 8192"),  # a configuration may ask for it
        ({"interpolation": "bicubc"}, UnknownNameError, "unknown interpolation 'bicubc'; did you mean 'bicubic'"),
        ({"resize_mode": "squish"}, UnknownNameError, "unknown resize mode 'squish'; did you mean 'squash'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        Preprocess(**{**PLAIN, **options})
