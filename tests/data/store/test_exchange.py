"""Vectors from elsewhere become a store, and a store becomes files of other programs."""

import numpy as np
import pytest
import torch

from graphkd.data.store.embed import embed
from graphkd.data.store.exports import export_store
from graphkd.data.store.imports import import_vectors
from graphkd.data.store.read import EmbeddingStore
from graphkd.data.store.tools import info, verify
from graphkd.data.store.vectors import open_vectors
from graphkd.errors import DataError, FileError, OptionError, StoreError
from tests.data.store.fakes import TinyTeacher, ToTensor, squares

parquet = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")


def rows(n, width=4, dtype="float32", seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(dtype)


def matrix(folder, values, names):
    np.save(folder / "embedding.npy", values)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def imported(path, out, **options):
    return import_vectors(open_vectors(path, **options), out)


def test_a_matrix_with_names(tmp_path):
    values, names = rows(9000, dtype="float16"), [f"{n}.jpg" for n in range(9000)]
    store = imported(matrix(tmp_path, values, names), tmp_path / "store")
    assert (len(store), store.manifest.dtype, store.manifest.count) == (
        9000,
        "float16",
        3,
    )  # blocks of 8192, shards of 4096
    assert store.ids == names
    assert torch.equal(store[range(9000)].embedding, torch.tensor(values).float())
    made = info(tmp_path / "store")["teacher"]
    assert (made["kind"], made["form"]) == ("imported", "matrix")
    assert "embedding.npy" in made["files"]
    assert str(tmp_path) not in made["files"]
    assert verify(tmp_path / "store") == {}


def clip_retrieval(folder, parts):
    (folder / "img_emb").mkdir()
    (folder / "metadata").mkdir()
    for number, (values, names) in parts.items():
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", values)
        table = pa.table({"image_path": names, "caption": names})
        parquet.write_table(table, folder / "metadata" / f"metadata_{number}.parquet")
    return folder


def test_clip_retrieval_in_the_order_of_its_numbers(tmp_path):
    parts = {n: (rows(2, seed=n), [f"/data/photos/{n}/{each}.jpg" for each in "ab"]) for n in (0, 2, 10)}
    store = imported(clip_retrieval(tmp_path, parts), tmp_path / "store", relative_to="/data/photos")
    assert store.ids == ["0/a.jpg", "0/b.jpg", "2/a.jpg", "2/b.jpg", "10/a.jpg", "10/b.jpg"]
    assert torch.equal(store[[4, 5]].embedding, torch.tensor(parts[10][0]))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 4), pa.large_list(pa.float64())])
def test_parquet_of_hugging_face(tmp_path, kind):
    values, data = rows(5), tmp_path / "data"
    data.mkdir()
    for number, span in enumerate([slice(0, 2), slice(2, 5)]):
        columns = {"file_name": pa.array(range(5))[span], "vector": pa.array(list(values[span]), type=kind)}
        parquet.write_table(pa.table(columns), data / f"train-0000{number}-of-00002.parquet")
    store = imported(data, tmp_path / "store", embedding_column="vector", id_column="file_name")
    assert (store.ids, store.manifest.dtype) == (["0", "1", "2", "3", "4"], "float32")
    assert torch.equal(store[range(5)].embedding, torch.tensor(values))


def test_proxies_make_a_zero_shot_classifier(tmp_path):
    matrix(tmp_path, np.array([[3.0, 4.0], [0.0, -2.0]], "float32"), ["a", "b"])
    np.save(tmp_path / "texts.npy", np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 4.0]], "float32"))
    (tmp_path / "c.txt").write_text("cat\ndog\nhorse\n")
    store = imported(tmp_path, tmp_path / "store", proxies=tmp_path / "texts.npy", classes=tmp_path / "c.txt")
    found = store[[0, 1]]
    assert (store.num_classes, store.classes) == (3, ["cat", "dog", "horse"])
    torch.testing.assert_close(found.logits, torch.tensor([[60.0, 80, 100], [0, -100, -80]]))
    torch.testing.assert_close(found.proxy_logits, torch.tensor([[100.0, 0, 60], [0, 100, 80], [60, 80, 100]]))
    assert found.proxies.tolist() == [[2, 0], [0, 1], [3, 4]]


@pytest.mark.parametrize("form", ["npy", "parquet"])
@pytest.mark.parametrize(("dtype", "back"), [("float32", "float32"), ("float16", "float16"), ("int8", "float32")])
def test_a_round_trip_is_bit_equal(tmp_path, form, dtype, back):
    before = embed(TinyTeacher(), squares(7), tmp_path / "a", transform=ToTensor(), dtype=dtype, progress=False)
    export_store(tmp_path / "a", tmp_path / "files", form)
    after = imported(tmp_path / "files", tmp_path / "b")
    assert (after.ids, after.classes, after.manifest.dtype) == (before.ids, before.classes, back)
    for part in ("embedding", "logits", "proxies", "proxy_logits"):
        assert torch.equal(getattr(before[range(7)], part), getattr(after[range(7)], part)), part
    after.for_source(squares(7))  # names are all that is compared
    assert verify(tmp_path / "b", squares(7)) == {}


def test_a_store_without_classes_writes_none(tmp_path):
    embed(TinyTeacher(head=False), squares(3), tmp_path / "a", transform=ToTensor(), progress=False)
    assert [each.name for each in export_store(tmp_path / "a", tmp_path / "b")] == ["embedding.npy", "names.txt"]
    with pytest.raises(FileError, match="is there already"):
        export_store(tmp_path / "a", tmp_path / "b")


