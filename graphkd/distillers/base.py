"""What every method is: a way to build one graph from Features, and a table of terms that compare two such graphs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from torch import nn

from graphkd import distributed, ops
from graphkd.checks import full_precision, ready_features
from graphkd.distillers.sizes import Sizes, measure, refuse_plain
from graphkd.distributed import mean_over_batch as mean_over_batch
from graphkd.errors import ArgumentTypeError, MissingFeatureError, OptionError, ShapeError, TeacherError
from graphkd.features import Features, ordinary
from graphkd.graphs.graph import Graph
from graphkd.losses import Losses
from graphkd.registry import Registry, Renamed, unknown, warn_renamed
from graphkd.typing import Int, Side, Tensor

T = TypeVar("T")
DISTILLERS: Registry[type["Distiller"]] = Registry("distiller")


class Sized(Protocol):
    """What has an embedding and classes: a Tap, a Teacher, a store."""

    @property
    def embedding_dim(self) -> int:
        """Width of the embedding."""

    @property
    def num_classes(self) -> int | None:
        """Number of logits, or ``None`` without a head."""


class Pair:
    """All that a term may look at: both graphs, both records, and what the caller gave beside them.

    Args:
        build: of the method; a graph is built when a term first asks for it.
        student_features, teacher_features: in the precision of the computation; the teacher's without history.
        target: labels, where a method needs them.
        index: sample positions, where a method keeps a memory.
        boxes: object boxes of each image, where a method masks by them.
        sizes: samples on each rank.
    """

    def __init__(
        self,
        build: Callable[[Features, Side], Graph],
        student_features: Features,
        teacher_features: Features,
        *,
        target: Int[Tensor, " b"] | None = None,
        index: Int[Tensor, " b"] | None = None,
        boxes: Any = None,
        sizes: tuple[int, ...] = (),
    ) -> None:
        self._build = build
        self._made: dict[Any, Any] = {}
        self.student_features, self.teacher_features = student_features, teacher_features
        self.target, self.index, self.boxes, self.sizes = target, index, boxes, sizes

    @property
    def student(self) -> Graph:
        """The student's graph; edges reach the targets of all ranks, gathered where a term asks for them."""
        return self.once(Pair, Pair._graphs)[0]

    @property
    def teacher(self) -> Graph:
        """The teacher's graph, without gradient."""
        return self.once(Pair, Pair._graphs)[1]

    def _graphs(self) -> tuple[Graph, Graph]:
        sizes = list(self.sizes)
        with torch.no_grad():
            teacher = self._build(self.teacher_features, "teacher").gather(sizes)
        return self._build(self.student_features, "student").gather(sizes), teacher

    def once(self, key: Hashable, make: Callable[["Pair"], T]) -> T:
        """What several terms of a batch share, made by the first that asks."""
        if key not in self._made:
            self._made[key] = make(self)
        found: T = self._made[key]
        return found


Term = Callable[[Pair], Tensor]


