"""Writes the small files in this directory, as other programs write them.

    python tests/data/make.py

needs numpy, pyarrow, polars and duckdb. Row i, component j of every matrix is
(7 i + 3 j) mod 23, less 11 where the type has a sign, over 4 where it has
fractions; `id` is i and `name` "row <i>". io/src/open.rs holds the same rule.
"""

from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq

HERE = Path(__file__).parent
ROWS, DIM = 10, 4
DTYPES = {"f16": np.float16, "f32": np.float32, "f64": np.float64, "u8": np.uint8, "i8": np.int8}


def matrix(dtype, dim=DIM):
    base = (7 * np.arange(ROWS)[:, None] + 3 * np.arange(dim)[None, :]) % 23
    if dtype == "u8":
        return base.astype(np.uint8)
    if dtype == "i8":
        return (base - 11).astype(np.int8)
    return ((base - 11) / 4).astype(DTYPES[dtype])


def fixed(dtype):
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix(dtype).ravel()), DIM)


def offsets(kind):
    return pa.array(np.arange(0, ROWS * DIM + 1, DIM), kind)


def table(vectors):
    names = [f"row {i}" for i in range(ROWS)]
    return pa.table({"id": pa.array(range(ROWS)), "v": vectors, "name": names})


def ipc(name, table, compression=None, rows=4):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(HERE / name, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)


def numpy_files():
    for dtype in DTYPES:
        np.save(HERE / f"numpy_{dtype}.npy", matrix(dtype))
    for version in (2, 3):
        with open(HERE / f"numpy_version{version}.npy", "wb") as file:
            np.lib.format.write_array(file, matrix("f32"), version=(version, 0))
    np.save(HERE / "numpy_fortran.npy", np.asfortranarray(matrix("f32")))
    np.save(HERE / "numpy_big_endian.npy", matrix("f32").astype(">f4"))
    np.save(HERE / "bad_one_dimension.npy", matrix("f32").ravel())
    np.save(HERE / "bad_three_dimensions.npy", matrix("f32").reshape(5, 2, DIM))
    np.save(HERE / "numpy_i64.npy", matrix("i8").astype(np.int64))
    np.save(HERE / "bad_complex.npy", matrix("f32").astype(np.complex64))
    with open(HERE / "bad_twice.npy", "wb") as file:
        np.save(file, matrix("f32"))
        np.save(file, matrix("f32"))
    np.save(HERE / "bad_structured.npy", np.zeros(3, dtype=[("x", "<f4"), ("y", "<f4")]))


def pyarrow_files():
    for dtype in DTYPES:
        pq.write_table(table(fixed(dtype)), HERE / f"pyarrow_fixed_{dtype}.parquet", row_group_size=3)
        ipc(f"pyarrow_fixed_{dtype}.arrow", table(fixed(dtype)))
    values = pa.array(matrix("f32").ravel())
    lists = pa.ListArray.from_arrays(offsets(pa.int32()), values)
    large = pa.LargeListArray.from_arrays(offsets(pa.int64()), values)
    pq.write_table(table(lists), HERE / "pyarrow_list_f32.parquet", data_page_version="2.0", compression="zstd")
    pq.write_table(table(large), HERE / "pyarrow_large_list_f32.parquet", compression="gzip")
    ipc("pyarrow_list_f32.arrow", table(lists))
    ipc("pyarrow_large_list_f32.arrow", table(large))
    for codec in ("lz4", "zstd"):
        ipc(f"pyarrow_{codec}_f32.arrow", table(lists), codec)
        pq.write_table(table(fixed("f32")), HERE / f"pyarrow_{codec}_f32.parquet", compression=codec)
    feather.write_feather(table(lists), str(HERE / "pyarrow_f32.feather"))
    # A slice is written as such: its first offset is not 0.
    ipc("pyarrow_slice_f32.arrow", table(lists).slice(3, 5))
    named = table(lists).set_column(2, "name", pa.array([f"row {i}" for i in range(ROWS)]).dictionary_encode())
    ipc("pyarrow_dictionary_f32.arrow", named)
    with pa.ipc.new_stream(HERE / "pyarrow_f32.arrows", named.schema) as writer:
        writer.write_table(named, max_chunksize=4)

    f32 = matrix("f32", 10)
    kinds = [pa.float32(), pa.float64(), pa.float16()]
    columns = {f"pc{j + 1}": pa.array(f32[:, j].astype(np.float64)).cast(kinds[j % 3]) for j in reversed(range(10))}
    scalars = pa.table({"id": pa.array(range(ROWS), pa.int32()), **columns, "name": ["x"] * ROWS})
    pq.write_table(scalars, HERE / "pyarrow_scalars.parquet", row_group_size=4)
    ipc("pyarrow_scalars.arrow", scalars)

    rows = matrix("f32").tolist()
    null_list = pa.array(rows[:6] + [None] + rows[7:], pa.list_(pa.float32(), DIM))
    null_component = pa.array(rows[:8] + [[1.0, None, 2.0, 3.0]] + rows[9:], pa.list_(pa.float32()))
    ragged = pa.array(rows[:5] + [[1.0, 2.0]] + rows[6:], pa.list_(pa.float32()))
    for name, vectors in (("null_list", null_list), ("null_component", null_component), ("ragged", ragged)):
        pq.write_table(table(vectors), HERE / f"bad_{name}.parquet", row_group_size=3)
        ipc(f"bad_{name}.arrow", table(vectors))
    null_number = pa.table({"x": pa.array([1.0, 2.0, None]), "y": pa.array([1, 2, 3])})
    pq.write_table(null_number, HERE / "bad_null_number.parquet")
    ipc("bad_null_number.arrow", null_number)
    two = table(lists).append_column("w", fixed("u8"))
    pq.write_table(two, HERE / "bad_two_columns.parquet")
    pq.write_table(table(lists).drop_columns("v"), HERE / "bad_no_vectors.parquet")
    pq.write_table(table(lists).slice(0, 0), HERE / "bad_no_rows.parquet")


