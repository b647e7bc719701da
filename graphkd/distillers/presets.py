"""Named settings of a method, of which every part may be given by itself."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from graphkd.registry import unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P", bound="DataclassInstance")


def preset_of(presets: Mapping[str, P], name: str, **given: object) -> P:
    """The preset of that name, with what is given beside it; ``None`` is not given.

    Raises: UnknownNameError.
    """
    if name not in presets:
        raise unknown("preset", name, sorted(presets))
    return replace(presets[name], **{key: value for key, value in given.items() if value is not None})
