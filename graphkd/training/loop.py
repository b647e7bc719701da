"""The training loop: views and teacher features in, a trained student and a run folder out."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graphkd import ops
from graphkd.chunks import in_chunks
from graphkd.data.fingerprint import time_fingerprint
from graphkd.data.mixing import Mixing, mixing_generator
from graphkd.data.seeds import derived_seed
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.transforms import CenterView, PadView, ResizeView
from graphkd.data.views import Batch, Views
from graphkd.distillers.base import same_update
from graphkd.errors import CheckpointError, LockedError, OptionError
from graphkd.features import Features
from graphkd.files import one_writer
from graphkd.losses import Losses
from graphkd.step import Step
from graphkd.teachers.base import Teacher
from graphkd.training.agreement import of_method, of_processes, of_teacher, of_views, require_agreement
from graphkd.training.checkpoint import FORMAT
from graphkd.training.config import LOCAL, TrainConfig
from graphkd.training.devices import Ranks, ended_at_exit, make_accelerator, prepare_step, require_all, train_session
from graphkd.training.failures import Interrupted, Signals, explain_failures
from graphkd.training.gradient_shares import shares_of_update
from graphkd.training.meter import Display, Meter, check
from graphkd.training.metrics import Scores
from graphkd.training.optim import Updater
from graphkd.training.quality import Answers, AnyQuality, Quality, assess
from graphkd.training.run_folder import RunFolder, describe_student
from graphkd.training.state import Progress, Result, check_random_states, random_states, restore_random_state
from graphkd.training.watch import Snapshots, Watch
from graphkd.typing import Float, Tensor

log = logging.getLogger("graphkd")

_ONE = threading.Lock()
_STATE = {"format", "options", "written", "progress", "step", "ema", "optimizer", "scaler", "meter", "random"}


def loaders(
    views: Views, scored: Views | None, config: TrainConfig, ranks: Ranks, device: torch.device
) -> tuple[Any, Any]:
    """This process's batches of the training images, and of the scored ones where there are any.

    Not prepared by accelerate: its default repeats samples to make shares even, and a graph has each once.
    """
    share: dict[str, Any] = {
        "rank": ranks.rank, "world": ranks.world, "workers": config.workers, "pin_memory": device.type == "cuda"
    }  # fmt: skip
    train = views.loader(config.batch_size, **share)
    if scored is None:
        return train, None
    sizes, left = range(config.batch_size, ranks.world - 1, -1), len(scored)  # the last batch too must go round
    size = next((size for size in sizes if not 0 < left % size < ranks.world), config.batch_size)
    return train, scored.loader(size, shuffle=False, drop_last=False, **share)


@contextmanager
def _alone() -> Iterator[None]:
    """One training at a time in a process: dropout of all of them draws from one global generator."""
    if not _ONE.acquire(blocking=False):
        raise LockedError(
            "another Trainer of this process is training, and both would draw from torch's global generator: let it "
            "end, or run this one in a process of its own"
        )
    try:
        yield
    finally:
        _ONE.release()


def _class_names(step: Step, views: Views, teacher: Teacher | EmbeddingStore | None) -> Sequence[str] | None:
    """What the student's classes are called: as the images say, unless the teacher has other names for them."""
    count = getattr(step.student, "num_classes", None)
    parts = (getattr(views, "source", None), teacher)
    known = [names for part in parts if (names := getattr(part, "classes", None)) and len(names) == count]
    return known[0] if known and list(known[0]) == list(known[-1]) else known[-1] if known else None


def _check_scored(scored: Views | None, answers: Answers | Tensor | None) -> None:
    """Raises: OptionError for images that there is nothing to score by, and for answers about others."""
    if answers is not None and (scored is None or len(answers) != len(scored)):
        count = 0 if scored is None else len(scored)
        raise OptionError(f"{len(answers)} answers do not fit {count} scored images: give both of the same images")
    if scored is not None and answers is None and not getattr(scored, "labels", True):
        raise OptionError("the scored images hand out no labels: use Views(..., labels=True), or give answers=")


