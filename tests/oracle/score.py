#!/usr/bin/env python3
"""Scores a map against the vectors that it was made from, independently of lowland.

    score.py MAP.parquet VECTORS.parquet [--label section] [--k 15] [--sample 3000]

Prints one JSON object. With n rows, a sample S of s rows, and for each sample
row i its k nearest rows in the map, M(i), and among the vectors, V(i), self
excluded by identity:

trustworthiness   1 - 2 / (s k (2n - 3k - 1)) * sum over i in S, j in M(i) of
                  max(0, r(i, j) - k), where r(i, j) is 1 + the number of rows
                  strictly nearer to i than j among the vectors: scikit-learn's
                  definition, summed over the sample only
np                mean of |M(i) & V(i)| / k, the neighbourhood preserved
accuracy          share of sample rows whose label the majority of their 10
                  nearest in the map has (ties: the label that sorts first)
triplet           share of random triples (i, a, b) whose nearer of a and b is
                  the same in the map

Ranks are exact: every sample row is compared with all rows, in double
precision. Rows that tie count as nearer for nobody, so exact duplicates cost a
map nothing; scikit-learn ranks them in arbitrary order.

What must hold: memory is the vectors as stored plus about half a gigabyte, and
the same arguments print the same numbers.
"""

import argparse
import json
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

TILE_BYTES = 256 << 20
VOTERS = 10
TRIPLES = 20


def fail(message):
    sys.exit(f"score.py: {message}")


def table(path):
    if not path.endswith(".parquet"):
        with pa.memory_map(path) as file:
            return pa.ipc.open_file(file).read_all()
    return pq.read_table(path)


def matrix(column, name):
    """A fixed-size-list column as a matrix, without copying where Arrow allows it."""
    column = column.combine_chunks()
    if column.null_count or not pa.types.is_fixed_size_list(column.type):
        fail(f"column {name!r} must be fixed-size lists without nulls, it is {column.type}")
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), column.type.list_size)


def coordinates(source, names):
    """The map's coordinates, n x 2 or more."""
    if names:
        chosen = names.split(",")
    else:
        chosen = [name for name in ("x", "y", "z") if name in source.column_names]
        if len(chosen) < 2:
            lists = [f.name for f in source.schema if pa.types.is_fixed_size_list(f.type)]
            chosen = lists if len(lists) == 1 else []
    missing = [name for name in chosen if name not in source.column_names]
    if missing or not chosen:
        fail(f"no coordinates {','.join(missing) or 'x,y'}; name them with --coordinates, "
             f"the map has {source.column_names}")
    if pa.types.is_fixed_size_list(source[chosen[0]].type):
        return matrix(source[chosen[0]], chosen[0]).astype(np.float64)
    return np.column_stack([source[name].to_numpy().astype(np.float64) for name in chosen])


def order_by_id(source, vectors, name):
    """The map's row for each row of the vectors."""
    where = {key: at for at, key in enumerate(source[name].to_pylist())}
    if len(where) != source.num_rows:
        fail(f"{name!r} is not unique in the map")
    try:
        return np.array([where[key] for key in vectors[name].to_pylist()])
    except KeyError as key:
        fail(f"{name} {key} is not in the map")


def nearest_in_map(xy, sample, k):
    """The k nearest rows of each sample row, self removed by identity."""
    tree = cKDTree(xy)
    found = tree.query(xy[sample], k + 1, workers=-1)[1]
    own = found == sample[:, None]
    # Where more than k rows share one place, self may not be among them.
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(sample), k)


