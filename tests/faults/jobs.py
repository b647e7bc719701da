"""Jobs small enough to be killed hundreds of times, and a server that has torch imported and forks a child for each."""

import multiprocessing
import os
import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from graphkd.data.sources import ArraySource
from graphkd.data.store.embed import embed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import RandomCropView, ResizeView
from graphkd.data.views import Views
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.features import Features
from graphkd.step import Step
from graphkd.teachers.base import Teacher
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.config import TrainConfig
from graphkd.training.loop import Trainer

IMAGES, CLASSES, ROOT = 96, 3, Path(__file__).parents[2]
PHASES = {"start": b"s", "embed": b"e", "train": b"t", "checkpoint": b"c"}


def server():
    """Processes are forked from one that has imported this file: 0.1 s each instead of seconds."""
    from multiprocessing.forkserver import ensure_running

    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))  # the server has no other way to find this file
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "timm.optim", "timm.scheduler", "timm.utils", "accelerate", "tqdm"])
    ensure_running()
    return context


class Student(nn.Module):
    """Convolution, BatchNorm, dropout, classifier: whatever a checkpoint could lose."""

    def __init__(self, width=6):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(width, CLASSES)

    def forward(self, images):
        embedding = self.drop(self.body(images).mean((2, 3)))
        proxies = self.head.weight.clone()
        return Features(embedding, self.head(embedding), proxies, proxies @ proxies.T + self.head.bias)


class ColourTeacher(Teacher):
    """Colours by a fixed linear map, slow enough for the embedding to be met by a kill.

    Args:
        seconds: that a forward pass takes at least.
    """

    embedding_dim, num_classes, classes = 5, CLASSES, ("red", "green", "blue")

    def __init__(self, seconds=0.0):
        self.seconds, draw = seconds, torch.Generator().manual_seed(0)
        self.weight, self.rows = (torch.randn(n, 5, generator=draw) for n in (3, CLASSES))

    def features(self, images):
        time.sleep(self.seconds)
        x = images.mean((2, 3)) @ self.weight
        return Features(x, x @ self.rows.T, self.rows, self.rows @ self.rows.T)

    def fingerprint(self):
        return {"weights": "colours"}

    def to(self, device):
        return self


def source(count=IMAGES):
    draw = np.random.default_rng(0)
    return ArraySource(draw.integers(0, 255, (count, 8, 8, 3)).astype(np.uint8), classes=["red", "green", "blue"])


def store(folder, **options):
    how = {"transform": ResizeView(8), "batch_size": 2, "shard_size": 4, "progress": False}
    return embed(ColourTeacher(0.01), source(), Path(folder) / "store", **how | options)


def embed_job(folder, **options):
    """Embed one rank's share of a store, or all of it."""
    quiet(folder)
    store(folder, **options)


def trainer(folder, features, **changes):
    options = {
        "epochs": 3, "batch_size": 8, "lr": 0.01, "log_every": 4, "checkpoint_every": 1, "accumulate": 2, "ema": 0.9,
        "mixup": 0.4, "clip": 1.0, "chunk": 4, "progress": False, "trackers": (),
    }  # fmt: skip
    torch.manual_seed(0)
    step = Step(Student(), PRGDistiller(6, 5, CLASSES))
    views = Views(source(), student=RandomCropView(8, padding=1), seed=3)
    return Trainer(step, views, features, TrainConfig(**options | changes), Path(folder) / "run")


@contextmanager
def marked(folder):
    """Inside, one byte of a file says what the process is doing."""
    handle = os.open(Path(folder) / "phase", os.O_CREAT | os.O_WRONLY)

    def mark(phase):
        os.pwrite(handle, PHASES[phase], 0)

    save = Checkpoints.save

    def saved(*args, **options):
        mark("checkpoint")
        try:
            return save(*args, **options)
        finally:
            mark("train")

    Checkpoints.save = saved
    try:
        yield mark
    finally:
        Checkpoints.save = save
        os.close(handle)


def same(a, b, path=""):
    """Bit for bit, in any nesting."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def quiet(folder):
    """What the child says goes to a file."""
    os.makedirs(folder, exist_ok=True)
    handle = os.open(Path(folder) / "said", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    torch.set_num_threads(1)


def nothing(folder):
    """Start and end."""
    quiet(folder)


def whole_job(folder):
    """Embed, then train from the store with a checkpoint after each update; goes on where another was killed."""
    quiet(folder)
    with marked(folder) as mark:
        mark("embed")
        kept = store(folder)
        mark("train")
        trainer(folder, lambda batch: kept[batch.index]).fit(resume=True)


def acting(at, act):
    """A teacher's features that do something first, when batch ``at`` (from 1) of this process is asked for."""
    teacher, seen = ColourTeacher(), []

    def features(batch):
        seen.append(0)
        if len(seen) == at:
            act()
        return teacher(batch.teacher)

    return features


def hurt_itself(number):
    """Send this process a signal."""
    os.kill(os.getpid(), number)


def hurt_a_worker(number):
    """Send one loader worker of this process a signal."""
    os.kill(multiprocessing.active_children()[0].pid, number)


def hurt_the_group(number):
    """Send this process and all its workers a signal, as a scheduler does."""
    os.killpg(os.getpgid(0), number)


def train_job(folder, at=0, act=None, number=0, rank=0, world=1, port=0, victim=0, limit=0, **changes):
    """Train; at batch ``at`` of the victim's something happens. With ``limit``, no file may have more bytes."""
    quiet(folder)
    os.setpgrp()
    multiprocessing.set_start_method("fork", force=True)  # for loader workers; the child's own is the server's
    if world > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()}, ACCELERATE_USE_CPU="true")
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    happens = at if rank == victim else 0
    trainer(folder, acting(happens, lambda: act(number)), **changes).fit(resume=True)


def end_of(run):
    """The newest checkpoint of a run, without clock times."""
    state = Checkpoints(run / "checkpoints").newest()[1]
    state["progress"].pop("seconds")
    return state


def at_batch(made, number, act):
    """Let a trainer do something first, when batch ``number`` (from 1) is asked for."""
    plain, seen = made.features, []

    def features(batch):
        seen.append(0)
        if len(seen) == number:
            act()
        return plain(batch)

    made.features = features
    return made


def run_state(folder):
    """The newest checkpoint of a job's run, and its number."""
    run = Path(folder) / "run"
    return {"update": Checkpoints(run / "checkpoints").updates()[-1], "state": end_of(run)}


def outcome(folder):
    """Everything a finished job leaves, without clock times."""
    kept = EmbeddingStore(Path(folder) / "store").for_source(source())
    rows = kept[torch.arange(IMAGES)]
    return {**run_state(folder), "store": {"embedding": rows.embedding, "logits": rows.logits}}
