#!/usr/bin/env python3
"""Thirty nights of a map: rows come, change and go, and the map is updated every night.

    benches/nights.py debian-packages.parquet --lowland target/release/lowland --work nights

Starts with 40,000 rows; every night 800 are added, 50 change and 100 are
deleted, in an order drawn by seed. Rows that were deleted come back when there
are no others. Models live through the same nights, as `--ways` says: one that
is updated by transform only, one by `--mode auto`, which refits, and one by
transform with `--move dirty`. Prints a table of nights, then what the last
night's map is beside a fresh fit of the same table, and leaves pictures of
nights 1, 15 and 30 in the work directory.

Checked every night, not taken from a report: rows that did not change keep the
bytes of their positions (transform); how far they moved over the map's radius,
and which share of their 15 nearest in the map they kept (refit, dirty). At the
end, the same of the rows that are there since the first night. Needs numpy,
scipy and pyarrow.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle"))
import score as oracle  # noqa: E402

K = 15
PICTURES = (1, 15, 30)
WAYS = {"transform": ["--mode", "transform"], "auto": ["--mode", "auto"], "dirty": ["--mode", "transform", "--move", "dirty"]}


class Rows:
    """The table of each night."""

    def __init__(self, source, asked):
        table = pq.read_table(source)
        self.random = np.random.default_rng(asked.seed)
        self.column = next(f.name for f in table.schema if pa.types.is_fixed_size_list(f.type))
        self.vectors = oracle.matrix(table[self.column], self.column).copy()
        self.labels = np.array(table[asked.label].to_pylist(), str)
        self.names = np.array(table[asked.id].to_pylist(), str)
        self.asked = asked
        order = self.random.permutation(len(table))
        self.there, self.spare = list(order[:asked.start]), list(order[asked.start:])

    def night(self):
        """Draws a night's changes; the names of rows that changed."""
        asked = self.asked
        gone = set(self.random.choice(self.there, asked.deleted, replace=False))
        new, self.spare = self.spare[:asked.added], self.spare[asked.added:] + sorted(gone)
        self.there = [row for row in self.there if row not in gone]
        changed = self.random.choice(self.there, asked.changed, replace=False)
        others = self.vectors[self.random.choice(len(self.vectors), asked.changed)].astype(np.float32)
        mixed = 0.8 * self.vectors[changed].astype(np.float32) + 0.2 * others
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        self.vectors[changed] = mixed.astype(self.vectors.dtype)
        self.there += new
        return set(self.names[changed]) | set(self.names[new])

    def write(self, path):
        rows = np.array(self.there)[np.argsort(self.random.random(len(self.there)))]
        flat = pa.array(np.ascontiguousarray(self.vectors[rows]).reshape(-1))
        columns = {"name": self.names[rows], "section": self.labels[rows],
                   self.column: pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1])}
        pq.write_table(pa.table(columns), path, row_group_size=8192)


