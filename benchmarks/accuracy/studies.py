"""The studies by name."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.accuracy import caltech, cifar, digits, eikd, eikd_more, labelled, tin100, tin100_crg
from benchmarks.accuracy.choice import chosen, later_trials
from benchmarks.accuracy.config import Config, Method, Recipe, fast_precision
from benchmarks.accuracy.study import Problem


@dataclass(frozen=True)
class Study:
    """What is compared with what.

    Args:
        title: of tables and pictures.
        problem: images, teacher and student of a configuration.
        base: how students are trained.
        methods, more: those run by default, and those by flag.
        seeds: paired seeds by default.
        against: method whose paired differences stand in the table.
        data: what the images are called beside those of other studies.
        ours, theirs: rows and columns of a second table of paired differences.
        first_seed: the first of the paired seeds.
        chosen_in: the study in which some of the rows are chosen.
    """

    title: str
    problem: Callable[[Config], Problem]
    base: Recipe
    methods: list[Method]
    seeds: int
    against: str
    data: str = ""
    more: tuple[Method, ...] = ()
    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    first_seed: int = 0
    chosen_in: str = ""

    def chosen(self, names: str | None) -> list[Method]:
        """Methods by label, separated by ``;``; ``None`` for the default ones, ``"all"`` for all."""
        every = {method.label.lower(): method for method in [*self.methods, *self.more]}
        if names is None:
            return self.methods
        if names == "all":
            return list(every.values())
        wanted = [name.strip().lower() for name in names.split(";")]
        for name in wanted:
            if name not in every:
                raise SystemExit(f"no method {name!r} in this study: choose among {'; '.join(every)}")
        return [every[name] for name in wanted]

    def recipe(self, student: str | None = None, epochs: int | None = None, batch: int | None = None) -> Recipe:
        """The base recipe, or another student, length or size of the graph."""
        student, batch = student or self.base.student, batch or self.base.batch
        found = replace(self.base, student=student, batch=batch, precision=fast_precision())
        if epochs is None:
            return found
        return replace(found, epochs=epochs, warmup=self.base.warmup * epochs / self.base.epochs)


BASELINES = ("KD", "mimicking + CE", "KD + mimicking + CE")
_caltech = partial(Study, data="Caltech-101", problem=caltech.problem, base=caltech.RECIPE)
_tin100 = partial(Study, data="TinyImageNet")
_confirmed: dict[str, Any] = {
    "against": "KD, tuned",
    "ours": ("PRG", "best candidate"),
    "theirs": ("KD, tuned", "sum, tuned"),
}
_unlabelled = partial(Study, problem=cifar.without_labels, methods=cifar.WITHOUT_LABELS, seeds=1, against="KD")
_labelled = partial(Study, problem=cifar.with_labels, methods=cifar.WITH_LABELS, against="KD")
STUDIES: dict[str, Study] = {
    "caltech": _caltech(
        title="Caltech-101 (41 classes), CLIP ViT-B/32 teacher, no labels",
        methods=[*caltech.METHODS, *caltech.TERMS],
        more=tuple(caltech.MORE),
        seeds=5,
        against="KD",
        ours=("PRG", *[method.label for method in caltech.TERMS]),
        theirs=("pseudo-label CE", *BASELINES),
    ),
    "caltech-weights": _caltech(
        "Weights of the baselines on Caltech-101 (41 classes)", methods=caltech.WEIGHTS, seeds=3, against="KD, T = 4"
    ),
    "caltech-prg": _caltech(
        "Ablation of PRG on Caltech-101 (41 classes)", methods=caltech.ABLATION, seeds=3, against="PRG"
    ),
    "caltech-batch": _caltech(
        "Size of the batch on Caltech-101 (41 classes)", methods=caltech.BATCHES, seeds=3, against="KD, 64"
    ),
    "caltech-graph": _caltech(
        "Size of the graph on Caltech-101 (41 classes)",
        methods=caltech.GRAPHS,
        seeds=3,
        against="PRG, 4 graphs of 64",
        ours=("PRG, one graph of 1024",),
        theirs=("PRG, 16 graphs of 64",),
    ),
    "caltech-eikd": _caltech(
        "EIKD on a pool of Caltech-101, of which the teacher knows 41 of 100 classes (1,058 images), no labels",
        problem=eikd.caltech_problem,
        methods=eikd.METHODS,
        more=tuple(eikd.MORE),
        seeds=3,
        against="selected, KD",
    ),
    "caltech-eikd-2": _caltech(
        "EIKD with terms that carry weight, on the pool of Caltech-101, no labels",
        problem=eikd.caltech_problem,
        methods=eikd_more.METHODS,
        seeds=3,
        against="selected, KD",
    ),
    "tin100-eikd": _tin100(
        "EIKD on TinyImageNet, of which the teacher, EfficientNet-Lite2, knows 50 of 100 classes, no labels, one seed",
        problem=eikd_more.tin100_problem,
        base=tin100.RECIPE,
        methods=eikd_more.TIN100,
        seeds=1,
        against="selected, KD",
    ),
    "caltech-choice": Study(
        "Choice of weights on thirds of the training images of Caltech-101 (41 classes)",
        problem=caltech.choice,
        base=caltech.RECIPE,
        methods=caltech.CHOICE,
        more=tuple(later_trials(8.0)),
        seeds=caltech.FOLDS,
        against="KD, T = 4",
    ),
    "caltech-confirmed": _caltech(
        "Caltech-101 (41 classes), CLIP ViT-B/32 teacher, no labels: weights chosen elsewhere, fresh seeds",
        methods=[caltech.METHODS[0], *chosen("caltech-choice", caltech.CHOICE), tin100.PRG, caltech.METHODS[-1]],
        seeds=5,
        first_seed=10,
        chosen_in="caltech-choice",
        **_confirmed,
    ),
    "tin100-choice": _tin100(
        "Choice of weights on 5,000 training images of TinyImageNet (100 classes), 15 epochs",
        problem=tin100.choice,
        base=tin100.HALF,
        methods=tin100.CHOICE,
        more=tuple(later_trials(1.0)),
        seeds=1,
        against="KD, T = 1",
    ),
    "tin100": _tin100(
        "TinyImageNet (100 classes), EfficientNet-Lite2 teacher, no labels",
        problem=tin100.confirmation,
        base=tin100.RECIPE,
        methods=[tin100.PSEUDO, *chosen("tin100-choice", tin100.CHOICE), tin100.PRG, tin100.LABELS],
        seeds=3,
        first_seed=10,
        chosen_in="tin100-choice",
        **_confirmed,
    ),
    "tin100-more": _tin100(
        "Other methods on TinyImageNet (100 classes), one seed",
        problem=tin100.confirmation,
        base=tin100.RECIPE,
        methods=tin100.MORE,
        seeds=1,
        first_seed=10,
        against="mimicking + CE",
    ),
    "caltech-ega": _caltech(
        "Caltech-101 (41 classes), CLIP ViT-B/32 teacher, with labels",
        problem=labelled.caltech_problem,
        methods=labelled.CALTECH,
        seeds=5,
        first_seed=10,
        against="labels alone",
        ours=("EGA", "EGA, edge / 4"),
        theirs=("KD", "mimicking", "mimicking x 5", "DIST", "RKD", "SP"),
    ),
    "tin100-labels": _tin100(
        "TinyImageNet (100 classes), EfficientNet-Lite2 teacher, with labels, one seed",
        problem=labelled.tin100_problem,
        base=tin100.RECIPE,
        methods=labelled.TIN100,
        seeds=1,
        first_seed=10,
        against="labels alone",
    ),
    "tin100-crg": _tin100(
        "CRG on TinyImageNet (100 classes, 4 views of 3,000 images), EfficientNet-Lite0 teacher, with labels",
        problem=tin100_crg.problem,
        base=tin100_crg.RECIPE,
        methods=tin100_crg.METHODS,
        more=tuple(tin100_crg.MORE),
        seeds=3,
        against="CRG",
        ours=("CRG",),
        theirs=("labels alone", "KD", "CRG, defaults"),
    ),
    "digits-prompts": Study(
        title="Weights of PRG's prompts, on handwritten digits with eight prompts a class",
        problem=digits.problem,
        base=digits.RECIPE,
        methods=digits.METHODS,
        seeds=5,
        against="ratio of maxima",
    ),
    "cifar100": _unlabelled(
        "CIFAR-100, reduced protocol (10,000 images, 10 epochs), CLIP-like teacher, no labels", base=cifar.REDUCED
    ),
    "cifar100-prg": _unlabelled(
        "Ablation of PRG on CIFAR-100 (2,500 images, 10 epochs), no labels",
        base=cifar.SMALLER,
        methods=cifar.PRG_ABLATION,
        seeds=3,
        against="literal preset",
        data="CIFAR-100",
    ),
    "cifar100-labels": _labelled("CIFAR-100 (2,500 images, 10 epochs), with labels", base=cifar.SMALLER, seeds=3),
    "cifar100-crg": _labelled(
        "Ablation of CRG on CIFAR-100 (2,500 images, 10 epochs), with labels",
        base=cifar.SMALLER,
        methods=cifar.CRG_ABLATION,
        seeds=3,
        against="CRG",
    ),
    "eikd": Study(
        title="EIKD on a pool of CIFAR-100 and other photographs (3,000 images, 10 epochs), no labels",
        problem=eikd.cifar_problem,
        base=eikd.RECIPE,
        methods=eikd.METHODS,
        more=tuple(eikd.MORE),
        seeds=3,
        against="selected, KD",
        data="CIFAR-100",
    ),
    "cifar100-full": _unlabelled("CIFAR-100, full protocol, CLIP-like teacher, no labels", base=cifar.FULL),
    "cifar100-full-labels": _labelled("CIFAR-100, full protocol, with labels", base=cifar.FULL, seeds=1),
}