def test_names_that_are_missing_are_said(tmp_path):
    store = imported(matrix(tmp_path, rows(2), squares(2).ids), tmp_path / "store")
    with pytest.raises(StoreError, match=r"lacks 1 \(folder/image002.png\) of the 3 asked for"):
        store.for_source(squares(3))


def test_what_is_wrong_is_named_and_nothing_is_left(tmp_path):
    values = rows(3)
    values[1, 2] = np.nan
    matrix(tmp_path, values, ["a", "b", "c"])
    with pytest.raises(StoreError, match=r"not finite for 1 samples: b;"):
        imported(tmp_path, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_import_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    from graphkd.data.store.write import StoreWriter

    matrix(tmp_path, rows(9000), range(9000))
    whole, written = StoreWriter.shard, []

    def stops(writer, number, *rest):
        if number == 1:
            raise KeyboardInterrupt
        whole(writer, number, *rest)

    monkeypatch.setattr(StoreWriter, "shard", stops)
    with pytest.raises(KeyboardInterrupt):
        imported(tmp_path, tmp_path / "store")
    with pytest.raises(StoreError, match="incomplete"):
        EmbeddingStore(tmp_path / "store")
    monkeypatch.setattr(StoreWriter, "shard", lambda *given: written.append(given[1]) or whole(*given))
    assert len(imported(tmp_path, tmp_path / "store")) == 9000
    assert written == [1, 2]


def wrong(tmp_path, **change):
    """A folder of two vectors in which one thing is wrong."""
    given = {"values": rows(2), "names": ["a", "b"]} | change
    return matrix(tmp_path, given["values"], given["names"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"names": ["a", "b", "c"]}, "embedding.npy holds 2 rows and .*names.txt 3 names"),
        ({"names": ["a", "a"]}, "names 'a' 2 times"),
        ({"values": np.arange(8).reshape(2, 4)}, r"holds int64 \(2, 4\)"),
        ({"values": np.zeros(2)}, r"holds float64 \(2,\)"),
        ({"values": np.array([{}, {}])}, "cannot read .* as a matrix"),
    ],
)
def test_a_wrong_matrix_is_refused(tmp_path, change, what):
    with pytest.raises(DataError, match=what):
        open_vectors(wrong(tmp_path, **change))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"relative_to": "/data"}, r"2 \(a, b\) of 2 names do not begin with /data/"),
        ({"proxies": "narrow.npy"}, "the proxies have width 3 and the vectors of .* 4"),
        ({"classes": "one.txt"}, "class names and nothing that scores them"),
        ({"classes": "one.txt", "proxies": "two.npy"}, "2 rows of proxies and 1 class names"),
        ({"names": "absent.txt"}, "cannot read the names"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, what):
    wrong(tmp_path)
    np.save(tmp_path / "narrow.npy", rows(2, 3))
    np.save(tmp_path / "two.npy", rows(2))
    (tmp_path / "one.txt").write_text("cat\n")
    paths = {name: value if name == "relative_to" else tmp_path / value for name, value in options.items()}
    with pytest.raises(DataError, match=what):
        open_vectors(tmp_path, **paths)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"id": ["a", "b"]}, "has no column 'embedding', it has id"),
        ({"id": ["a", None], "embedding": [[1.0], [2.0]]}, "1 rows of the column 'id' are empty"),
        ({"id": [[1], [2]], "embedding": [[1.0], [2.0]]}, "expected texts or whole numbers"),
        ({"id": ["a", "b"], "embedding": [1.0, 2.0]}, "expected lists of floating-point numbers"),
        ({"id": ["a", "b"], "embedding": [[1.0, 2.0], None]}, "are empty or of another length"),
        ({"id": ["a", "b"], "embedding": [[1.0, 2.0, 3.0], [1.0]]}, "vectors of several lengths"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, columns, what):
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=what):
        open_vectors(tmp_path / "t.parquet")


def test_widths_that_change_on_the_way_are_refused(tmp_path):
    parts = {0: (rows(2), ["a", "b"]), 1: (rows(2, 5), ["c", "d"])}
    with pytest.raises(DataError, match="float32 of width 4 and float32 of width 5"):
        open_vectors(clip_retrieval(tmp_path, parts))
    tables = tmp_path / "tables"
    tables.mkdir()
    for number, width in enumerate((3, 4)):
        table = pa.table({"id": [f"{number}"], "embedding": list(rows(1, width))})
        parquet.write_table(table, tables / f"{number}.parquet")
    with pytest.raises((StoreError, DataError), match=r"\(1, 4\), expected \(1, 3\)|width"):
        imported(tables, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_folders_and_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "broken.parquet").write_text("x")
    for path, what in [("x.txt", "holds no vectors"), ("broken.parquet", "cannot read"), (".", "cannot read")]:
        with pytest.raises(DataError, match=what):
            open_vectors(tmp_path / path)


def test_several_views_are_not_exported(tmp_path):
    from graphkd.data.transforms import RandomCropView

    embed(TinyTeacher(), squares(2), tmp_path / "a", transform=RandomCropView(4), views=2, progress=False)
    with pytest.raises(OptionError, match="2 views"):
        export_store(tmp_path / "a", tmp_path / "b")
    with pytest.raises(OptionError, match="logit_scale"):
        import_vectors(open_vectors(matrix(tmp_path, rows(1), ["a"])), tmp_path / "c", logit_scale=0)