def lowland(asked, *arguments):
    command = [asked.lowland, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def exported(asked, model):
    """Ids and positions of the current version."""
    path = asked.work / "export.parquet"
    lowland(asked, "export", model, "-o", path, "--force", "--quiet")
    table = pq.read_table(path)
    positions = np.column_stack([table[name].to_numpy() for name in ("x", "y")])
    return np.array(table["id"].to_pylist(), str), positions, table


def compared(before, after, touched):
    """Rows of two nights that are the same: how many have other bytes, p50, p95 and max moved, share of 15-nn kept."""
    (ids, old, _), (later, new, _) = before, after
    where = {name: at for at, name in enumerate(later)}
    pairs = np.array([(i, where[name]) for i, name in enumerate(ids) if name in where and name not in touched])
    old, new = old[pairs[:, 0]], new[pairs[:, 1]]
    other = int((old.view(np.uint32) != new.view(np.uint32)).any(axis=1).sum())
    radius = np.sqrt(((old - old.mean(axis=0)) ** 2).sum(axis=1).mean())
    moved = np.sqrt(((old.astype(np.float64) - new) ** 2).sum(axis=1)) / radius
    sample = np.random.default_rng(0).choice(len(old), 3000, replace=False)
    near = [cKDTree(xy).query(xy[sample], K + 1)[1] for xy in (old, new)]
    own = [set(a[a != i][:K]) & set(b[b != i][:K]) for i, a, b in zip(sample, *near)]
    return other, np.quantile(moved, 0.5), np.quantile(moved, 0.95), moved.max(), np.mean([len(kept) for kept in own]) / K


def recall(rows, version):
    """Share of the 15 stored neighbours of 1,000 rows that are no farther than the true fifteenth."""
    ids, _, table = version
    at = {name: row for row, name in enumerate(rows.names)}
    numbers = np.array([at[name] for name in ids])
    vectors = rows.vectors[numbers].astype(np.float64)
    place = {name: i for i, name in enumerate(ids)}
    norms = (vectors ** 2).sum(axis=1)
    near = table["neighbors"].combine_chunks().field("ids")
    kept = 0
    for i in np.random.default_rng(1).choice(len(ids), 1000, replace=False):
        far = norms - 2 * vectors @ vectors[i]
        far[i] = np.inf
        limit = np.partition(far, K - 1)[K - 1] + 1e-9
        kept += sum(far[place[name]] <= limit for name in near[i].as_py()[:K] if name in place)
    return kept / (1000 * K)


def scores(rows, version):
    ids, positions, _ = version
    at = {name: row for row, name in enumerate(rows.names)}
    numbers = np.array([at[name] for name in ids])
    return oracle.score(positions.astype(np.float64), rows.vectors[numbers].astype(np.float32), rows.labels[numbers])


def size(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def picture(asked, rows, version, name, title):
    ids, positions, _ = version
    at = {name: row for row, name in enumerate(rows.names)}
    sections = rows.labels[[at[name] for name in ids]]
    # A scale of 58 sections has too many colours: the largest have one each.
    names, counts = np.unique(sections, return_counts=True)
    largest = set(names[np.argsort(-counts)[:12]])
    shown = [section if section in largest else "others" for section in sections]
    path = asked.work / "picture.parquet"
    pq.write_table(pa.table({"x": positions[:, 0], "y": positions[:, 1], "section": shown}), path)
    lowland(asked, "plot", path, "-o", asked.work / name, "--color", "section", "--force", "--quiet", "--width", 700,
            "--height", 560, "--title", title)


def show(cells):
    print("|", " | ".join(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--lowland", default="target/release/lowland")
    parser.add_argument("--work", type=Path, default=Path("target/nights"))
    parser.add_argument("--id", default="name")
    parser.add_argument("--label", default="section")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--start", type=int, default=40_000)
    parser.add_argument("--added", type=int, default=800)
    parser.add_argument("--changed", type=int, default=50)
    parser.add_argument("--deleted", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", default="transform,auto", help=f"which of {', '.join(WAYS)}")
    asked = parser.parse_args()
    asked.lowland, asked.work = str(Path(asked.lowland).resolve()), asked.work.resolve()
    shutil.rmtree(asked.work, ignore_errors=True)
    asked.work.mkdir(parents=True)
    rows, table = Rows(asked.source, asked), asked.work / "table.parquet"
    rows.write(table)
    models = {way: asked.work / f"{way}.lowland" for way in asked.ways.split(",")}
    common = ["--threads", asked.threads, "--quiet"]
    first, *others = models.values()
    lowland(asked, "embed", table, "--id", "name", "--model", first, *common)
    for other in others:
        shutil.copytree(first, other)
    last = {way: exported(asked, model) for way, model in models.items()}
    begun, ever = dict(last), set()
    print("| night | model | done by | rows | s | recall | trustworthiness | of new rows | outside | rows with other bytes | "
          "p50 moved | p95 moved | max moved | 15-nn kept | moved | at the cap | model, MB |")
    print("|" + "---|" * 17)
    for night in range(1, asked.nights + 1):
        touched = rows.night()
        ever |= touched
        rows.write(table)
        for way, model in models.items():
            started = time.perf_counter()
            told = json.loads(lowland(asked, "update", model, "--source", table, *WAYS[way], "--run-id",
                                      f"night-{night:02}", "--json", *common))
            seconds = time.perf_counter() - started
            lowland(asked, "gc", model, "--keep", 2)
            now = exported(asked, model)
            other, *moved, kept = compared(last[way], now, touched)
            last[way] = now
            measures = told["measures"]
            of = lambda name: "" if measures.get(name) is None else float(measures[name])
            show([night, way, told["mode"], told["counts"]["rows"], f"{seconds:.1f}", of("recall"), of("trustworthiness"),
                  of("trustworthiness_new"), of("outliers"), other, *map(float, moved),
                  float(kept), measures.get("moved_rows", ""), measures.get("capped_rows", ""), f"{size(model) / 1e6:.1f}"])
            if told["mode"] == "transform" and way != "dirty" and other:
                sys.exit(f"night {night}: {other} rows have other bytes")
            if night in PICTURES:
                picture(asked, rows, now, f"{way}-{night:02}.png", f"night {night}, {way}: {len(now[0])} packages")
    print("\n| since the first night | p50 moved | p95 moved | max moved | 15-nn kept |\n|---|---|---|---|---|")
    for way in models:
        show([way, *map(float, compared(begun[way], last[way], ever)[1:])])
    fresh = asked.work / "fresh.lowland"
    lowland(asked, "embed", table, "--id", "name", "--model", fresh, *common)
    last["fresh fit"] = exported(asked, fresh)
    print("\n| last night | trustworthiness@15 | preservation@15 | triplets | accuracy@10 | recall of the kept graph |")
    print("|---|---|---|---|---|---|")
    for name, version in last.items():
        found = scores(rows, version)
        show([name, *(float(found[key]) for key in ("trustworthiness", "np", "triplet", "accuracy")), float(recall(rows, version))])
    for model in models.values():
        lowland(asked, "verify", model)


if __name__ == "__main__":
    main()
