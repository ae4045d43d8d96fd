"""Opens lowland's files with the libraries that others will open them with.

    stores.py index INDEX.faiss VECTORS.npy K [GRAPH_IDS.npy GRAPH_DISTANCES.npy]
    stores.py edges EDGES.arrow OFFSETS.npy NEIGHBORS.npy WEIGHTS.npy
    stores.py graph GRAPH.arrow IDS.npy DISTANCES.npy METRIC
    stores.py map EXPECTED.npy MAP...

index   faiss.read_index, every list probed, finds the K nearest rows of
        VECTORS (in the source's order) that numpy finds over all pairs, for
        500 rows spread over the file; and so does our graph, where it is given
edges   pyarrow and Polars read the edge store as the blocks that we read
graph   pyarrow and Polars read the kNN graph as it was written
map     pyarrow, Polars and numpy read every MAP (.parquet, .arrow, .npy) as
        EXPECTED (rows x components), with the row numbers as id

Exits with 1 and a message at the first thing that is not so.
"""

import sys

import numpy as np

QUERIES = 500
# Distances found by others are compared after being taken again in double
# precision; what is left is rounding in the order of near ties.
TOLERANCE = 1e-5


def fail(message):
    sys.exit(f"stores.py: {message}")


def expect(what, found, expected):
    if found != expected:
        fail(f"{what} is {found!r}, expected {expected!r}")