def clothes_files():
    """One matrix in many clothes, a column each; i8's values where there are no fractions."""
    whole, parts = matrix("i8"), matrix("f32")
    values = lambda kind, of=whole: pa.array(of.ravel()).cast(kind)
    listed = lambda array: pa.ListArray.from_arrays(offsets(pa.int32()), array)
    columns = {}
    for kind in (pa.int16(), pa.int32(), pa.int64()):
        columns[f"{kind}"] = listed(values(kind))
    for kind in (pa.uint16(), pa.uint32(), pa.uint64()):
        columns[f"{kind}"] = pa.FixedSizeListArray.from_arrays(values(kind, matrix("u8")), DIM)
    columns["bool"] = listed(pa.array((whole > 0).ravel()))
    columns["decimal"] = listed(pa.array(parts.ravel().astype(np.float64)).cast(pa.decimal128(12, 4)))
    floats = pa.array(parts.ravel())
    nested = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(floats, 2), 2)
    columns["nested"] = nested
    columns["ragged nest"] = pa.array(parts.reshape(ROWS, 2, 2).tolist(), pa.list_(pa.list_(pa.float32())))
    fixed_list = pa.FixedSizeListArray.from_arrays(floats, DIM)
    columns["tensor"] = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2, 2]), fixed_list)
    rows = pa.array(range(ROWS))
    columns["struct"] = pa.StructArray.from_arrays([rows, listed(floats)], ["n", "values"])
    ones, none = pa.array(np.ones(ROWS, np.int8)), pa.nulls(ROWS, pa.int32())
    doubles = listed(pa.array(parts.ravel().astype(np.float64)))
    columns["spark"] = pa.StructArray.from_arrays(
        [ones, none, pa.nulls(ROWS, pa.list_(pa.int32())), doubles], ["type", "size", "indices", "values"]
    )
    blobs = [row.tobytes() for row in parts]
    columns["binary"] = pa.array(blobs, pa.binary())
    columns["fixed"] = pa.array(blobs, pa.binary(4 * DIM))
    columns["bytes"] = pa.array([list(blob) for blob in blobs], pa.list_(pa.uint8()))
    columns["packed"] = pa.array([bytes([i % 256, 255 - i]) for i in range(ROWS)], pa.binary())
    table = pa.table(columns)
    pq.write_table(table, HERE / "pyarrow_clothes.parquet", compression="zstd", row_group_size=ROWS, use_dictionary=False, write_statistics=False)
    starts, sizes = offsets(pa.int32())[:-1], pa.array(np.full(ROWS, DIM, np.int32))
    views = pa.ListViewArray.from_arrays(starts.take(pa.array(range(ROWS - 1, -1, -1))), sizes, floats)
    keys = pa.array(list(range(ROWS)), pa.int8())
    more = {
        "views": views.take(pa.array(range(ROWS - 1, -1, -1))),
        "dictionary": pa.DictionaryArray.from_arrays(keys, fixed_list),
        "words": pa.FixedSizeListArray.from_arrays(pa.DictionaryArray.from_arrays(
            pa.array((np.arange(ROWS)[:, None] * 7 + np.arange(DIM) * 3).ravel() % 23, pa.int16()),
            pa.array((np.arange(23) - 11) / 4, pa.float32())), DIM),
        "binary view": pa.array(blobs, pa.binary_view()),
        "large binary": pa.array(blobs, pa.large_binary()),
    }
    ipc("pyarrow_clothes.arrow", pa.table({**{name: columns[name] for name in ("int64", "bool", "decimal", "struct", "spark", "packed")}, **more}), rows=ROWS)
    kinds = pa.array([1] * 4 + [0] + [1] * (ROWS - 5), pa.int8())
    sparse = pa.StructArray.from_arrays(
        [kinds, none, pa.nulls(ROWS, pa.list_(pa.int32())), doubles], ["type", "size", "indices", "values"]
    )
    pq.write_table(pa.table({"features": sparse}), HERE / "bad_sparse.parquet")
    twice = pa.table([fixed_list, fixed_list], names=["v", "v"])
    pq.write_table(twice, HERE / "bad_twice.parquet")


