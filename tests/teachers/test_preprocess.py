import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from graphkd.errors import OptionError, ShapeError, UnknownNameError
from graphkd.teachers.preprocess import Preprocess

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def test_normalizes_by_hand():
    images = torch.full((1, 3, 2, 2), 0.75)
    got = Preprocess((0.5, 0.25, 0.75), (0.5, 0.25, 1.0))(images)
    assert_close(got[0, :, 0, 0], torch.tensor([0.5, 2.0, 0.0]))


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(48, 80), (80, 48), (20, 20), (32, 32)])
def test_agrees_with_open_clip(mode, shape):
    """open_clip works on bytes, so it may differ by the rounding of bytes, here 2 of 255."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize(shape[::-1], Image.Resampling.BICUBIC)
    config = PreprocessCfg(size=32, resize_mode=mode, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    expected = image_transform_v2(config, is_train=False)(image)
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()[None] / 255
    got = Preprocess(**PLAIN, size=32, resize_mode=mode)(pixels)[0]
    assert_close(got, expected, atol=2.5 / 255, rtol=0)


def test_shrinking_averages():  # antialiasing: single white lines become grey instead of black or white
    images = torch.zeros(1, 3, 64, 64)
    images[..., ::2] = 1
    got = Preprocess(**PLAIN, size=16)(images)
    assert_close(got[..., 4:-4], torch.full((1, 3, 16, 8), 0.5), atol=0.02, rtol=0)


def test_sizes():
    images = torch.rand(2, 3, 30, 50)
    assert Preprocess(**PLAIN)(images).shape == (2, 3, 30, 50)
    assert Preprocess(**PLAIN, size=(16, 24))(images).shape == (2, 3, 16, 24)
    assert Preprocess(**PLAIN, size=(24, 16), resize_mode="longest")(images).shape == (2, 3, 24, 16)


def test_half_precision_becomes_float32_and_stays_in_range():
    images = torch.randint(0, 2, (1, 3, 9, 9)).half()
    got = Preprocess(**PLAIN, size=32)(images)
    assert got.dtype == torch.float32
    assert got.min() >= 0
    assert got.max() <= 1


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 8, 8), torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_images_of_another_form(images):
    with pytest.raises(ShapeError, match=r"expected images \(b, 3, h, w\), floating point in \[0, 1\], found"):
        Preprocess(**PLAIN)(images)


def test_bad_options():
    with pytest.raises(OptionError, match=r"mean and std > 0 of 3 channels, found mean=\(0.5,\)"):
        Preprocess((0.5,), (0.5,))
    with pytest.raises(OptionError, match="std > 0"):
        Preprocess((0.5,) * 3, (0.5, 0.5, 0.0))
    with pytest.raises(OptionError, match=r"image size in pixels, one side or \(height, width\), found 0"):
        Preprocess(**PLAIN, size=0)
    with pytest.raises(OptionError, match=r"found 1000000: give 1 to 8192"):  # a configuration may ask for it
        Preprocess(**PLAIN, size=10**6)
    with pytest.raises(UnknownNameError, match="unknown interpolation 'bicubc'; did you mean 'bicubic'"):
        Preprocess(**PLAIN, interpolation="bicubc")
    with pytest.raises(UnknownNameError, match="unknown resize mode 'squish'; did you mean 'squash'"):
        Preprocess(**PLAIN, resize_mode="squish")
