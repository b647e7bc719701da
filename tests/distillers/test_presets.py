from dataclasses import dataclass

import pytest

from graphkd.distillers.presets import preset_of
from graphkd.errors import UnknownNameError


@dataclass(frozen=True)
class Two:
    weight: float
    form: str


PRESETS = {"plain": Two(1.0, "a"), "other": Two(2.0, "b")}


def test_what_is_given_goes_before_the_preset_zero_too_and_none_is_not_given():
    assert preset_of(PRESETS, "other") == Two(2.0, "b")
    assert preset_of(PRESETS, "other", weight=0.0, form=None) == Two(0.0, "b")
    assert preset_of(PRESETS, "plain", form="b") == Two(1.0, "b")
    assert PRESETS["plain"] == Two(1.0, "a")


def test_another_name_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="unknown preset 'plan'; did you mean 'plain'"):
        preset_of(PRESETS, "plan")
