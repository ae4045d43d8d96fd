#!/usr/bin/env python3
"""Scores a map beside the one that the method's own program makes.

    peers.py digits OUT.npy                      scikit-learn's digits as float32
    peers.py PEER VECTORS.npy MAP.npy [--k 15]   PEER is opentsne, pacmap or umap

Prints one JSON object: trustworthiness at k of both maps, as scikit-learn
computes it, or {"missing": package} where there is no such program.
"""

import argparse
import json
import sys

import numpy as np


def digits(path):
    from sklearn.datasets import load_digits

    np.save(path, load_digits().data.astype(np.float32))


def embed(peer, vectors):
    if peer == "opentsne":
        import openTSNE

        return np.asarray(openTSNE.TSNE(n_jobs=2, random_state=1).fit(vectors))
    if peer == "pacmap":
        import pacmap

        return pacmap.PaCMAP(n_neighbors=10, random_state=1).fit_transform(vectors)
    import umap

    return umap.UMAP(random_state=1).fit_transform(vectors)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["digits", "opentsne", "pacmap", "umap"])
    parser.add_argument("vectors")
    parser.add_argument("map", nargs="?")
    parser.add_argument("--k", type=int, default=15)
    args = parser.parse_args()
    if args.peer == "digits":
        return digits(args.vectors)
    from sklearn.manifold import trustworthiness

    vectors = np.load(args.vectors)
    try:
        theirs = embed(args.peer, vectors.copy())
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}))
        return None
    score = lambda y: float(trustworthiness(vectors, y, n_neighbors=args.k))
    print(json.dumps({"ours": score(np.load(args.map)), "theirs": score(theirs)}))
    return None


if __name__ == "__main__":
    sys.exit(main())
