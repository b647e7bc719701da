"""Fingerprints: equal things have equal text, differences are readable."""

import pytest

from graphkd.data.fingerprint import canonical, data_fingerprint, differences, digest, order_fingerprint, spoken
from graphkd.errors import StoreError
from tests.data.store.fakes import Squares, squares


def test_canonical_text_ignores_the_order_of_keys():
    assert canonical({"b": 1, "a": [1.5, None]}) == canonical({"a": [1.5, None], "b": 1}) == '{"a":[1.5,null],"b":1}'


def test_a_file_name_that_is_no_unicode_has_a_fingerprint():
    assert order_fingerprint(["\udcff.png"]) != order_fingerprint(["?.png"])


@pytest.mark.parametrize("value", [{"size": {1, 2}}, {"scale": float("nan")}])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(StoreError, match="made of JSON-ready data"):
        canonical(value)


def test_the_data_fingerprint_sees_ids_and_sizes_but_no_order():
    made = squares(5)
    assert data_fingerprint(made) == data_fingerprint(Squares(made.ids[::-1]))
    assert order_fingerprint(made.ids) != order_fingerprint(made.ids[::-1])
    other = squares(5)
    other.sizes[2] += 1
    assert data_fingerprint(made) != data_fingerprint(other) != data_fingerprint(squares(4))


def test_differences_by_key():
    made = {"weights": "a", "prompts": "x", "weighting": "mean"}
    assert differences(made, dict(made)) == []
    assert differences(made, {"weights": "a", "prompts": "y"}) == [
        "the store was made with prompts 'x', this run asks 'y'",
        "the store was made with weighting 'mean', this run asks (none)",
    ]


def test_digests_are_said_in_words():
    made, asked = {"prompts": digest("a"), "precision": "fp32"}, {"prompts": digest("b"), "precision": "fp16"}
    assert differences(made, asked)[1] == "the prompts differ from those of the store"
    assert spoken("teacher_fingerprint/weights", digest("a"), "absent") == "weights of the teacher"
    assert spoken("lr", "None", "0.5") == spoken("store", "None", "absent") == ""


def test_long_texts_show_where_they_part():
    (text,) = differences({"prompts": "a" * 300 + "b"}, {"prompts": "a" * 300 + "c" + "d" * 300})
    assert text == (
        "the store was made with prompts ..."
        + repr("a" * 59 + "b")
        + ", this run asks ..."
        + repr("a" * 20 + "c" + "d" * 39)
        + "..."
    )