class Distiller(nn.Module, ABC):
    """A method: ``build`` makes the graph of one side, ``terms`` says what is compared and with which weight.

    Subclasses are final and register themselves with ``@DISTILLERS.register("name")``. They own projectors and proxies;
    loaders, optimisers, devices and logging are not theirs. A term whose weight is 0 is left out at construction.

    Attributes:
        terms: name -> (weight, term).
        global_batch: ``"exact"`` (W ranks equal one process), ``"per_image"`` (no relation between samples), or
            ``"undefined: reason"``.
        relates_maps: whether terms relate maps or tokens of several images, so that chunks of a batch must keep them.
        reads_16_bits: whether ``build`` and the terms hand features to ``ops`` as they are, and compute nothing of
            their own: then 16-bit features on a GPU stay so for its kernels. Others, and a CPU, get float32.
        zero_at_teacher: names of the terms that are 0 when the student equals the teacher.
        required_inputs: which of ``target``, ``index``, ``boxes`` must be given.
        sized_by: arguments of the constructor that :meth:`between` finds out: ``student_dim``, ``teacher_dim``,
            ``num_classes``, ``num_samples``, ``channels``, ``token_dims``.
        same_update: whether the next batch is one more of the update under way; see :func:`same_update`.
    """

    terms: Mapping[str, tuple[float, Term]]
    global_batch: ClassVar[str] = "exact"
    relates_maps: bool = False
    reads_16_bits: ClassVar[bool] = False
    zero_at_teacher: ClassVar[frozenset[str]] = frozenset()
    required_inputs: ClassVar[frozenset[str]] = frozenset()
    sized_by: ClassVar[tuple[str, ...]] = ()
    same_update: bool = False
    _name: str | None = None
    needs = Renamed("required_inputs")
    needed = Renamed("active_inputs")
    table = Renamed("weighted_terms")

    def __init_subclass__(cls, **options: Any) -> None:
        """A method that was written for earlier names keeps its meaning."""
        super().__init_subclass__(**options)
        for old, new in (("needs", "required_inputs"), ("needed", "active_inputs")):
            if old in vars(cls):
                warn_renamed(f"{cls.__name__}.{old}", new)
                setattr(cls, new, vars(cls)[old])

    @classmethod
    def between(cls, student: Any, teacher: Any, **options: Any) -> Self:
        """A distiller of the right size.

        Args:
            student: a Tap, or the :class:`~graphkd.features.Features` of one batch (which also tell channels).
            teacher: a Teacher, a store, or Features.
            options: as of the constructor; a size given here is not asked for.

        Raises: MissingFeatureError for a size that neither tells; UnknownNameError for an option that it does not have.
        """
        cls.check_options(options)
        asked = [name for name in cls.sized_by if name not in options]
        return cls(**measure(student, teacher, asked, cls.__name__, options), **options)

    @classmethod
    def option_names(cls) -> list[str]:
        """Names of everything that its constructor, or its own ``between``, takes."""
        functions: list[Any] = [cls.__init__]
        if "between" in cls.__dict__:
            functions.append(cls.__dict__["between"].__func__)
        parameters = [each for function in functions for each in signature(function).parameters.values()]
        found = {each.name for each in parameters if each.kind is not Parameter.VAR_KEYWORD}
        return sorted(found - {"self", "cls", "student", "teacher"})

    @classmethod
    def check_options(cls, options: Mapping[str, Any]) -> None:
        """Raises: UnknownNameError for an option that it does not have, with the nearest one."""
        known = cls.option_names()
        takes_any = any(each.kind is Parameter.VAR_KEYWORD for each in signature(cls.__init__).parameters.values())
        for option in options:
            if option not in known and not takes_any:
                raise unknown(f"option of {cls.__name__}", option, known)

    @abstractmethod
    def build(self, features: Features, side: Side) -> Graph:
        """The graph of one network's view of a batch."""

    def prepare(self, student: Features, teacher: Features) -> tuple[Features, Features]:
        """Both records before graphs are built; a method may complete one by the other."""
        return student, teacher

    def begin(self) -> None:
        """Before each batch; a method with a schedule moves it on here, in training and unless ``same_update``."""

    def finish(self, pair: Pair) -> None:
        """After the terms of a batch, without gradient; a method with a memory updates it here."""

    def forward(
        self,
        student: Features,
        teacher: Features,
        *,
        target: Int[Tensor, " b"] | None = None,
        index: Int[Tensor, " b"] | None = None,
        boxes: Any = None,
    ) -> Losses:
        """Named, weighted loss terms of one batch.

        Args:
            student: features with gradient.
            teacher: features of the same samples in the same order; no gradient reaches them.
            target, index, boxes: needed by some methods only.

        Raises: ArgumentTypeError for anything else than Features, MissingFeatureError for an absent part, ShapeError
            for batches that differ.
        """
        given = {"target": target, "index": index, "boxes": boxes}
        beside = {name: ordinary(each) if isinstance(each, Tensor) else each for name, each in given.items()}
        student, teacher = self._ready(student, teacher, beside)
        self.begin()
        with full_precision(student.device):
            return self.compare(student, teacher, beside)

    def compare(self, student: Features, teacher: Features, beside: Mapping[str, Any]) -> Losses:
        """What :meth:`forward` returns, of checked features and what was given ``beside`` them.

        A method that changes its finished terms, or has no graph of its own, does so here.
        """
        sizes = tuple(distributed.sizes(len(student), student.device))
        student, teacher = self.prepare(student, teacher)
        pair, prefix = Pair(self.build, student, teacher, **beside, sizes=sizes), self.name
        losses = Losses({f"{prefix}/{name}": weight * term(pair) for name, (weight, term) in self.terms.items()})
        with torch.no_grad():
            self.finish(pair)
        return losses

    @property
    def active_inputs(self) -> frozenset[str]:
        """What of ``required_inputs`` the options of this instance leave."""
        return self.required_inputs

    @property
    def name(self) -> str:
        """What its terms are called by: ``prg`` for ``PRGDistiller``, unless another name was set."""
        return self._name or type(self).__name__.removesuffix("Distiller").lower()

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @staticmethod
    def weighted_terms(**terms: tuple[float, Term | None]) -> dict[str, tuple[float, Term]]:
        """Terms by name with those of weight 0 left out. Raises: OptionError for a weight < 0 or not finite."""
        for name, (weight, _) in terms.items():
            if not 0 <= weight < float("inf"):
                raise OptionError(f"the weight of the {name} term is a finite number >= 0, found {weight}")
        return {name: (weight, term) for name, (weight, term) in terms.items() if weight and term}

    def _ready(self, student: Features, teacher: Features, given: dict[str, Any]) -> tuple[Features, Features]:
        for side, found in (("student", student), ("teacher", teacher)):
            if not isinstance(found, Features):
                raise ArgumentTypeError(
                    f"{type(self).__name__} takes Features of both networks, found {_kind(found)} of the {side}: "
                    f"wrap its network in {'Tap' if side == 'student' else 'ClassifierTeacher'}(...); a store gives "
                    "Features too, and Features(embedding=..., logits=...) makes your own"
                )
        student, teacher = ready_features(student, teacher, ops.kernels_read_16_bits if self.reads_16_bits else None)
        for name in sorted(self.active_inputs):
            if given[name] is None:
                raise MissingFeatureError(f"{type(self).__name__} needs {name}=...: give it beside the features")
        return student, teacher


