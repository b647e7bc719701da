"""YAML of others: words and numbers as YAML 1.2 has them, and nothing that multiplies, nests or repeats."""

import pytest

from graphkd.training.strict_yaml import LIMIT, load_yaml


@pytest.mark.parametrize(("text", "value"), [
    ("0.7", 0.7), ("1e-3", 1e-3), ("3", 3), ("no", "no"), ("on", "on"), ("true", True), ("false", False), ("null", None), ("both", "both"),
    ("[a, b]", ["a", "b"]), ("{kd: {}, rkd: {angle_weight: 0}}", {"kd": {}, "rkd": {"angle_weight": 0}}), ("2026-01-02", "2026-01-02"),
    ("0x1f", 31), ("0o17", 15), ("017", 17), ("-3", -3), ("+.5e1", 5.0), ("", None), ("~", None),  # as YAML 1.2 has them
    ("1:59:59", "1:59:59"), ("1_000", "1_000"), ("0b1", "0b1"), ("0x_", "0x_"), ("=", "="), (".inf", ".inf"), ("{<<: 1}", {"<<": 1}),
])  # fmt: skip
def test_words_stay_words_and_numbers_become_numbers(text, value):
    found = load_yaml(text)
    assert found == value
    assert type(found) is type(value)


LAUGHS = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"


@pytest.mark.parametrize(("text", "problem"), [
    (LAUGHS, r"line 2: aliases are not read: write the value out"),
    ("a: &a\n  b: *a\n", r"line 2: aliases are not read"),
    ("a: " + "[" * 3000, r"line 1: it is nested more than 20 deep"),
    ("{a: " * 3000, r"line 1: it is nested more than 20 deep"),
    ("a: 1\nb: " + "9" * 5000, r"line 2: a number has 5000 digits"),
    ("a: 0x" + "f" * 5000, r"line 1: a number has 5002 digits"),
    ("a: 1\nb: 2\na: 3\n", r"line 3: the key 'a' occurs twice"),
    ("a: {b: 1, b: 2}", r"line 1: the key 'b' occurs twice"),
    ("a" * (LIMIT + 1), rf"it has {LIMIT + 1} characters, at most {LIMIT} are read"),
    ("a: !!bool maybe", r"line 1: tags such as tag:yaml.org,2002:bool are not read: leave it out"),
    ("1: a\n0x1: b\n", r"line 2: the key 1 occurs twice"),
    ("1: a\n1.0: b\n", r"line 2: the key 1.0 occurs twice"),
    ("a: {b: 1, 'b': 2}", r"line 1: the key 'b' occurs twice"),
    ("a: 1e308999", r"line 1: 1e308999 is larger than a float can be"),
    (r'a: "\UFFFFFFFF"', r"too large|not in range"),
    ("? [a, b]\n: 1", r"line 1: found unhashable key"),
    ("a: !!python/object/apply:os.system [exit 1]", r"line 1: tags such as tag:yaml.org,2002:python/object/apply:os.system are not read"),
])  # fmt: skip
def test_what_is_refused_is_named_with_its_line(text, problem):
    with pytest.raises(ValueError, match=problem):
        load_yaml(text)


def test_what_options_hold_is_within_the_bounds():
    deep = "a: " + "[" * 15 + "]" * 15
    assert load_yaml(deep)
    assert load_yaml("{a: 1, b: {a: 1}}") == {"a": 1, "b": {"a": 1}}
    assert load_yaml("seed: " + "9" * 18) == {"seed": 10**18 - 1}


def test_many_keys_are_compared_in_one_pass():
    keys = "".join(f"k{i}: 1\n" for i in range(5000))
    assert len(load_yaml(keys)) == 5000
