#!/usr/bin/env python3
"""Runs one Python peer once, and prints what it took as JSON.

    peer.py PART NAME WORK OUT.npy THREADS EPOCHS

Measured is the one call: its wall time and the CPU time of this process and
its children. Imports, loading and numba's compilation come before it, the
latter by running the same code on a few rows. (Peak memory is the whole
process's, which the driver sees.)

What must hold: a peer does what its own documentation calls the default, with
`THREADS` threads, and is given no seed where a seed would make it serial.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

# Others, and the row itself, which all peers count as its own neighbour.
NEIGHBORS = 15 + 1
# Up to 5,000 rows pynndescent, and up to 4,096 umap-learn, take another way
# than with many, and compile less.
WARM_UP_ROWS = 6000
PROBES = 8


def graph_pynndescent(work, threads, _):
    from pynndescent import NNDescent

    def search(rows):
        return NNDescent(rows, n_neighbors=NEIGHBORS, n_jobs=threads).neighbor_graph[0]

    vectors = np.load(work / "vectors.npy")
    search(vectors[:WARM_UP_ROWS])
    return lambda: search(vectors)


def graph_faiss(work, threads, _):
    import faiss

    faiss.omp_set_num_threads(threads)
    vectors = np.load(work / "vectors.npy")
    rows, dim = vectors.shape

    def search():
        quantizer = faiss.IndexFlatL2(dim)
        index = faiss.IndexIVFFlat(quantizer, dim, int(4 * rows**0.5))
        index.train(vectors)
        index.add(vectors)
        index.nprobe = PROBES
        return index.search(vectors, NEIGHBORS)[1]

    return search


def layout_umap_learn(work, _, epochs):
    from umap.layouts import optimize_layout_euclidean
    from umap.umap_ import find_ab_params, fuzzy_simplicial_set, make_epochs_per_sample

    init = np.load(work / "init.npy")
    random = np.random.RandomState(0)
    graph = fuzzy_simplicial_set(
        init, NEIGHBORS, random, "euclidean",
        knn_indices=np.load(work / "knn_indices.npy").astype(np.int32),
        knn_dists=np.load(work / "knn_distances.npy"))[0].tocoo()
    # As simplicial_set_embedding does before it calls the optimizer.
    graph.sum_duplicates()
    graph.data[graph.data < graph.data.max() / epochs] = 0.0
    graph.eliminate_zeros()
    a, b = find_ab_params(1.0, 0.1)
    state = random.randint(-(2**31) + 1, 2**31 - 1, 3).astype(np.int64)
    clocks = make_epochs_per_sample(graph.data, epochs)

    def optimize(edges, passes):
        positions = init.copy()
        return optimize_layout_euclidean(
            positions, positions, graph.row[edges], graph.col[edges], passes, len(init),
            clocks[edges], a, b, state, parallel=True, move_other=True)

    optimize(slice(WARM_UP_ROWS), 2)
    return lambda: optimize(slice(None), epochs)


def whole_umap_learn(work, threads, _):
    from umap import UMAP

    vectors = np.load(work / "vectors.npy")
    UMAP(n_neighbors=NEIGHBORS, n_jobs=threads, n_epochs=20).fit(vectors[:WARM_UP_ROWS])
    return lambda: UMAP(n_neighbors=NEIGHBORS, n_jobs=threads).fit_transform(vectors)


def whole_pacmap(work, *_):
    from pacmap import PaCMAP

    vectors = np.load(work / "vectors.npy")
    PaCMAP().fit_transform(vectors[:WARM_UP_ROWS])
    return lambda: PaCMAP().fit_transform(vectors)


def whole_opentsne(work, threads, _):
    from openTSNE import TSNE

    vectors = np.load(work / "vectors.npy")
    return lambda: np.asarray(TSNE(n_jobs=threads).fit(vectors))


def torchdr(method, work, threads):
    """A method of TorchDR, on the processor, by its class's name."""
    import torch
    import torchdr

    torch.set_num_threads(threads)
    vectors = torch.from_numpy(np.load(work / "vectors.npy"))
    make = getattr(torchdr, method)
    return lambda: make(device="cpu", random_state=1).fit_transform(vectors).detach().numpy()


def cpu_seconds():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main():
    part, name, work, out, threads, epochs = sys.argv[1:]
    if name.startswith("TorchDR "):
        call = torchdr(name.removeprefix("TorchDR "), Path(work), int(threads))
    else:
        prepare = globals()[f"{part}_{name.replace('-', '_').lower()}"]
        call = prepare(Path(work), int(threads), int(epochs))
    cpu, start = cpu_seconds(), time.perf_counter()
    result = call()
    wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    np.save(out, result)
    print(json.dumps({"wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    main()
