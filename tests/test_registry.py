from dataclasses import dataclass

import pytest

from graphkd.errors import OptionError, UnknownNameError
from graphkd.registry import Registry, preset_of


@pytest.fixture
def fruit():
    registry = Registry("fruit")

    @registry.register
    def apple():
        return "apple"

    def pear():
        return "pear"

    assert registry.register("pear")(pear) is pear
    return registry


def test_parts_are_found_under_their_own_or_a_given_name(fruit):
    assert fruit.get("apple")() == "apple"
    assert fruit.get("pear")() == "pear"


def test_a_registry_is_a_sorted_collection_of_names(fruit):
    assert list(fruit) == fruit.names() == ["apple", "pear"]
    assert len(fruit) == 2
    assert "apple" in fruit
    assert "plum" not in fruit


def test_resolve_turns_names_into_parts_and_passes_parts(fruit):
    assert fruit.resolve("apple") is fruit.get("apple")
    assert fruit.resolve(len) is len


def test_a_name_is_taken_once(fruit):
    with pytest.raises(OptionError, match="fruit 'pear' is registered already: choose another name"):
        fruit.register("pear")(len)


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


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda fruit: fruit.get("aple"), r"^unknown fruit 'aple'; did you mean 'apple'\? Known: apple, pear$"),
        (lambda fruit: fruit.get("xyz"), r"^unknown fruit 'xyz'\. Known: apple, pear$"),
        (lambda fruit: fruit.get(None), r"^unknown fruit None\. Known: apple, pear$"),
        (lambda fruit: Registry("fruit").get("fig"), r"^unknown fruit 'fig'\. Known: none$"),
        (lambda fruit: preset_of(PRESETS, "plan"), "unknown preset 'plan'; did you mean 'plain'"),
    ],
)
def test_a_miss_gets_a_suggestion_and_the_list(fruit, ask, message):
    with pytest.raises(UnknownNameError, match=message):
        ask(fruit)
