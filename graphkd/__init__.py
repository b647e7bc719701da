"""Graph knowledge distillation: align graphs of samples, class proxies, channels and embeddings."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any
from warnings import warn

if TYPE_CHECKING:
    from graphkd import functional as functional
    from graphkd.data.folders import open_folder as open_folder
    from graphkd.data.store.embed import embed as embed
    from graphkd.data.store.read import EmbeddingStore as EmbeddingStore
    from graphkd.data.views import Batch as Batch
    from graphkd.data.views import Views as Views
    from graphkd.distillers.base import Distiller as Distiller
    from graphkd.distillers.crg.distiller import CRGDistiller as CRGDistiller
    from graphkd.distillers.ega import EGADistiller as EGADistiller
    from graphkd.distillers.eikd.distiller import EIKDDistiller as EIKDDistiller
    from graphkd.distillers.factory import create_distiller as create_distiller
    from graphkd.distillers.prg.distiller import PRGDistiller as PRGDistiller
    from graphkd.errors import GraphKDError as GraphKDError
    from graphkd.features import Features as Features
    from graphkd.graphs.alignments import Alignment as Alignment
    from graphkd.graphs.edges import Edges as Edges
    from graphkd.graphs.graph import Graph as Graph
    from graphkd.losses import Losses as Losses
    from graphkd.models.embedding_head import EmbeddingHead as EmbeddingHead
    from graphkd.models.students import create_student as create_student
    from graphkd.models.tap import Tap as Tap
    from graphkd.ops import backend as backend
    from graphkd.step import Step as Step
    from graphkd.teachers.classifier import ClassifierTeacher as ClassifierTeacher
    from graphkd.teachers.clip import CLIPTeacher as CLIPTeacher
    from graphkd.training.config import TrainConfig as TrainConfig
    from graphkd.training.loop import Trainer as Trainer

__version__ = "0.1.0"

_HOME = {
    "Alignment": "graphkd.graphs.alignments",
    "Batch": "graphkd.data.views",
    "CLIPTeacher": "graphkd.teachers.clip",
    "CRGDistiller": "graphkd.distillers.crg.distiller",
    "ClassifierTeacher": "graphkd.teachers.classifier",
    "Distiller": "graphkd.distillers.base",
    "EGADistiller": "graphkd.distillers.ega",
    "EIKDDistiller": "graphkd.distillers.eikd.distiller",
    "Edges": "graphkd.graphs.edges",
    "EmbeddingHead": "graphkd.models.embedding_head",
    "EmbeddingStore": "graphkd.data.store.read",
    "Features": "graphkd.features",
    "Graph": "graphkd.graphs.graph",
    "GraphKDError": "graphkd.errors",
    "Losses": "graphkd.losses",
    "PRGDistiller": "graphkd.distillers.prg.distiller",
    "Step": "graphkd.step",
    "Tap": "graphkd.models.tap",
    "TrainConfig": "graphkd.training.config",
    "Trainer": "graphkd.training.loop",
    "Views": "graphkd.data.views",
    "backend": "graphkd.ops",
    "create_distiller": "graphkd.distillers.factory",
    "create_student": "graphkd.models.students",
    "embed": "graphkd.data.store.embed",
    "open_folder": "graphkd.data.folders",
}

_MODULES = ("functional",)

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import graphkd`` costs nothing."""
    if name in _MODULES:
        return import_module(f"graphkd.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'graphkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_MOVED = {  # modules that had another name in earlier versions
    "graphkd.cli.classifiers": "graphkd.cli.networks",
    "graphkd.cli.parts": "graphkd.cli.option_groups",
    "graphkd.relations": "graphkd.graphs.relations",
}


class _Moved(MetaPathFinder, Loader):
    """Modules under their earlier names."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Moved()) if fullname in _MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warn(f"{spec.name} is {_MOVED[spec.name]} now", DeprecationWarning, stacklevel=2)
        module = import_module(_MOVED[spec.name])
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; it has been executed already."""
        module.__spec__ = self.spec


sys.meta_path.append(_Moved())
