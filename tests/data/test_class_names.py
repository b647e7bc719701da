import pytest

from graphkd.data.class_names import imagenet_names, name_folders, prompt_name, read_class_names
from graphkd.errors import DataError


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "names.txt"
    path.write_bytes(text.encode(encoding))
    return path


def test_one_name_a_line_keeps_order_and_letters(tmp_path):
    assert read_class_names(written(tmp_path, "zebra\r\nT-shirt\nBär\n", "utf-8-sig")) == ["zebra", "T-shirt", "Bär"]


def test_codes_with_names_become_a_mapping(tmp_path):
    assert read_class_names(written(tmp_path, "c1\tcat\nc0\tpolar bear\n")) == {"c1": "cat", "c0": "polar bear"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n\ndog\n", "found line 2: ''"),
        ("cat\ncat\n", "found more than once: 'cat'"),
        ("a\tcat\nb\tcat\n", "found more than once: 'cat'"),
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


def test_names_that_do_not_fit_are_listed_with_the_nearest():
    with pytest.raises(
        DataError, match=r"without a folder: 'dogs'; folders without a name: 'dog'.*'dogs' is near 'dog'"
    ):
        name_folders(["cat", "dog"], ["cat", "dogs"])
    with pytest.raises(DataError, match=r"\('caf\\xe9' looks like 'cafe\\u0301' and is another name\)"):
        name_folders(["cafe\u0301", "dog"], ["caf\xe9", "dog"])
    with pytest.raises(DataError, match="without a folder: 'c9'; folders without a name: 'c1'"):
        name_folders(["c0", "c1"], {"c0": "cat", "c9": "dog"})


def test_folders_that_read_alike_are_refused():
    with pytest.raises(DataError, match="folders: classes need different names"):
        name_folders(["polar_bear", "polar-bear"])


def test_wordnet_ids_become_imagenet_names_also_in_part():
    names = name_folders(["n01443537", "n01440764"])
    assert list(names.items()) == [("n01440764", "tench"), ("n01443537", "goldfish")]
    every = imagenet_names()
    assert len(every) == 1000
    assert list(every) == sorted(every)
    assert every["n02105855"] == "Shetland Sheepdog"
    assert every["n15075141"] == "toilet paper"


def test_wordnet_ids_outside_imagenet_are_refused():
    with pytest.raises(DataError, match="not in ImageNet-1k: 'n00000001': pass class names"):
        name_folders(["n01440764", "n00000001"])


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
