"""Jobs small enough to be killed hundreds of times, and a server that has torch imported and forks a child for each."""

import multiprocessing
import os
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from graphkd.data.store.embed import embed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import ResizeView
from graphkd.distillers.prg.distiller import PRGDistiller
from graphkd.features import Features
from graphkd.step import Step
from graphkd.teachers.base import Teacher
from graphkd.training.checkpoint import Checkpoints
from graphkd.training.loop import Trainer
from tests.training import tiny

IMAGES, CLASSES, ROOT = 96, tiny.CLASSES, Path(__file__).parents[2]
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


def source():
    return tiny.views(IMAGES).source


def store(folder, **options):
    how = {"transform": ResizeView(8), "batch_size": 2, "shard_size": 4, "progress": False}
    return embed(ColourTeacher(0.01), source(), Path(folder) / "store", **how | options)


def embed_job(folder, **options):
    """Embed one rank's share of a store, or all of it."""
    quiet(folder)
    store(folder, **options)


def trainer(folder, features, **changes):
    options = {"epochs": 3, "log_every": 4, "checkpoint_every": 1, "accumulate": 2, "ema": 0.9, "mixup": 0.4}
    options |= {"clip": 1.0, "chunk": 4}
    torch.manual_seed(0)
    step = Step(tiny.Student(6), PRGDistiller(6, 5, CLASSES))
    return Trainer(step, tiny.views(IMAGES), features, tiny.config(**options | changes), Path(folder) / "run")


def alone(batch):
    """A teacher's features, without a store."""
    return ColourTeacher()(batch.teacher)


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


def hurt_itself(number):
    """Send this process a signal."""
    os.kill(os.getpid(), number)


def hurt_a_worker(number):
    """Send one loader worker of this process a signal."""
    os.kill(multiprocessing.active_children()[0].pid, number)


def hurt_the_group(number):
    """Send this process and all its workers a signal, as a scheduler does."""
    os.killpg(os.getpgid(0), number)


def train_job(folder, at=0, act=None, number=0, rank=0, world=1, port=0, victim=0, **changes):
    """Train; at batch ``at`` of the victim's something happens."""
    quiet(folder)
    os.setpgrp()
    multiprocessing.set_start_method("fork", force=True)  # for loader workers; the child's own is the server's
    if world > 1:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()}, ACCELERATE_USE_CPU="true")
    made = trainer(folder, alone, **changes)
    tiny.at_batch(made, at if rank == victim else 0, lambda: act(number)).fit(resume=True)


def run_state(folder):
    """The newest checkpoint of a job's run, and its number."""
    run = Path(folder) / "run"
    return {"update": Checkpoints(run / "checkpoints").updates()[-1], "state": tiny.end_of(run)}


def outcome(folder):
    """Everything a finished job leaves, without clock times."""
    kept = EmbeddingStore(Path(folder) / "store").for_source(source())
    rows = kept[torch.arange(IMAGES)]
    return {**run_state(folder), "store": {"embedding": rows.embedding, "logits": rows.logits}}