def encrypted_files():
    """A column that nobody reads without its key, beside others that anybody reads."""
    import base64

    import pyarrow.parquet.encryption as encryption

    class Keys(encryption.KmsClient):
        def __init__(self, _):
            encryption.KmsClient.__init__(self)

        def wrap_key(self, key, _):
            return base64.b64encode(key)

        def unwrap_key(self, key, _):
            return base64.b64decode(key)

    factory = encryption.CryptoFactory(Keys)
    config = encryption.EncryptionConfiguration(footer_key="f", column_keys={"c": ["name"]}, plaintext_footer=True)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), config)
    vectors = table(fixed("f32"))
    path = HERE / "bad_encrypted_column.parquet"
    with pq.ParquetWriter(path, vectors.schema, encryption_properties=properties) as writer:
        writer.write_table(vectors)


def polars_files():
    frame = pl.DataFrame({"id": range(ROWS), "name": [f"row {i}" for i in range(ROWS)]})
    frame = frame.with_columns(kind=pl.Series(["a", "b"] * (ROWS // 2), dtype=pl.Categorical))
    array = frame.with_columns(v=pl.Series(matrix("f32"), dtype=pl.Array(pl.Float32, DIM)))
    lists = frame.with_columns(v=pl.Series(matrix("f64").tolist(), dtype=pl.List(pl.Float64)))
    array.write_parquet(HERE / "polars_array_f32.parquet", row_group_size=3)
    lists.write_parquet(HERE / "polars_list_f64.parquet", row_group_size=3)
    array.write_ipc(HERE / "polars_array_f32.arrow", compression="zstd")
    lists.write_ipc(HERE / "polars_list_f64.arrow")
    lists.write_ipc(HERE / "polars_lz4_f64.arrow", compression="lz4")
    array.write_ipc_stream(HERE / "polars_f32.arrows")
    wide = array.select("v", "id").with_columns(
        wide=pl.Series(range(ROWS), dtype=pl.Int128),
        within=pl.struct(n=pl.lit(3, dtype=pl.UInt128), text=pl.lit("t")),
    )
    wide.write_parquet(HERE / "polars_int128.parquet")
    wide.write_ipc(HERE / "polars_int128.arrow", compression="zstd")
    wide.write_ipc_stream(HERE / "polars_int128.arrows")


DUCKDB = {
    "uuid": "('00000000-0000-0000-0000-' || lpad(i::VARCHAR, 12, '0'))::UUID",
    "interval": "to_months(i::INT) + to_days(2) + to_milliseconds(i)",
    "timetz": "'10:00:00.5+02'::TIMETZ",
    "time": "'10:00:01.000007'::TIME",
    "hugeint": "i::HUGEINT * 18446744073709551616",
    "enum": "(CASE WHEN i % 2 = 0 THEN 'b' ELSE 'a' END)::ENUM('c', 'b', 'a')",
    "blob": "'\\xAA\\xBB'::BLOB",
    "bit": "'10101'::BIT",
    "timestamptz": "'1920-01-01 00:00:00.25+00'::TIMESTAMPTZ",
    "timestamp_ns": "'1920-01-01 00:00:00.000000001'::TIMESTAMP_NS",
    "timestamp_ms": "'1920-01-01 00:00:00.001'::TIMESTAMP_MS",
    "timestamp_s": "'1920-01-01'::TIMESTAMP_S",
    "date": "DATE '1900-02-28' + i::INT",
    "decimal_4": "(i / 7)::DECIMAL(4, 1)",
    "decimal_18": "(i / 7)::DECIMAL(18, 3)",
    "decimal_38": "(i / 7)::DECIMAL(38, 10)",
    "list": "[i, NULL]",
    "array": "[i, i + 1]::INTEGER[2]",
    "struct": "{'a': i, 'b': to_days(i::INT)}",
    "map": "MAP([i], ['v'])",
    "union": "union_value(num := i)",
    "json": "'{\"a\": 1}'::JSON",
    "utinyint": "i::UTINYINT",
    "ubigint": "18446744073709551615::UBIGINT",
    "uuids": "['00000000-0000-0000-0000-000000000001'::UUID]",
    "times": "['10:00:00+02'::TIMETZ]",
}


def duckdb_files():
    columns = [f"CASE WHEN i = 3 THEN NULL ELSE {value} END AS {name}" for name, value in DUCKDB.items()]
    vectors = "[sin(i), cos(3 * i), i % 7, sin(i * i)]::FLOAT[4] AS v"
    select = f"SELECT {', '.join([vectors] + columns)} FROM range({ROWS}) t(i)"
    duckdb.sql(f"COPY ({select}) TO '{HERE / 'duckdb_columns.parquet'}' (FORMAT parquet)")


if __name__ == "__main__":
    duckdb_files()
    encrypted_files()
    numpy_files()
    pyarrow_files()
    clothes_files()
    polars_files()