def _kind(value: Any) -> str:
    """What an argument is, for a message."""
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


@contextmanager
def same_update(*modules: nn.Module, holds: bool = True) -> Iterator[None]:
    """Inside, batches belong to the update that an earlier batch began, and schedules of distillers do not move.

    ``Trainer`` and the integrations say so for accumulated batches, ``Step`` for its chunks. A loop of your own that
    accumulates gradients says it for all batches of an update but the first.

    Args:
        modules: distillers, or modules that hold them.
        holds: ``False`` leaves everything as it is.

    Example::

        for number, (images, _) in enumerate(loader):
            with same_update(step, holds=number % 4 > 0):
                losses = step(images, teacher(images))
            (losses.total / 4).backward()
            if number % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    """
    found = [part for module in modules for part in module.modules() if isinstance(part, Distiller)] if holds else []
    before = [each.same_update for each in found]
    for each in found:
        each.same_update = True
    try:
        yield
    finally:
        for each, held in zip(found, before, strict=True):
            each.same_update = held


def widths(method: str, student: Sized | Features, teacher: Sized | Features) -> tuple[int, int, int]:
    """Student's and teacher's embedding width and their common number of classes.

    Raises: TeacherError for a teacher without classes; ShapeError for a student without, or with another number.
    """
    s, t = Sizes.of(student), Sizes.of(teacher)
    if s.num_classes is None or t.num_classes is None:
        refuse_plain(student, teacher)
    if s.num_classes is None:
        raise ShapeError(f"{method} needs the student's class scores, and this student has no classifier: give it one")
    if t.num_classes is None:
        raise TeacherError(
            f"{method} needs classes, and this teacher has neither text tower nor classifier: "
            "use a CLIP-like teacher with class names, or a distiller of embeddings alone"
        )
    if s.num_classes != t.num_classes:
        raise ShapeError(
            f"the student has {s.num_classes} classes, the teacher {t.num_classes}: build the student "
            f"with num_classes={t.num_classes}, in the order of teacher.classes"
        )
    found = measure(student, teacher, ("student_dim", "teacher_dim"), method, {})
    return found["student_dim"], found["teacher_dim"], s.num_classes
