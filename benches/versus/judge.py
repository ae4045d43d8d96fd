#!/usr/bin/env python3
"""Prepares what all systems are given, and judges what they made.

    judge.py prepare SOURCE WORK ROWS     vectors.npy (f32) and init.npy; ROWS 0: all
    judge.py exact WORK                   what recall is measured against
    judge.py share GRAPH.arrow WORK       lowland's graph as the peers take it
    judge.py recall GRAPH WORK            of a graph, .arrow or .npy of row numbers
    judge.py score MAP WORK SAMPLE        of a map, .parquet or .npy; by labels.npy where it is there
    judge.py digits WORK                  scikit-learn's: vectors.npy, labels.npy, source.parquet
    judge.py thin SOURCE STEP LABEL WORK  the same of each STEP-th row of a file

Each prints one JSON object. It is not part of the driver because a child's
peak memory is never less than what its parent held when it was started: the
driver must stay small.

What must hold: nobody judges himself. Recall and scores come from here, in
double precision and from the vectors, never from what a system says.
"""

import json
import sys
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "oracle"))
import score as oracle  # noqa: E402

K = 15
SAMPLE_ROWS = 1000
# Distances in single precision pick this many, of which exact ones pick k.
SHORTLIST = 64
TIE = 1e-6


def prepare(source, work, rows):
    if source.endswith(".npy"):
        vectors = np.load(source, mmap_mode="r")
    else:
        table = pq.read_table(source)
        lists = [f.name for f in table.schema if pa.types.is_fixed_size_list(f.type)]
        if len(lists) != 1:
            sys.exit(f"{source} has {len(lists)} columns of fixed-size lists, not one")
        vectors = oracle.matrix(table[lists[0]], lists[0])
    if int(rows) > len(vectors):
        sys.exit(f"{source} has {len(vectors)} rows, {rows} are asked")
    vectors = np.ascontiguousarray(vectors[:int(rows) or None], dtype=np.float32)
    np.save(work / "vectors.npy", vectors)
    init = np.random.default_rng(0).uniform(0, 10, (len(vectors), 2))
    np.save(work / "init.npy", init.astype(np.float32))
    return {"rows": len(vectors), "dim": vectors.shape[1]}


def distances(vectors, row, others):
    return np.linalg.norm(vectors[others].astype(np.float64) - vectors[row], axis=1)


def exact(work):
    """Some rows, and how far the k-th nearest of each is."""
    vectors = np.load(work / "vectors.npy")
    rows = np.random.default_rng(0).choice(len(vectors), min(SAMPLE_ROWS, len(vectors)), replace=False)
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(vectors)
    found = index.search(vectors[rows], min(SHORTLIST, len(vectors)))[1]
    far = [np.sort(distances(vectors, i, near[near != i]))[K - 1] for i, near in zip(rows, found)]
    np.savez(work / "exact.npz", rows=rows, far=np.array(far))
    return {"rows": len(rows)}


def neighbors(path):
    """A graph's rows of numbers and, if it is lowland's, of distances."""
    if path.endswith(".npy"):
        return np.load(path, mmap_mode="r"), None
    with pa.OSFile(path) as file:
        table = pa.ipc.open_file(file).read_all()
    columns = [table[name].combine_chunks() for name in ("neighbors", "distances")]
    found, far = [c.flatten().to_numpy() for c in columns]
    if len(found) != K * len(table):
        sys.exit(f"{path} has rows of other than {K} neighbours")
    return found.reshape(-1, K), far.reshape(-1, K)


def share(graph, work):
    """With the row itself in front, as umap-learn's family wants it."""
    found, far = neighbors(graph)
    own = np.arange(len(found), dtype=np.uint32)[:, None]
    np.save(work / "knn_indices.npy", np.hstack([own, found.astype(np.uint32)]))
    np.save(work / "knn_distances.npy", np.hstack([np.zeros_like(far[:, :1]), far]))
    return {"rows": len(found)}


def recall(graph, work):
    """Of k, how many are as near as the k-th nearest: ties are all right."""
    vectors = np.load(work / "vectors.npy", mmap_mode="r")
    truth = np.load(work / "exact.npz")
    found = neighbors(graph)[0]
    kept = 0
    for i, far in zip(truth["rows"], truth["far"]):
        near = np.unique(found[i])
        near = near[(near >= 0) & (near != i)]
        kept += min(K, np.count_nonzero(distances(vectors, i, near) <= far * (1 + TIE)))
    return {"recall": kept / (K * len(truth["rows"]))}


def score(path, work, sample):
    if path.endswith(".npy"):
        places = np.load(path).astype(np.float64)
    else:
        places = oracle.coordinates(pq.read_table(path), None)
    if not np.isfinite(places).all():
        sys.exit("the map has coordinates that are not finite")
    labels = np.load(work / "labels.npy") if (work / "labels.npy").exists() else None
    return oracle.score(places, np.load(work / "vectors.npy", mmap_mode="r"), labels, k=K, sample=int(sample))


def labelled(vectors, labels, work):
    """One set of rows as an array, as a file that is streamed, and what they are."""
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    np.save(work / "vectors.npy", vectors)
    np.save(work / "labels.npy", np.unique(labels, return_inverse=True)[1])
    flat = pa.array(vectors.reshape(-1))
    pq.write_table(pa.table({"embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}),
                   work / "source.parquet", row_group_size=8192)
    return {"rows": len(vectors), "dim": vectors.shape[1]}


def digits(work):
    from sklearn.datasets import load_digits

    found = load_digits()
    return labelled(found.data, found.target, Path(work))


def thin(source, step, label, work):
    table = pq.read_table(source, columns=["embedding", label])
    vectors = oracle.matrix(table["embedding"], "embedding")
    labels = np.array(table[label].to_pylist(), dtype=str)
    return labelled(vectors[::int(step)], labels[::int(step)], Path(work))


ALONE = {"digits": digits, "thin": thin}


def main():
    command, *arguments = sys.argv[1:]
    if command == "exact":
        result = exact(Path(arguments[0]))
    elif command in ALONE:
        result = ALONE[command](*arguments)
    else:
        first, work, *rest = arguments
        commands = {"prepare": prepare, "share": share, "recall": recall, "score": score}
        result = commands[command](first, Path(work), *rest)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