def expect_array(what, found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    expect(f"{what}: type", found.dtype, expected.dtype)
    expect(f"{what}: shape", found.shape, expected.shape)
    if found.tobytes() != expected.tobytes():
        at = np.argwhere(found != expected)[:1].tolist()
        fail(f"{what} differ, first at {at}")


def index(path, vectors, k, graph=None, graph_distances=None):
    import faiss

    k = int(k)
    data = np.load(vectors)
    exact = data.astype(np.float64)
    n = len(data)
    stored = faiss.read_index(path)
    expect("ntotal", stored.ntotal, n)
    expect("dimension", stored.d, data.shape[1])
    expect("metric", stored.metric_type, faiss.METRIC_L2)
    expect("trained", stored.is_trained, True)
    try:
        lists = faiss.extract_index_ivf(stored)
        lists.nprobe = lists.nlist
        expect("rows in lists", sum(lists.get_list_size(i) for i in range(lists.nlist)), n)
    except RuntimeError:
        # A Flat index: every row is compared anyway.
        kinds = (type(stored).__name__, type(faiss.downcast_index(stored.index)).__name__)
        expect("kind", kinds, ("IndexIDMap2", "IndexFlatL2"))
    rows = np.unique(np.linspace(0, n - 1, QUERIES).astype(np.int64))
    _, found = stored.search(data[rows], k + 1)
    worst = {}
    for i, row in enumerate(rows):
        far = np.sqrt(((exact - exact[row]) ** 2).sum(axis=1))
        others = np.delete(far, row)
        expected = np.sort(np.partition(others, k - 1)[:k])
        theirs = found[i]
        if row not in theirs:
            # Among more than k exact copies a row need not be.
            expect(f"copies of row {row}", bool((far[theirs] == 0).all()), True)
            theirs = theirs[:-1]
        sets = {"FAISS": theirs[theirs != row]}
        if graph is not None:
            sets["our graph"] = graph[row].astype(np.int64)
            worst["our distances"] = max(
                worst.get("our distances", 0.0), np.abs(graph_distances[row] - np.sort(far[graph[row]])).max()
            )
        for who, ids in sets.items():
            if len(ids) != k or len(np.unique(ids)) != k or row in ids:
                fail(f"{who} says of row {row}: {ids}")
            apart = np.abs(np.sort(far[ids]) - expected).max()
            worst[who] = max(worst.get(who, 0.0), apart / max(expected[-1], 1e-30))
    for who, apart in worst.items():
        print(f"{who}: {apart:.2e} from the nearest of all pairs, {len(rows)} rows")
        if not apart <= TOLERANCE:
            fail(f"{who} misses the nearest by {apart:.2e} (limit {TOLERANCE:.0e})")


def both(path):
    """The file as pyarrow and as Polars read it."""
    import polars
    import pyarrow as pa

    with pa.OSFile(path) as file:
        table = pa.ipc.open_file(file).read_all()
    frame = polars.read_ipc(path)
    expect("rows in Polars", frame.height, table.num_rows)
    expect("columns in Polars", frame.columns, table.column_names)
    for name in table.column_names:
        if not frame[name].to_arrow().cast(table.schema.field(name).type).equals(
            table[name].combine_chunks()
        ):
            fail(f"{name} differs between Polars and pyarrow")
    return table


def edges(path, offsets, neighbors, weights):
    import pyarrow as pa

    table = both(path)
    metadata = table.schema.metadata
    expect("format", metadata[b"format"], b"lowland.edges")
    expect("version", metadata[b"version"], b"1")
    expected = pa.schema(
        [
            pa.field("neighbors", pa.list_(pa.uint32()), False),
            pa.field("weights", pa.list_(pa.float32()), False),
        ]
    )
    if not table.schema.remove_metadata().equals(expected):
        fail(f"the schema is\n{table.schema.remove_metadata()}\nexpected\n{expected}")
    for name, values in (("neighbors", neighbors), ("weights", weights)):
        column = table[name].combine_chunks()
        expect(f"nulls of {name}", (column.null_count, column.flatten().null_count), (0, 0))
        expect_array(f"lengths of {name}", column.value_lengths().to_numpy().astype(np.uint32), np.diff(offsets))
        expect_array(name, column.flatten().to_numpy(), values)
    print(f"{table.num_rows} rows, {len(neighbors)} edges")


def graph(path, ids, distances, metric):
    import pyarrow as pa

    table = both(path)
    metadata = table.schema.metadata
    expect("format", metadata[b"format"], b"lowland.knn")
    expect("metric", metadata[b"metric"].decode(), metric)
    expect("k", int(metadata[b"k"]), ids.shape[1])
    for name, values, kind in (("neighbors", ids, pa.uint32()), ("distances", distances, pa.float32())):
        column = table[name].combine_chunks()
        expect(f"type of {name}", (column.type.list_size, column.type.value_type), (ids.shape[1], kind))
        expect(f"nulls of {name}", column.null_count, 0)
        expect_array(name, column.flatten().to_numpy().reshape(values.shape), values)
    print(f"{table.num_rows} rows of {ids.shape[1]} neighbours")


def maps(expected, paths):
    import polars
    import pyarrow.parquet as pq

    rows, width = expected.shape
    names = ["x", "y", "z"][:width] if width <= 3 else [f"c{i}" for i in range(width)]
    for path in paths:
        if path.endswith(".npy"):
            expect_array(path, np.load(path), expected)
            expect_array(f"{path}, mapped", np.load(path, mmap_mode="r"), expected)
            continue
        if path.endswith(".parquet"):
            table, frame = pq.read_table(path), polars.read_parquet(path)
        else:
            table, frame = both(path), polars.read_ipc(path)
        expect(f"columns of {path}", table.column_names, ["id", *names])
        expect(f"columns of {path} in Polars", frame.columns, ["id", *names])
        for read in (table, frame):
            expect_array(f"id of {path}", read["id"].to_numpy(), np.arange(rows, dtype=np.uint64))
            found = np.column_stack([read[name].to_numpy() for name in names])
            expect_array(f"coordinates of {path}", found, expected)
    print(f"{len(paths)} maps of {rows} x {width}")


def main(what, *arguments):
    if what == "index":
        path, vectors, k, *rest = arguments
        index(path, vectors, k, *(np.load(name) for name in rest))
    elif what == "edges":
        edges(arguments[0], *(np.load(name) for name in arguments[1:]))
    elif what == "graph":
        path, ids, distances, metric = arguments
        graph(path, np.load(ids), np.load(distances), metric)
    elif what == "map":
        maps(np.load(arguments[0]), arguments[1:])
    else:
        fail(f"no such thing: {what}")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
