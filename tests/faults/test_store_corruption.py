"""Random damage to a store: found before a wrong vector is handed out, named, and mended by embedding only that part."""

import random
import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from graphkd.data.store import read as store_read
from graphkd.data.store.embed import EmbedJob, embed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import repair, verify
from graphkd.data.transforms import RandomCropView
from graphkd.errors import StoreError
from tests.data.store.fakes import Squares, TinyTeacher, squares
from tests.faults.damage import KINDS, extend, flip_bits, overwrite, swap, truncate
from tests.faults.launch import rounds

N, SHARD, VIEWS = 38, 8, 2
DTYPES = ("float32", "float16", "bfloat16", "int8")
CROP = RandomCropView(4, padding=1)


class Counting(TinyTeacher):
    """Counts the views that it is asked about."""

    seen = 0

    def features(self, images):
        self.seen += len(images)
        return super().features(images)


def look(teacher):
    return EmbedJob(teacher, squares(N), CROP, batch_size=SHARD * VIEWS, progress=False)


def write(folder, dtype, teacher=None, source=None):
    how = {"transform": CROP, "views": VIEWS, "batch_size": 16, "shard_size": SHARD, "dtype": dtype, "progress": False}
    return embed(teacher or TinyTeacher(), source or squares(N), folder, **how)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A store of each dtype, what it says, and one of other images that looks alike."""
    found = {}
    for dtype in DTYPES:
        folder = tmp_path_factory.mktemp(dtype)
        write(folder / "store", dtype)
        write(folder / "other", dtype, source=Squares([f"other{name}" for name in squares(N).ids]))
        found[dtype] = (folder, answers(folder / "store", random.Random(0)))
    return found


def answers(folder, draw):
    """Everything that a training run reads of a store, in random order; rows in the order of positions and views."""
    store = EmbeddingStore(folder)
    store.check(source=squares(N), teacher=TinyTeacher(), transform=CROP)
    rows = [(index, view) for index in range(N) for view in range(VIEWS)]
    draw.shuffle(rows)
    found = {}
    for start in range(0, len(rows), 16):
        index, view = zip(*rows[start : start + 16], strict=True)
        features, drawn = store.read(index, view), store.drawn(index, view)
        for at, key in enumerate(zip(index, view, strict=True)):
            found[key] = torch.cat([features.embedding[at], features.logits[at], drawn[at], features.proxies.flatten()])
    return torch.stack([found[key] for key in sorted(found)])


def samples_of(names):
    """How many samples lie in the shards that these files belong to; the proxies alone cost one."""
    shards = {name.partition(".")[0] for name in names if name.startswith("shard")}
    count = sum(len(range(N)[int(name[6:]) * SHARD : (int(name[6:]) + 1) * SHARD]) for name in shards)
    return count or int(any(name.startswith("shared") for name in names))


@rounds(40, 600)
def test_random_corruption(rounds, fault_seed, pristine, tmp_path, record_figure):
    counts, at_reading, embedded, damaged = Counter(), 0, 0, 0
    for number in range(rounds):
        draw = random.Random(f"{fault_seed}-{number}")
        home, expected = pristine[dtype := draw.choice(DTYPES)]
        folder = tmp_path / f"{number}"
        shutil.copytree(home / "store", folder)
        kind = KINDS[number % len(KINDS)]
        touched = kind(folder, home / "other", draw)
        context = f"seed {fault_seed}, round {number}, {kind.__name__} of {touched}, {dtype}"
        try:
            found = answers(folder, draw)
        except StoreError:
            at_reading += 1
        else:  # the damage lies where no vector is: then every vector is right
            assert torch.equal(found, expected), context
        assert verify(folder), context
        teacher = Counting()
        mended = repair(folder, look(teacher)).embedded
        assert torch.equal(answers(folder, draw), expected), context
        assert not verify(folder, squares(N)), context
        assert mended <= samples_of(touched), f"{context}: {mended} samples embedded again"
        assert teacher.seen == mended * VIEWS, context
        embedded, damaged = embedded + mended, damaged + samples_of(touched)
        counts[kind.__name__] += 1
        shutil.rmtree(folder)
    record_figure("corruptions", f"{rounds} ({', '.join(f'{name} {count}' for name, count in counts.items())})")
    record_figure(
        "detected",
        f"{rounds} of {rounds}; {at_reading} on reading, the others touched no vector and were found by verify",
    )
    record_figure("wrong vectors handed out", 0)
    record_figure("embedded again", f"{embedded} samples, in damaged shards {damaged}, in all stores {rounds * N}")


@rounds(20, 150)
def test_corruption_under_a_reader(rounds, fault_seed, pristine, tmp_path, monkeypatch, record_figure):
    """Damage after the first read: each look at a file's time is due at once."""
    monkeypatch.setattr(store_read, "_LOOK", -1.0)
    found = 0
    for number in range(rounds):
        draw = random.Random(f"{fault_seed}-reader-{number}")
        home, _ = pristine[DTYPES[number % len(DTYPES)]]
        folder = tmp_path / f"reader{number}"
        shutil.copytree(home / "store", folder)
        store, rows = EmbeddingStore(folder), np.arange(N)
        before = store.read(rows, rows % VIEWS)
        kind = draw.choice([flip_bits, overwrite, truncate, extend, swap])
        touched = kind(folder, home / "other", draw)
        if any(name.startswith("shard") and name.endswith("safetensors") for name in touched):
            with pytest.raises(StoreError, match="shard-"):
                store.read(rows, rows % VIEWS)
            found += 1
        else:
            assert torch.equal(store.read(rows, rows % VIEWS).logits, before.logits)
        shutil.rmtree(folder)
    record_figure("damaged under an open reader", f"{found} of {found} found on the next look")
