import json
import pickle
from contextlib import nullcontext

import pytest

from graphkd.data.class_names import Classes, imagenet_names, name_folders, prompt_name, read_class_names
from graphkd.errors import DataError


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "names.txt"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "encoding", "names"),
    [
        ("zebra\r\nT-shirt\nBär\n", "utf-8-sig", ["zebra", "T-shirt", "Bär"]),
        ("c1\tcat\nc0\tpolar bear\n", "utf-8", {"c1": "cat", "c0": "polar bear"}),
        ("a\tcrane\nb\tcrane\n", "utf-8", {"a": "crane", "b": "crane"}),
    ],
)
def test_a_file_of_names_or_of_folders_and_names(tmp_path, text, encoding, names):
    assert read_class_names(written(tmp_path, text, encoding)) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n\ndog\n", "found line 2: ''"),
        ("cat\ncat\n", "found more than once: 'cat'"),
        ("a\tcat\na\tdog\n", "found more than once: 'a'"),
        ("a\tcat\ndog\n", "found line 2: 'dog'"),
        ("a\t\n", "found line 1"),
        ("", "no such line"),
    ],
)
def test_bad_files_name_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_class_names(written(tmp_path, text))


def test_missing_file_and_other_encodings(tmp_path):
    with pytest.raises(DataError, match=r"absent\.txt: expected a UTF-8 text file"):
        read_class_names(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="expected a UTF-8 text file"):
        read_class_names(written(tmp_path, "Bär", "latin-1"))


def test_folder_names_become_words():
    assert prompt_name("polar_bear--cub") == "polar bear cub"
    assert name_folders(["polar_bear", "T-shirt"]) == {"T-shirt": "T shirt", "polar_bear": "polar bear"}


def test_names_give_the_order_of_the_labels():
    assert list(name_folders(["ant", "Polar_Bear"], ["polar-bear", "ant"]).items()) == [
        ("Polar_Bear", "polar-bear"),
        ("ant", "ant"),
    ]
    assert list(name_folders(["c0", "c1"], {"c1": "cat", "c0": "dog"})) == ["c1", "c0"]


BOTH = {"n04355933": "sunglasses", "n04356056": "sunglasses"}
REFUSED = {
    "near": (
        lambda: name_folders(["cat", "dog"], ["cat", "dogs"]),
        r"without a folder: 'dogs'; folders without a name: 'dog'.*'dogs' is near 'dog'",
    ),
    "looks alike": (
        lambda: name_folders(["cafe\u0301", "dog"], ["caf\xe9", "dog"]),
        r"\('caf\\xe9' looks like 'cafe\\u0301' and is another name\)",
    ),
    "codes": (
        lambda: name_folders(["c0", "c1"], {"c0": "cat", "c9": "dog"}),
        "without a folder: 'c9'; folders without a name: 'c1'",
    ),
    "no UTF-8": (
        lambda: name_folders(["cat", "caf\udce9"]),
        r"no UTF-8 text: 'caf\\udce9': give them names in UTF-8",
    ),
    "outside ImageNet": (
        lambda: name_folders(["n01440764", "n00000001"]),
        "not in ImageNet-1k: 'n00000001': pass class names",
    ),
    "several classes": (
        lambda: Classes(BOTH).labels(["sunglasses"]),
        "'sunglasses' fits several classes: name it as one of 'n04355933', 'n04356056'",
    ),
    "one name": (
        lambda: Classes(["sunglasses", "sunglasses"]).labels(["sunglasses"]),
        "class names without ids: .* found more than once: 'sunglasses'",
    ),
    "letters": (
        lambda: Classes({"Cat": "Cat", "cat": "cat"}).labels(["CAT"]),
        "'CAT' fits several classes: name it as one of 'Cat', 'cat'",
    ),
    "two folders": (
        lambda: Classes(["cat", "dog"]).labels(["dog", "Dog"]),
        "several folders fit one class: 'dog', 'Dog'",
    ),
}


