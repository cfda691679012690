"""Embedding files: what is read, what is mended, and what is refused with the row named."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builder.core.errors import ArasError
from builder.retrieval import vector_files
from builder.retrieval.vector_files import check_pair, load, load_owner
from tests.retrieval.test_ranks import unit


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    x, y = unit(rng.standard_normal((4, 8))), unit(rng.standard_normal((6, 8)))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "o.npy", np.array([0, 1, 2, 3, 3, 0]))
    return tmp_path


def table(path, ids, vectors, name="vector"):
    pq.write_table(pa.table({"id": ids, name: vectors}), path)
    return path


def refused(path, *words):
    with pytest.raises(ArasError) as caught:
        load(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_unit_float32_rows_are_read_in_place(files):
    vectors = load(files / "x.npy")
    assert isinstance(vectors.vectors, np.memmap)
    assert vectors.note == ""
    np.testing.assert_array_equal(vectors.vectors, np.load(files / "x.npy"))


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_other_lengths_are_normalised_and_said_so(tmp_path, kind):
    raw = np.random.default_rng(0).uniform(-3, 3, (40, 16)).astype(kind)
    np.save(tmp_path / "x.npy", raw)
    vectors = load(tmp_path / "x.npy")
    assert vectors.vectors.dtype == np.float32
    np.testing.assert_allclose(vectors.vectors, unit(raw.astype("f8")), atol=1e-7)
    assert "not of unit length" in vectors.note
    assert "normalised" in vectors.note


def test_unit_float64_rows_need_no_note(tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 8))
    np.save(tmp_path / "x.npy", x / np.linalg.norm(x, axis=1, keepdims=True))
    vectors = load(tmp_path / "x.npy")
    assert (vectors.vectors.dtype, vectors.note) == (np.float32, "")


def test_large_float16_values_do_not_overflow(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 16), 60_000, dtype=np.float16))
    np.testing.assert_allclose(load(tmp_path / "x.npy").vectors, 0.25)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_refused_by_row(files, value):
    x = np.load(files / "x.npy")
    x[2, 5] = value
    np.save(files / "x.npy", x)
    refused(files / "x.npy", "row 2", "NaN or infinity")


def test_zero_vectors_are_refused_and_counted(files):
    y = np.load(files / "y.npy")
    y[[1, 4, 5]] = 0
    np.save(files / "y.npy", y)
    refused(files / "y.npy", "row 1", "zero vector", "(and 2 more)")


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.ones(4, "f4"), "(4,)"),
        (np.ones((2, 2, 2), "f4"), "(2, 2, 2)"),
        (np.ones((0, 4), "f4"), "(0, 4)"),
        (np.ones((4, 4), "i8"), "int64"),
        (np.ones((4, 4), "c8"), "complex64"),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(tmp_path, array, word):
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", word, "expected")


def test_files_that_are_no_arrays_are_refused(tmp_path):
    refused(tmp_path / "gone.npy", "no such file")
    refused(tmp_path / "gone.parquet", "no such file")
    (tmp_path / "x.csv").write_bytes(b"hello")
    refused(tmp_path / "x.csv", "not a readable .npy", "expected .npy or .parquet")
    (tmp_path / "x.parquet").write_bytes(b"hello")
    refused(tmp_path / "x.parquet", "not a readable Parquet")
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
    refused(tmp_path / "x.npy", "not a readable .npy")
    np.save(tmp_path / "x.npy", np.ones((4, 4), "f4"))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-8])
    refused(tmp_path / "x.npy", "not a readable .npy")
    np.savez(tmp_path / "x.npz", a=np.ones((4, 4)))
    refused(tmp_path / "x.npz", "archive")


def test_vectors_of_two_models_are_refused(files):
    np.save(files / "z.npy", np.ones((6, 9), "f4"))
    with pytest.raises(ArasError, match=r"x\.npy has vectors of 8 numbers, .*z\.npy of 9"):
        check_pair(load(files / "x.npy"), load(files / "z.npy"))


def owner_refused(files, owner, *words):
    np.save(files / "o.npy", owner)
    with pytest.raises(ArasError) as caught:
        load_owner(files / "o.npy", load(files / "x.npy"), load(files / "y.npy"))
    for word in words:
        assert word in str(caught.value)


def test_owners_are_read(files):
    owner = load_owner(files / "o.npy", load(files / "x.npy"), load(files / "y.npy"))
    assert owner.tolist() == [0, 1, 2, 3, 3, 0]
    assert owner.dtype == np.int64


def test_wrong_owners_are_refused_by_row(files):
    owner_refused(files, np.array([0, 1, 2]), "o.npy has 3 rows", "y.npy has 6")
    owner_refused(files, np.array([0, 1, 2, 3, 4, 0]), "o.npy: row 4 is 4", "rows 0 … 3")
    owner_refused(files, np.array([0, -1, 2, 3, 3, -2]), "row 1 is -1", "(and 1 more)")
    owner_refused(files, np.array([0.0, 1, 2, 3, 3, 0]), "float64", "integers")
    owner_refused(files, np.zeros((6, 1), int), "(6, 1)")
    owner_refused(files, np.array([0, 1, 3, 3, 3, 0]), "x.npy: row 2 has no text")


def test_parquet_rows_are_matched_by_id(tmp_path):
    eye = np.eye(3).tolist()
    images = load(table(tmp_path / "x.parquet", ["a", "b", "c"], eye))
    texts = load(table(tmp_path / "y.parquet", [7, 5, 6], eye))
    owner = table(tmp_path / "o.parquet", ["5", "6", "7"], ["c", "b", "a"], "owner")
    assert load_owner(owner, images, texts).tolist() == [0, 2, 1]


def test_fixed_size_vectors_are_read(tmp_path):
    column = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 0, 0, 1.0], pa.float32()), 2)
    pq.write_table(pa.table({"id": ["a", "b"], "vector": column}), tmp_path / "x.parquet")
    assert load(tmp_path / "x.parquet").vectors.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("ids", "vectors", "words"),
    [
        (["a", "b", "a"], [[1.0], [1.0], [1.0]], ["id a", "row 0", "row 2"]),
        (["a", None], [[1.0], [1.0]], ["row 1 has no id"]),
        (["a", "b"], [[1.0, 0.0], [1.0]], ["row 1", "another length", "2"]),
        (["a", "b"], [[1.0], None], ["row 1 has no vector"]),
        (["a", "b"], [[1.0, 1.0], [1.0, None]], ["row 1 holds NaN"]),
        (["a"], [["x"]], ["lists of floats"]),
        (["a"], [1.0], ["lists of floats"]),
    ],
)
def test_broken_tables_are_refused_by_row(tmp_path, ids, vectors, words):
    refused(table(tmp_path / "x.parquet", ids, vectors), *words)


def test_a_table_without_the_columns_is_refused(tmp_path):
    refused(table(tmp_path / "x.parquet", ["a"], [[1.0]], "embedding"), "no column vector")


@pytest.mark.parametrize(
    ("listed", "owners", "words"),
    [
        (["s", "t"], ["a", "b"], "y.parquet has ids that .*o.parquet lacks: u"),
        (["s", "t", "u", "v"], ["a", "b", "a", "a"], "o.parquet lists ids .*y.parquet lacks: v"),
        (["s", "t", "u"], ["a", "b", "z"], "names owners that .*x.parquet lacks: z"),
        (["s", "t", "t"], ["a", "b", "a"], "id t is in row 1 and again in row 2"),
        (["s", "t", "u"], ["a", "a", "a"], "x.parquet: row 1 has no text"),
    ],
)
def test_ids_that_do_not_match_are_named(tmp_path, listed, owners, words):
    images = load(table(tmp_path / "x.parquet", ["a", "b"], [[1.0], [1.0]]))
    texts = load(table(tmp_path / "y.parquet", ["s", "t", "u"], [[1.0]] * 3))
    with pytest.raises(ArasError, match=words):
        load_owner(table(tmp_path / "o.parquet", listed, owners, "owner"), images, texts)


def test_owners_by_id_need_ids(files):
    owner = table(files / "o.parquet", ["s"], ["a"], "owner")
    with pytest.raises(ArasError, match=r"x\.npy has no ids"):
        load_owner(owner, load(files / "x.npy"), load(files / "y.npy"))


def test_owners_by_row_of_rows_with_ids_are_refused(tmp_path, files):
    x = np.load(files / "x.npy")
    ids = ["a", "b", "c", "d"]
    images = load(table(tmp_path / "x.parquet", ids, x.tolist()))
    with pytest.raises(ArasError, match=r"o\.npy names owners by row, .*x\.parquet have ids"):
        load_owner(files / "o.npy", images, load(files / "y.npy"))


def test_several_files_must_be_parquet(files):
    with pytest.raises(ArasError, match=r"y\.npy: several files must be Parquet"):
        load([files / "y.npy", files / "x.npy"])


def test_what_is_wrong_in_one_of_several_files_is_named_by_file_and_row(tmp_path):
    eye = np.eye(3).tolist()
    good = table(tmp_path / "0.parquet", ["a", "b", "c"], eye)
    for ids, vectors, words in (
        (["d", "e"], [eye[0], [np.nan, 0, 0]], "1.parquet: row 1 holds NaN"),
        (["d", "e"], [eye[0], [0, 0, 0]], "1.parquet: row 1 is a zero vector"),
        (["d", "e"], [eye[0], None], "1.parquet: row 1 has no vector"),
        (["d", None], eye[:2], "1.parquet: row 1 has no id"),
        (["d", "b"], eye[:2], r"0.parquet: id b is in row 1 and again in .*1.parquet, row 1"),
        (["d", "e"], [eye[0], [1.0]], "1.parquet: row 1 has a vector of another length"),
        (["d"], ["text"], "1.parquet: column vector is string"),
        ([[1, 2]], eye[:1], "1.parquet: ids of type list<.*> are no texts"),
    ):
        with pytest.raises(ArasError, match=words):
            load([good, table(tmp_path / "1.parquet", ids, vectors)])
    damaged = tmp_path / "2.parquet"
    damaged.write_bytes(good.read_bytes()[:40])
    with pytest.raises(ArasError, match=r"2\.parquet: not a readable Parquet"):
        load([good, damaged])


def test_rows_are_numbered_as_they_lie_in_a_file_of_images_and_texts(tmp_path):
    columns = {"id": ["a", "s", "b"], "owner": [None, "a", None], "vector": [[1.0], [1.0], [0.0]]}
    pq.write_table(pa.table(columns), tmp_path / "v.parquet")
    with pytest.raises(ArasError, match=r"v\.parquet: row 2 is a zero vector"):
        load(tmp_path / "v.parquet", "images")
    assert load(tmp_path / "v.parquet", "texts").ids == ("s",)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), "dictionary"])
def test_ids_and_owners_may_be_texts_of_any_type(tmp_path, kind):
    def column(values):
        texts = pa.array(values)
        return texts.dictionary_encode() if kind == "dictionary" else texts.cast(kind)

    eye = np.eye(2).tolist()
    images = load(table(tmp_path / "x.parquet", column(["a", "b"]), eye))
    both = [
        table(tmp_path / "y.parquet", column(["s"]), eye[:1]),
        table(tmp_path / "z.parquet", ["t"], eye[1:]),
    ]
    owner = table(tmp_path / "o.parquet", column(["t", "s"]), column(["a", "b"]), "owner")
    assert load_owner(owner, images, load(both)).tolist() == [1, 0]


def test_rows_of_any_file_that_are_not_unit_make_all_unit(tmp_path):
    """Also those of batches before it, and of lengths that float32 does not hold."""
    first = table(tmp_path / "0.parquet", ["a"], pa.array([[0.6, 0.8]], pa.list_(pa.float32())))
    second = table(tmp_path / "1.parquet", ["b"], [[3e60, 4e60]])
    vectors = load([first, second])
    np.testing.assert_allclose(vectors.vectors, [[0.6, 0.8], [0.6, 0.8]], atol=1e-7)
    assert "normalised" in vectors.note


def test_rows_come_in_batches_and_no_more_than_a_batch_is_held_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(vector_files, "_ROWS", 7)
    x = unit(np.random.default_rng(0).standard_normal((100, 5)))
    vectors = load(table(tmp_path / "x.parquet", [str(n) for n in range(100)], x.tolist()))
    np.testing.assert_allclose(vectors.vectors, x, atol=1e-7)
    assert vectors.ids == tuple(str(n) for n in range(100))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float16()),
        pa.list_(pa.float64()),
        pa.list_(pa.float32(), 4),
        pa.list_(pa.float16(), 4),
        pa.large_list(pa.float32()),
    ],
    ids=str,
)
def test_several_files_may_hold_vectors_of_different_types(tmp_path, kind):
    eye = np.eye(4).tolist()
    first = table(tmp_path / "0.parquet", ["a", "b"], pa.array(eye[:2], pa.list_(pa.float32())))
    second = table(tmp_path / "1.parquet", pa.array([7, 8]), pa.array(eye[2:], kind))
    vectors = load([first, second])
    assert vectors.ids == ("a", "b", "7", "8")
    assert vectors.vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors.vectors, np.eye(4))


def test_files_of_vectors_of_different_lengths_are_named(tmp_path):
    first = table(tmp_path / "0.parquet", ["a"], [[1.0, 0.0]])
    second = table(tmp_path / "1.parquet", ["b"], [[1.0, 0.0, 0.0]])
    with pytest.raises(ArasError, match=r"1\.parquet: has vectors of 3 numbers, .*0\.parquet of 2"):
        load([first, second])


def test_owners_may_come_in_files_of_different_types(tmp_path):
    eye = np.eye(2).tolist()
    images = load(table(tmp_path / "x.parquet", ["1", "2"], eye))
    texts = load(table(tmp_path / "y.parquet", ["7", "t"], eye))
    owners = [
        table(tmp_path / "0.parquet", pa.array([7]), pa.array([2]), "owner"),
        table(tmp_path / "1.parquet", ["t"], ["1"], "owner"),
    ]
    assert load_owner(owners, images, texts).tolist() == [1, 0]
