#!/usr/bin/env python3
"""New rows on a finished map: lowland beside umap-learn, on one split.

    benches/versus/placed.py debian-packages.parquet --lowland target/release/lowland

Some rows are held out by seed. Each system fits the others and places these,
and fits all. Prints a table of three kinds of figures:

- accuracy: the share of held-out rows whose label the majority of their 10
  nearest fitted rows in the map has;
- trustworthiness@15 of the held-out rows, whose neighbours in the map and in
  the vectors are fitted rows;
- seconds of the fit and of the placement, and bytes of what a later process
  needs: the model, or the pickle.

The Python that runs it needs umap-learn, scikit-learn and pyarrow. What must
hold: nobody judges himself (see judge.py), and each system is a process of its
own, so this one imports what it needs where it is called.
"""

import argparse
import json
import pickle
import shutil
import sys
import time
from pathlib import Path

from process import run

K, VOTERS = 15, 10


def split(source, work, rows, seed, label):
    """fitted.parquet, new.parquet and all.parquet, fitted rows first; vectors.npy and labels.npy in that order."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(source)
    table = table.append_column("number", pa.array(np.arange(len(table)), pa.int64()))
    chosen = np.random.default_rng(int(seed)).choice(len(table), int(rows), replace=False)
    new = np.zeros(len(table), bool)
    new[chosen] = True
    fitted, held = table.filter(pa.array(~new)), table.filter(pa.array(new))
    every = pa.concat_tables([fitted, held])
    for name, part in (("fitted", fitted), ("new", held), ("all", every)):
        pq.write_table(part, work / f"{name}.parquet", row_group_size=8192)
    column = next(f.name for f in table.schema if pa.types.is_fixed_size_list(f.type))
    flat = every[column].combine_chunks()
    vectors = flat.flatten().to_numpy(zero_copy_only=False).reshape(len(every), flat.type.list_size)
    np.save(work / "vectors.npy", vectors.astype(np.float32))
    np.save(work / "labels.npy", np.unique(np.array(every[label].to_pylist(), str), return_inverse=True)[1])
    return {"fitted": len(fitted), "new": len(held), "dim": vectors.shape[1], "stored": vectors.dtype.itemsize}


def umap(work, fitted, threads):
    """umap-learn fits, is pickled, places; and fits all. Compiled before, on a few rows."""
    import numpy as np
    import umap

    vectors = np.load(work / "vectors.npy")
    fitted = int(fitted)
    first, new = vectors[:fitted], vectors[fitted:]
    make = lambda: umap.UMAP(n_neighbors=K, n_jobs=int(threads))
    make().fit(first[:6000]).transform(new[:200])
    begun = time.perf_counter()
    model = make().fit(first)
    told = {"fit": time.perf_counter() - begun}
    with open(work / "umap.pickle", "wb") as file:
        pickle.dump(model, file)
    begun = time.perf_counter()
    placed = model.transform(new)
    told["place"] = time.perf_counter() - begun
    np.save(work / "umap-placed.npy", np.vstack([model.embedding_, placed]))
    begun = time.perf_counter()
    np.save(work / "umap-all.npy", make().fit(vectors).embedding_)
    told["fit all"] = time.perf_counter() - begun
    return told | {"bytes": (work / "umap.pickle").stat().st_size}


def coordinates(path):
    import numpy as np
    import pyarrow.parquet as pq

    if path.suffix == ".npy":
        return np.load(path)
    table = pq.read_table(path)
    return np.column_stack([table[name].to_numpy() for name in ("x", "y")])


def score(work, fitted, *paths):
    """Of rows from `fitted` on: label accuracy and trustworthiness among the rows before, of each map."""
    import numpy as np
    from scipy.spatial import cKDTree

    vectors, labels = np.load(work / "vectors.npy"), np.load(work / "labels.npy")
    n = int(fitted)
    places = np.vstack([coordinates(Path(path)) for path in paths]).astype(np.float64)
    near = cKDTree(places[:n]).query(places[n:], K)[1]
    votes = labels[near[:, :VOTERS]]
    counts = np.zeros((len(votes), labels.max() + 1), int)
    np.add.at(counts, (np.arange(len(votes))[:, None], votes), 1)
    accuracy = float((counts.argmax(axis=1) == labels[n:]).mean())
    norms = (vectors[:n].astype(np.float64) ** 2).sum(axis=1)
    penalty, held = 0, len(vectors) - n
    for start in range(0, held, 250):
        rows = vectors[n + start:n + min(start + 250, held)].astype(np.float64)
        far = norms - 2 * rows @ vectors[:n].T.astype(np.float64)
        for i, distances in enumerate(far):
            limits = distances[near[start + i]]
            below = np.sort(distances[distances < limits.max()])
            penalty += int(np.maximum(np.searchsorted(below, limits) + 1 - K, 0).sum())
    trust = 1 - 2 * penalty / (held * K * (2.0 * n - 3 * K - 1))
    return {"accuracy": accuracy, "trustworthiness": trust}


def size(path):
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def call(work, threads, *arguments):
    command = [sys.executable, __file__, "--call", *map(str, arguments)]
    return json.loads(run(command, work / "call.log", threads)[1].splitlines()[-1])


def main():
    if sys.argv[1:2] == ["--call"]:
        name, *rest = sys.argv[2:]
        if name == "split":
            print(json.dumps(split(rest[0], Path(rest[1]), *rest[2:])))
        else:
            print(json.dumps({"umap": umap, "score": score}[name](Path(rest[0]), *rest[1:])))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--lowland", default="target/release/lowland")
    parser.add_argument("--rows", type=int, default=5000, help="rows held out (5000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", default="section")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("target/placed"))
    parser.add_argument("--no-peer", action="store_true")
    asked = parser.parse_args()
    work = asked.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    shape = call(work, asked.threads, "split", asked.source, work, asked.rows, asked.seed, asked.label)
    fitted = shape["fitted"]

    def lowland(*arguments):
        command = [asked.lowland, *map(str, arguments), "--threads", str(asked.threads), "--quiet"]
        return run(command, work / "lowland.log", asked.threads)

    model = work / "map.lowland"
    fit = lowland("embed", work / "fitted.parquet", "--id", "number", "--model", model, "-o", work / "fitted.map.parquet")[0]
    place, told = lowland("transform", "--model", model, work / "new.parquet", "-o", work / "placed.parquet", "--json")
    every = lowland("embed", work / "all.parquet", "--id", "number", "-o", work / "all.map.parquet")[0]
    many, many_told = lowland("transform", "--model", model, work / "all.parquet", "-o", work / "many.parquet", "--json")
    rows = [("lowland", "placed", fit.wall, place.wall, size(model), ["fitted.map.parquet", "placed.parquet"]),
            ("lowland", "all fitted", every.wall, None, None, ["all.map.parquet"])]
    if not asked.no_peer:
        peer = call(work, asked.threads, "umap", work, fitted, asked.threads)
        rows += [("umap-learn", "placed", peer["fit"], peer["place"], peer["bytes"], ["umap-placed.npy"]),
                 ("umap-learn", "all fitted", peer["fit all"], None, None, ["umap-all.npy"])]
    print("| system | held-out rows | accuracy@10 | trustworthiness@15 | fit, s | placement, s | model, MB |")
    print("|---|---|---|---|---|---|---|")
    for system, how, seconds, placement, kept, maps in rows:
        found = call(work, asked.threads, "score", work, fitted, *(work / name for name in maps))
        cells = [system, how, f"{found['accuracy']:.4f}", f"{found['trustworthiness']:.4f}", f"{seconds:.1f}",
                 "" if placement is None else f"{placement:.2f}", "" if kept is None else f"{kept / 1e6:.1f}"]
        print("|", " | ".join(cells), "|", flush=True)
    told, many_told = json.loads(told), json.loads(many_told)
    everything = fitted + shape["new"]
    vectors, graph = fitted * shape["dim"] * shape["stored"], fitted * (K + 5) * 8
    print(f"\nlowland: {shape['new']} rows in {told['seconds']:.2f} s ({shape['new'] / told['seconds']:.0f} a second); "
          f"{everything} in {many_told['seconds']:.2f} s ({everything / many_told['seconds']:.0f} a second, process "
          f"{many.wall:.2f} s, {many.cpu:.1f} s of CPU, peak {many.peak / 2**20:.0f} MiB); {told['outliers']} rows outside of the range; the model is "
          f"{size(model) / (vectors + graph):.3f} × (vectors as stored + graph)")
    parts = sorted(((path.suffix[1:], path.stat().st_size) for path in (model / "data").iterdir()), key=lambda p: -p[1])
    print("objects, MB: " + ", ".join(f"{kind} {bytes / 1e6:.2f}" for kind, bytes in parts))


if __name__ == "__main__":
    main()