def _fixed_view(*shown: Views | None) -> dict[str, Any] | None:
    """What the student is scored on, as its ``spec``: the first of these views that is neither random nor unknown."""
    for each in shown:
        view = getattr(each, "student", None)
        if isinstance(view, CenterView | ResizeView | PadView):
            return dict(view.spec)
    return None


class Trainer:
    """Distil into a student: :meth:`fit` trains, writes the run folder, and goes on where an earlier run was killed.

    No step waits for the device: terms are summed there and read every ``log_every`` updates, and an update whose
    loss or gradient is not finite is refused there. Checkpoints are taken between updates only.

    Args:
        step: ``Step(student, *distillers)``: all that has a gradient.
        views: training images; the order and the augmentation come from their seed. They should carry no labels
            (``labels=False``, the default) unless a task is to learn from them.
        features: the teacher's features of a batch on the student's device: ``lambda batch: teacher(batch.teacher)``,
            or ``lambda batch: store[batch.index]``; ``None`` for a task alone. Where images are mixed, it sees the
            unmixed ones, and the mixture is passed on in ``Features.mixture``.
        config: the options.
        run: the run folder.
        teacher: whose features they are: the teacher, or the store. It is not asked for any; its fingerprint is
            compared between processes, and with the run that is resumed. Without it another teacher is not noticed.
        scored: images to score on, never trained on: with labels, ``Views(..., labels=True)``, or with ``answers``.
        answers: what the teacher says of ``scored``, as :func:`graphkd.training.quality.ask` found out: the student is
            compared with it, and without labels the best student on the way is kept in ``best/``. Of a student without
            classes, the teacher's embeddings (n, d) in the order of ``scored``: see
            :mod:`graphkd.training.embedding_quality`.
        accelerator: your own ``accelerate.Accelerator``; by default one is made from the options.
        watch: images whose embeddings are kept on the way, for pictures and reports.

    Raises: DataError if the images do not fill a batch; OptionError for options that cannot run here.

    Example::

        step = Step(student, prg)
        trainer = Trainer(step, views, lambda batch: teacher(batch.teacher), config, "runs/one", teacher=teacher)
        result = trainer.fit()
    """

    def __init__(
        self,
        step: Step,
        views: Views,
        features: Callable[[Batch], Features] | None,
        config: TrainConfig,
        run: Path | str,
        *,
        teacher: Teacher | EmbeddingStore | None = None,
        scored: Views | None = None,
        answers: Answers | Tensor | None = None,
        accelerator: Any = None,
        watch: Watch | None = None,
    ) -> None:
        if (config.mixup or config.cutmix) and step.task is not None:
            raise OptionError("a task compares with the labels of unmixed images: set mixup=0 and cutmix=0")
        _check_scored(scored, answers)
        self.config, self.features, self.run = config, features, RunFolder(run)
        self.accelerator = make_accelerator(config, self.run.path) if accelerator is None else require_all(accelerator)
        self.ranks, self.signals = Ranks(self.accelerator), Signals()
        self.device: torch.device = self.accelerator.device
        self.snapshots = Snapshots(watch, self.run.path, config.epochs, self.accelerator)
        self.options = {**of_method(config, step), **of_views(views), **of_teacher(teacher)}
        self.written = time_fingerprint(getattr(views, "source", None))
        size = getattr(getattr(views, "student", None), "size", None)
        names = _class_names(step, views, teacher)
        self._described = describe_student(step.student, names, size, _fixed_view(scored, views))
        if self.ranks.world > 1:
            common = {name: value for name, value in self.options.items() if name not in LOCAL}
            common |= of_processes(step, scored, self.snapshots.due, teaches=features is not None)
            with explain_failures(self.run.saved, self.ranks.world):
                require_agreement(self.ranks, common)
        self.loader, self.scored = loaders(views, scored, config, self.ranks, self.device)
        self.mixing = Mixing(config.mixup, config.cutmix) if config.mixup or config.cutmix else None
        self.per_epoch = len(self.loader)
        self.updates = -(-self.per_epoch // config.accumulate) * config.epochs
        self.step: Any = step.to(self.device)
        sharded = prepare_step(self.step, config, self.ranks)
        self.updater = Updater(self.step, config, self.updates, sharded)
        self.meter, self.at = Meter(self.device, tolerant=config.nonfinite != "stop"), Progress()
        self.answers = answers
        self.scores: Scores | None = None
        self.quality: AnyQuality | None = None
        self._warned = False  # of a collapse
        self._shares: dict[str, float] = {}  # of the gradient, in the update under way
        self._safe = -1, 0  # epoch and batch of the newest checkpoint
        self.used_up = False  # by a forecast

    @property
    def model(self) -> nn.Module:
        """The student that is scored: the moving average where there is one. All processes ask where it is sharded."""
        return self.updater.model()

    def fit(self, resume: bool = False, begun: Callable[[], object] | None = None) -> Result:
        """Train to the end.

        Args:
            resume: go on from the newest checkpoint of the run folder that is whole; from the start if there is none.
            begun: called by the main process once it is certain that the run goes on.

        A first SIGTERM or SIGINT is answered after the update under way (of several processes: at the next reading of
        the losses) by a checkpoint and :class:`Interrupted`, a ``SystemExit``.

        Raises: NonFiniteError if a loss or gradient becomes NaN or infinite and ``nonfinite`` says so; CheckpointError
            if the run folder holds another run, or one and ``resume`` is false; FileError if it cannot be written;
            LockedError while another process, or another Trainer of this one, trains; OptionError after a forecast;
            DataError for an image that cannot be read and for a dead loader worker; DistributedError for a lost
            process.
        """
        if self.used_up:
            raise OptionError("this Trainer made a forecast, and its student has moved: make another one to train")
        with (
            _alone(),
            self.signals,
            ended_at_exit(),
            explain_failures(self.run.saved, self.ranks.world),
            ExitStack() as held,
        ):
            torch.manual_seed(self.config.seed + self.ranks.rank)
            self.ranks.first(lambda: held.enter_context(one_writer(self.run.path)))
            held.enter_context(self._kernels(resume))
            self._begin(resume, begun)
            self.step.train()
            hidden = not (self.config.progress and self.accelerator.is_main_process)
            self.display = Display(self.config, self.per_epoch, self.at, hidden)
            session = train_session(self.accelerator, self.step, self.config, self.run.path, self.at.update)
            with closing(self.display), session as wrapped:
                while self.at.epoch < self.config.epochs:
                    self._epoch(wrapped)
                    self._stop_if_signalled(read=True)
            if self.scores is None is self.quality and self.scored:  # resumed after its end
                self._score()
        return Result(self.model, self.at.seconds, self.at.update, self.scores, self.run.path, self.quality)

    def _kernels(self, resume: bool) -> AbstractContextManager[None]:
        """Every process uses one plan of the kernels to the end, that which the run began with."""
        self.plan = ops.in_force(str(self.device))
        self.plan = self.run.plan(self.plan) if resume else self.plan
        require_agreement(self.ranks, {"plan of the kernels": self.plan.digest})
        return ops.using(str(self.device), self.plan)

    def _begin(self, resume: bool, begun: Callable[[], object] | None) -> None:
        """Go on, or begin: all is decided before anything is written."""
        self.run.check(self.options, resume)
        found = self.run.checkpoints.newest(self._check_state) if resume else None
        require_agreement(self.ranks, {"update to go on from": found and found[0]})
        if found is not None:
            self._restore(found[1])
            log.warning("resuming %s after update %d of %d", self.run.path, found[0], self.updates)
        self.ranks.first(lambda: self.run.open(self.options, self.at.update, self._described, self.plan))
        self._best = self.run.best_agreement(self.at.update) if self.accelerator.is_main_process else 0.0
        if begun is not None:
            self.ranks.first(begun)
        if found is None:
            self.snapshots.at(self.updater.model, 0)

    def _epoch(self, wrapped: Any) -> None:
        config, at = self.config, self.at
        self.loader.batch_sampler.set_epoch(at.epoch, at.batch)
        self._mark = time.perf_counter()
        for number, batch in enumerate(self.loader, start=at.batch):
            first = number - number % config.accumulate
            size = min(config.accumulate, self.per_epoch - first)  # the epoch's last update may be made of fewer
            last = number + 1 == first + size
            with nullcontext() if last else self.accelerator.no_sync(wrapped):
                batch = batch.to(self.device)
                self.backward(wrapped, batch, self.inputs(batch, number), number, size)
            if not last:
                continue
            self.updater.update(at.update, self.meter, self.ranks.everywhere)
            at.update, at.batch = at.update + 1, number + 1
            if self._shares:
                self._record(self._shares)
                self._shares = {}
            self.display.advance(size * config.batch_size)
            read = at.update % config.log_every == 0 or at.batch == self.per_epoch
            if read:
                self._read()
            if config.checkpoint_every and at.update % config.checkpoint_every == 0 and at.batch < self.per_epoch:
                self._save()
            self._stop_if_signalled(read)
        self._tick()
        self._end_epoch()

    def backward(
        self, wrapped: Any, batch: Batch, inputs: tuple[Tensor, Features | None], number: int, size: int
    ) -> None:
        """Gradient of a batch on the device, whose :meth:`inputs` are known, as a ``size``-th part of the update."""
        images, teacher = inputs
        with self.accelerator.autocast(), same_update(self.step, holds=number % self.config.accumulate > 0):
            losses = Losses(wrapped(images, teacher, target=batch.target, index=batch.index))
        self.meter.add(losses)
        every = self.config.log_gradient_shares
        if every and (self.at.update + 1) % every == 0 and number % self.config.accumulate == 0:
            self._shares = shares_of_update(self.step, losses, self.updater.scaler)
        self.updater.backward(losses.total / size)

    def inputs(self, batch: Batch, number: int) -> tuple[Float[Tensor, "b 3 h w"], Features | None]:
        """The student's images and the teacher's features, both mixed where that is asked for."""
        if self.features is None:
            return batch.student, None
        spans = in_chunks(len(batch), self.config.chunk)
        parts = [batch] if len(spans) == 1 else [batch.rows(span) for span in spans]
        teacher = Features.joined([self.features(part).to(self.device) for part in parts])
        if self.mixing is None:
            return batch.student, teacher
        luck = mixing_generator(self.config.seed, self.at.epoch, number, self.ranks.rank)
        images, mixture = self.mixing(batch.student, luck)
        return images, replace(teacher, mixture=mixture)

    def _stop_if_signalled(self, read: bool) -> None:
        """Save and leave where a signal asks for it; several processes agree where they read their losses."""
        if self.ranks.world > 1 and not read:
            return
        number = self.ranks.most(self.signals.asked)
        if number:
            if self._safe != (self.at.epoch, self.at.batch):  # not saved a moment ago
                self._save()
            log.warning("stopped by a signal after update %d of %d: %s", self.at.update, self.updates, self.run.saved())
            raise Interrupted(number, self.run.checkpoints.path(self.at.update))

    def _check(self, means: dict[str, float]) -> int:
        return check(self.meter, means, self.config, self.updater.collapsed(), self.at, self.run.newest())

    def _read(self) -> None:
        """Bring the window's means to the host, check and record them."""
        means = self.meter.read(self.ranks.mean)
        before, self.at.skipped = self.at.skipped, self._check(means)
        if self.at.skipped > before:
            names, count = ", ".join(self.meter.broken), self.at.skipped
            log.warning("by update %d, %d were left out: NaN or infinite %s", self.at.update, count, names)
        extra: dict[str, float] = {key: means[key] for key in ("gradient", "skipped", "refused") if key in means}
        terms = {name: value for name, value in means.items() if name not in extra}
        extra |= {"lr": self.updater.lr, "images_per_second": self.display.show(self.at, terms)}
        self._record({"loss": sum(terms.values()), **terms, **extra})

    def _record(
        self, values: dict[str, float], scores: Scores | None = None, quality: AnyQuality | None = None
    ) -> None:
        epoch = self.at.epoch + self.at.batch / self.per_epoch
        if self.accelerator.is_main_process:
            self.run.add({"update": self.at.update, "epoch": epoch, **values}, scores, self.at.seconds, quality)
        self.accelerator.log(values, step=self.at.update)

    def _score(self) -> None:
        def batches() -> Iterator[Batch]:
            for batch in self.scored:
                self._mark = time.perf_counter()  # scoring is no training
                self._stop_if_signalled(read=self.ranks.world == 1)
                yield batch

        with self.accelerator.autocast():
            self.scores, self.quality = assess(self.model, batches(), self.answers, self.device, self.ranks.sum)

    def _judge(self, quality: AnyQuality) -> None:
        """Warn of a collapse, and keep the best student where there are no labels to tell which it is."""
        main = self.accelerator.is_main_process
        if (
            main
            and isinstance(quality, Quality)
            and quality.collapsed
            and self.at.epoch + 1 > self.config.epochs / 4
            and not self._warned
        ):
            self._warned = True
            log.warning("epoch %d: %s", self.at.epoch + 1, quality.warning)
        better = main and self.scores is None and quality.agreement > self._best
        if self.ranks.most(int(better)):
            weights = self.model.state_dict()  # all processes ask where it is sharded
            if main:
                self._best = quality.agreement
                self.run.keep_best(self.at.update, self.at.epoch + 1, quality.agreement, weights)

    def _end_epoch(self) -> None:
        """Score where it is due, tell, and save."""
        at, done = self.at, self.at.epoch + 1
        due = bool(self.scored) and (done % self.config.evaluate_every == 0 or done == self.config.epochs)
        if due:
            self._score()
            found = [each.numbers() for each in (self.scores, self.quality) if each is not None]
            self._record({name: value for each in found for name, value in each.items()}, self.scores, self.quality)
            if self.quality is not None:
                self._judge(self.quality)
        at.epoch, at.batch = done, 0
        self.snapshots.at(self.updater.model, done)
        self.display.epoch(at, self.meter.read_epoch(), self.scores if due else None, self.quality if due else None)
        self._mark = time.perf_counter()
        self._save()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.at.seconds, self._mark = self.at.seconds + now - self._mark, now

    def _save(self) -> None:
        self._check(self.meter.peek(self.ranks.mean))
        self._tick()
        state: dict[str, Any] = {"options": self.options, "written": self.written, "progress": asdict(self.at)}
        state |= self.updater.state()
        state |= {"meter": self.meter.state(self.ranks.mean), "random": random_states(self.device, self.ranks)}
        if self.accelerator.is_main_process:
            self.run.checkpoints.save(self.at.update, state)
        self.accelerator.wait_for_everyone()
        self._safe = self.at.epoch, self.at.batch

    def _check_state(self, update: int, state: dict[str, Any]) -> None:
        """Raises: CheckpointError unless a checkpoint's state is of this run, and all of it; nothing is changed."""
        where, config = str(self.run.checkpoints.path(update)), self.config
        if state["format"] != FORMAT:
            raise CheckpointError(
                f"{where} was written by an earlier graphkd, which has to finish this run (format {state['format']}, "
                f"this is {FORMAT}); its student can be evaluated and exported by this one too"
            )
        try:
            if state.keys() != _STATE or self.options.keys() - LOCAL != state["options"].keys() - LOCAL:
                raise CheckpointError(f"it holds {sorted(state)} and the options {sorted(state['options'])}")
            config.check_resume(state["options"], self.options, str(self.run.path))
            Progress.of(state["progress"], update, config.epochs, self.per_epoch, config.accumulate)
            self.updater.check(state)
            self.meter.check(state["meter"])
            check_random_states(state["random"])
        except (CheckpointError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(f"{where} does not hold what this run needs: {error}") from error

    def _restore(self, state: dict[str, Any]) -> None:
        if state["written"] != self.written and self.accelerator.is_main_process:
            log.warning(
                "files of images were written since this run began, and those that are compared have the same content: "
                "all is well if they were copied; if some of the others were replaced, train anew"
            )
        self.updater.restore(state)
        self.meter.restore(state["meter"])
        self.at = Progress(**state["progress"])
        self._safe = self.at.epoch, self.at.batch
        seed = derived_seed(self.config.seed, self.ranks.rank, self.at.update)
        restore_random_state(state["random"], self.device, self.ranks, seed)
