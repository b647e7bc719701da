"""Several views of each image, their draws, and int8: what is stored, and that a student sees its teacher's crop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from graphkd.data.store.embed import embed
from graphkd.data.store.format import decode, encode
from graphkd.data.store.tools import verify
from graphkd.data.transforms import CenterView, RandomCropView, RandomResizedCropView
from graphkd.data.views import Views
from graphkd.errors import OptionError, StoreError
from tests.data.store.fakes import Squares, TinyTeacher, squares


class Noise(Squares):
    """Images whose every crop is different."""

    def image(self, index):
        draw = np.random.default_rng(index)
        return Image.fromarray(draw.integers(0, 256, (24, 32, 3), dtype=np.uint8))


SOURCE = Noise(squares(10).ids)
CROP = RandomResizedCropView(8)


def fill(path, transform=CROP, views=3, **options):
    options = {"batch_size": 4, "shard_size": 4, "progress": False, **options}
    return embed(TinyTeacher(), SOURCE, path, transform=transform, views=views, **options)


@pytest.mark.parametrize("transform", [CROP, RandomCropView(8, padding=2)])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_every_row_is_the_teacher_of_the_view_that_its_draw_describes(tmp_path, transform, dtype):
    store, teacher = fill(tmp_path, transform, dtype=dtype), TinyTeacher()
    for view in range(3):
        drawn = store.drawn(range(10), view)
        images = torch.stack([transform.apply(SOURCE.image(i), drawn[i].tolist()) for i in range(10)])
        tolerance = {"rtol": 0, "atol": 0.02} if dtype == "int8" else {}
        assert_close(store.read(range(10), view).logits, teacher(images).logits, **tolerance)
    assert "10 samples of 3 views" in repr(store)


def test_views_differ_and_do_not_depend_on_workers_or_shards(tmp_path):
    one, other = fill(tmp_path / "one"), fill(tmp_path / "other", workers=2, shard_size=3, batch_size=1)
    every = torch.arange(3).repeat(10)
    index = torch.arange(10).repeat_interleave(3)
    assert torch.equal(one.read(index, every).embedding, other.read(index, every).embedding)
    assert torch.equal(one.drawn(index, every), other.drawn(index, every))
    assert len({tuple(row) for row in one.drawn(index, every).tolist()}) == 30


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (([0],), r"holds 3 views of each sample: store.read\(batch.index, batch.view\)"),
        (([0, 1], [0, 3]), r"expected 2 views in 0..2, found 2 in 0..3"),
        (([0, 1], [0, 1, 2]), "expected 2 views"),
    ],
)
def test_a_view_must_be_named_and_must_exist(tmp_path, index, message):
    store = fill(tmp_path)
    with pytest.raises(OptionError, match=message):
        store.read(*index)


def test_an_order_and_a_part_keep_their_views(tmp_path):
    store = fill(tmp_path)
    part = store.for_source(Noise([SOURCE.ids[7], SOURCE.ids[2]]))
    assert torch.equal(part.read([0, 1], [2, 1]).logits, store.read([7, 2], [2, 1]).logits)
    assert torch.equal(part.drawn([0, 1], [2, 1]), store.drawn([7, 2], [2, 1]))


@pytest.mark.parametrize("workers", [0, 2])
def test_the_student_sees_the_crop_that_its_teacher_saw(tmp_path, workers):
    store, teacher = fill(tmp_path), TinyTeacher()
    views = Views(SOURCE, student=CROP, replay=store, seed=5)
    loader = views.loader(5, workers=workers)
    seen = {}
    for epoch in range(3):
        loader.batch_sampler.set_epoch(epoch)
        for batch in loader:
            assert_close(store.read(batch.index, batch.view).logits, teacher(batch.student).logits)
            for index, view in zip(batch.index.tolist(), batch.view.tolist(), strict=True):
                seen.setdefault(index, []).append(view)
    assert all(sorted(each) == [0, 1, 2] for each in seen.values())  # each view once in three epochs
    assert len({tuple(each) for each in seen.values()}) > 1  # not all samples the same one at a time


def test_the_students_view_may_have_another_size(tmp_path):
    store = fill(tmp_path)
    small, large = (Views(SOURCE, student=RandomResizedCropView(size), replay=store) for size in (8, 16))
    a, b = small[(1, 4)], large[(1, 4)]
    assert a.view == b.view
    assert b.student.shape == (3, 16, 16)
    assert_close(torch.nn.functional.interpolate(b.student[None], 8, mode="area")[0], a.student, rtol=0, atol=0.25)


PADDED = RandomCropView(8, padding=2)


@pytest.mark.parametrize(
    ("made", "options", "error", "message"),
    [
        (CROP, {"student": RandomCropView(8)}, OptionError, r"pixels of the image.*cannot apply"),
        (CROP, {"student": CenterView(8)}, OptionError, "cannot apply"),
        (CROP, {"teacher": CROP}, OptionError, "leave teacher='shared'"),
        (CROP, {"source": Noise(SOURCE.ids[:4])}, StoreError, "this run lacks 6"),
        (PADDED, {"student": RandomCropView(8)}, OptionError, "centre of 8 pixels, padded by 2"),
        (CenterView(8), {}, OptionError, "keeps no draws"),
    ],
)
def test_what_cannot_be_replayed_is_refused(tmp_path, made, options, error, message):
    store = fill(tmp_path, made, views=1)
    with pytest.raises(error, match=message):
        Views(**{"source": SOURCE, "student": CROP, "replay": store, **options})


def test_a_store_without_random_views_holds_no_draws(tmp_path):
    with pytest.raises(StoreError, match="holds no augmentation"):
        fill(tmp_path, CenterView(8), views=1).drawn([0])


def test_several_views_need_draws(tmp_path):
    with pytest.raises(OptionError, match="with views > 1 a random transform that keeps its draws"):
        fill(tmp_path, CenterView(8), views=2)
    with pytest.raises(OptionError, match="views >= 1"):
        fill(tmp_path, views=0)
    fill(tmp_path)
    with pytest.raises(StoreError, match="views '3', this run asks '2'"):
        fill(tmp_path, views=2)


# int8 ---------------------------------------------------------------------------------------------------------------


def test_int8_by_hand():  # range -127 .. 127: a step of 1, no offset; 10 .. 35.4: a step of 0.1
    rows = encode("logits", torch.tensor([[-127.0, 0.2, 126.6, 127.0], [10.0, 10.04, 20.06, 35.4]]), "int8")
    assert rows["logits"].tolist() == [[-127, 0, 127, 127], [-127, -127, -26, 127]]
    assert_close(rows["logits.range"], torch.tensor([[1.0, 0.0], [0.1, 22.7]]))
    assert_close(decode("logits", rows, "int8")[1], torch.tensor([10.0, 10.0, 20.1, 35.4]))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_int8_errs_by_half_a_step_at_most(scale):
    x = scale * torch.randn(50, 300, generator=torch.Generator().manual_seed(0))
    step = (x.amax(1) - x.amin(1)) / 254
    error = (decode("embedding", encode("embedding", x, "int8"), "int8") - x).abs().amax(1)
    assert (error <= 0.501 * step).all()


def test_a_constant_row_is_exact():
    x = torch.tensor([[0.0, 0.0], [3.5, 3.5]])
    assert torch.equal(decode("embedding", encode("embedding", x, "int8"), "int8"), x)


def test_an_int8_store_takes_a_quarter(tmp_path):
    store = fill(tmp_path, views=1, dtype="int8")
    columns = replace(store.manifest, embedding_dim=768, num_classes=None).columns
    assert sum(column.bytes for column in columns.values()) == 776 + 4 * len(store.manifest.drawn)
    assert store[range(10)].embedding.dtype == torch.float32
    assert not verify(tmp_path, SOURCE)