@pytest.mark.parametrize(("act", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(act, message):
    with pytest.raises(DataError, match=message):
        act()


def test_folders_that_read_alike_are_classes_of_their_own():
    assert name_folders(["polar_bear", "polar-bear"]) == {"polar-bear": "polar bear", "polar_bear": "polar bear"}


def test_names_without_a_folder_keep_their_label():
    assert name_folders(["dog"], ["cat", "dog", "owl"]) == {"cat": "cat", "dog": "dog", "owl": "owl"}
    assert name_folders(["Dog"], {"c0": "cat", "c1": "dog"}) == {"c0": "cat", "Dog": "dog"}


def test_wordnet_ids_become_imagenet_names_also_in_part():
    names = name_folders(["n01443537", "n01440764"])
    assert list(names.items()) == [("n01440764", "tench"), ("n01443537", "goldfish")]
    every = imagenet_names()
    assert len(every) == 1000
    assert list(every) == sorted(every)
    assert every["n02105855"] == "Shetland Sheepdog"
    assert every["n15075141"] == "toilet paper"


def test_wordnet_ids_find_the_class_of_their_name_and_names_that_of_their_id():
    assert Classes(["goldfish", "tench"]).labels(["n01440764", "n01443537"]) == {"n01440764": 1, "n01443537": 0}
    assert Classes({"n01440764": "tench", "n01443537": "goldfish"}).labels(["goldfish"]) == {"goldfish": 1}


def test_all_of_imagenet_stays_a_thousand_classes():
    every = Classes(imagenet_names())
    assert (len(every), len(set(every)), len(set(every.distinct))) == (1000, 998, 1000)
    assert [name for name in every.distinct if name.startswith("sunglasses")] == [
        "sunglasses (n04355933)",
        "sunglasses (n04356056)",
    ]
    ids = list(imagenet_names())
    assert every.labels(ids) == {wnid: label for label, wnid in enumerate(ids)}
    assert list(name_folders(ids, every)) == ids


def test_ids_and_letters_tell_classes_apart():
    assert Classes(BOTH).labels(["n04356056"]) == {"n04356056": 1}
    assert Classes({"Cat": "Cat", "cat": "cat"}).labels(["cat", "Cat"]) == {"cat": 1, "Cat": 0}


def test_classes_come_back_from_json_and_from_other_processes():
    for names in ({"c1": "cat", "c0": "cat"}, ["cat", "dog"]):
        classes = Classes(names)
        for again in (Classes(json.loads(json.dumps(classes.to_json()))), pickle.loads(pickle.dumps(classes))):
            assert (again, again.ids) == (classes, classes.ids)
    assert Classes(Classes({"c0": "cat"})).ids == ("c0",)
    assert Classes(["cat"]).ids is None


class Counted(str):
    """A name that counts how often names are looked up."""

    looked_up = 0

    def __hash__(self):
        Counted.looked_up += 1
        return super().__hash__()


@pytest.mark.parametrize("fits", [True, False])
def test_the_cost_of_naming_folders_grows_with_their_number(fits):
    counts = []
    for n in (100, 200):
        folders = [Counted(f"thing {i} x") for i in range(n)]
        names = {Counted(f"thing {i} {'x' if fits else 'y'}"): "a name" for i in range(n)}
        Counted.looked_up = 0
        with nullcontext() if fits else pytest.raises(DataError, match="and 92 more|and 192 more"):
            name_folders(folders, names)
        counts.append(Counted.looked_up)
    assert 0 < counts[1] <= 2.2 * counts[0]  # four times, were it quadratic


@pytest.mark.parametrize(
    "folders",
    [["0", "1"], ["c0012", "c0013"], ["deadbeef01", "cat"], ["class_1", "class_2", "dog"],
     ["0b6fa5d2-6a1c-4c8e-9a77-1f2e3d4c5b6a", "cat"]],
)  # fmt: skip
def test_codes_without_names_are_refused_with_the_remedy(folders):
    with pytest.raises(DataError, match=r"look like codes.*'folder<TAB>name'"):
        name_folders(folders)
    assert list(name_folders(folders, dict.fromkeys(folders, "x"))) == folders


@pytest.mark.parametrize(
    "folders", [["A380", "Cessna", "Tornado"], ["facade", "decade"], ["737-200", "MD-80", "Yak-42"]]
)
def test_names_with_numbers_are_names(folders):
    assert list(name_folders(folders)) == sorted(folders)
