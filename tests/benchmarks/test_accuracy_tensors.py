import pytest
import torch

from benchmarks.accuracy.tensors import TensorViews
from graphkd import Views
from graphkd.data.sources import ArraySource
from graphkd.data.transforms import CenterView
from graphkd.errors import DataError

SIDE, PADDING = 8, 2


def source(targets=True):
    images = torch.randint(256, (12, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ArraySource(images.numpy(), list(range(12)) if targets else None, [str(k) for k in range(12)])


def shown(views, epoch, batch=4, start=0):
    loader = views.loader(batch)
    loader.batch_sampler.set_epoch(epoch, start)
    return {int(index): image for each in loader for index, image in zip(each.index, each.student, strict=True)}


def test_plain_views_are_the_pixels_in_the_order_of_views():
    ours = TensorViews(source(), labels=True, seed=3).loader(4)
    theirs = Views(source(), student=CenterView(SIDE), labels=True, seed=3).loader(4)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.student, b.student, rtol=0, atol=0)
        assert a.index.tolist() == b.index.tolist()
        assert a.target.tolist() == b.target.tolist()


def test_every_augmented_view_is_a_shift_of_the_padded_image_or_of_its_mirror():
    views = TensorViews(source(), padding=PADDING)
    corners, mirrored = set(), 0
    for epoch in range(40):
        for index, image in shown(views, epoch).items():
            padded = views.pixels[index].permute(2, 0, 1).float() / 255
            found = [
                (top, left, flip)
                for top in range(2 * PADDING + 1)
                for left in range(2 * PADDING + 1)
                for flip in (False, True)
                if torch.equal(image.flip(-1) if flip else image, padded[:, top : top + SIDE, left : left + SIDE])
            ]
            assert len(found) == 1
            corners.add(found[0][:2])
            mirrored += found[0][2]
    assert len(corners) == (2 * PADDING + 1) ** 2
    assert 0.4 < mirrored / 480 < 0.6


def test_a_view_depends_on_seed_and_epoch_and_not_on_where_a_run_was_resumed():
    views = TensorViews(source(), padding=PADDING, seed=1)
    whole, rest = shown(views, 5), shown(views, 5, start=1)
    assert len(rest) == 8
    assert all(torch.equal(image, whole[index]) for index, image in rest.items())
    assert any(not torch.equal(image, shown(views, 6)[index]) for index, image in whole.items())
    other = shown(TensorViews(source(), padding=PADDING, seed=2), 5)
    assert any(not torch.equal(image, other[index]) for index, image in whole.items())


def test_labels_are_handed_out_only_if_asked_for_and_then_must_exist():
    assert next(iter(TensorViews(source()).loader(4))).target is None
    with pytest.raises(DataError, match="no label"):
        TensorViews(source(targets=False), labels=True)


def test_without_flip_nothing_is_mirrored():
    views = TensorViews(source(), padding=1, flip=False)
    for index, image in shown(views, 0).items():
        padded = views.pixels[index].permute(2, 0, 1).float() / 255
        shifts = [padded[:, top : top + SIDE, left : left + SIDE] for top in range(3) for left in range(3)]
        assert any(torch.equal(image, each) for each in shifts)