def blocks(vectors, mean):
    """The vectors in double precision less their mean, a piece at a time.

    Data far from the origin would lose its digits in the products below.
    """
    step = max(1, TILE_BYTES // (8 * vectors.shape[1]))
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        yield part, vectors[part].astype(np.float64) - mean


def distances(rows, vectors, mean, norms):
    """Squared distances from a few rows to all, in double precision."""
    own = vectors[rows].astype(np.float64) - mean
    out = np.empty((len(rows), len(vectors)))
    for part, block in blocks(vectors, mean):
        np.matmul(own, block.T, out=out[:, part])
    out *= -2.0
    out += norms
    out += norms[rows][:, None]
    return out


def score(xy, vectors, labels=None, k=15, sample=3000, seed=0):
    """All scores as a dictionary. `labels` is one value per row or nothing."""
    n = len(vectors)
    if len(xy) != n:
        fail(f"the map has {len(xy)} rows, the vectors have {n}; if rows are missing or "
             "moved, name a key with --id")
    if not 0 < 2 * k < n:
        fail(f"k = {k} needs more than {2 * k} rows, there are {n}")
    random = np.random.default_rng(seed)
    s = min(sample, n)
    chosen = np.sort(random.choice(n, s, replace=False)) if s < n else np.arange(n)

    in_map = nearest_in_map(xy, chosen, max(k, min(VOTERS, n - 1)))
    others = random.integers(0, n - 1, (s, 2 * TRIPLES))
    others += others >= chosen[:, None]
    map_far = ((xy[chosen][:, None, :] - xy[others]) ** 2).sum(axis=2)

    mean = vectors.mean(axis=0, dtype=np.float64)
    norms = np.empty(n)
    for part, block in blocks(vectors, mean):
        norms[part] = np.einsum("ij,ij->i", block, block)

    penalty, kept, agreed, compared = 0, 0, 0, 0
    tile = max(1, TILE_BYTES // (8 * n))
    for start in range(0, s, tile):
        part = slice(start, min(start + tile, s))
        rows = chosen[part]
        at = np.arange(len(rows))
        far = distances(rows, vectors, mean, norms)
        triples = np.take_along_axis(far, others[part], axis=1)
        far[at, rows] = np.inf
        mine = in_map[part, :k]
        limits = np.take_along_axis(far, mine, axis=1)
        for i in at:
            ranks = 1 + np.searchsorted(np.sort(far[i][far[i] < limits[i].max()]), limits[i])
            penalty += int(np.maximum(ranks - k, 0).sum())
        true = np.argpartition(far, k - 1, axis=1)[:, :k]
        kept += sum(len(np.intersect1d(a, b)) for a, b in zip(true, mine))
        high = triples[:, ::2] - triples[:, 1::2]
        low = map_far[part, ::2] - map_far[part, 1::2]
        clear = others[part, ::2] != others[part, 1::2]
        agreed += int(((high < 0) == (low < 0))[clear].sum())
        compared += int(clear.sum())

    result = {
        "rows": n,
        "dim": int(vectors.shape[1]),
        "sample": s,
        "k": k,
        "trustworthiness": 1.0 - 2.0 * penalty / (s * k * (2.0 * n - 3.0 * k - 1.0)),
        "np": kept / (s * k),
        "triplet": agreed / compared,
    }
    if labels is not None:
        classes, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
        votes = codes[in_map[:, :VOTERS]]
        counts = np.zeros((s, len(classes)), dtype=np.int32)
        np.add.at(counts, (np.arange(s)[:, None], votes), 1)
        result["accuracy"] = float((counts.argmax(axis=1) == codes[chosen]).mean())
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("map", help="Parquet or Arrow file, or .npy with n x 2 coordinates")
    parser.add_argument("vectors", help="Parquet or Arrow file, or .npy")
    parser.add_argument("--column", default="embedding", help="the vectors' column (embedding)")
    parser.add_argument("--coordinates", help="the map's columns (x,y[,z], or its only list column)")
    parser.add_argument("--label", help="a column of either file to vote on")
    parser.add_argument("--id", help="a column of both files to join by; without it row i is row i")
    parser.add_argument("--metric", choices=("euclidean", "cosine"), default="euclidean")
    parser.add_argument("--k", type=int, default=15)
    parser.add_argument("--sample", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    start = time.monotonic()
    sources = []
    for path in (arguments.map, arguments.vectors):
        sources.append(np.load(path, mmap_mode="r") if path.endswith(".npy") else table(path))
    source, origin = sources
    xy = source.astype(np.float64) if isinstance(source, np.ndarray) else coordinates(
        source, arguments.coordinates)
    if isinstance(origin, np.ndarray):
        vectors = origin
    elif arguments.column in origin.column_names:
        vectors = matrix(origin[arguments.column], arguments.column)
    else:
        fail(f"no column {arguments.column!r}, the vectors have {origin.column_names}")
    order = order_by_id(source, origin, arguments.id) if arguments.id else slice(None)
    xy = xy[order]
    labels = None
    if arguments.label:
        for table_, rows in ((origin, slice(None)), (source, order)):
            if isinstance(table_, pa.Table) and arguments.label in table_.column_names:
                labels = np.asarray(table_[arguments.label].to_pylist(), dtype=object)[rows]
                break
        else:
            fail(f"neither file has a column {arguments.label!r}")
    if not np.isfinite(xy).all():
        fail("the map has coordinates that are not finite")
    if arguments.metric == "cosine":
        # Of unit vectors, the order by cosine is the order by distance.
        vectors = vectors.astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    result = score(xy, vectors, labels, arguments.k, arguments.sample, arguments.seed)
    result["seconds"] = round(time.monotonic() - start, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
