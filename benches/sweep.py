#!/usr/bin/env python3
"""One graph of each file, many layouts of it, one table of their scores.

    benches/sweep.py --lowland target/release/lowland --grid n-epochs=100,200 --grid lr=0.5,1 FILE...

Every setting of the grid is laid out from the same graph and first positions,
and scored by `lowland evaluate`. What the defaults rest on is recorded in
`benches/record`.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile

SHOWN = ("trustworthiness", "neighborhood_preservation", "triplet_accuracy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lowland", default="target/release/lowland")
    parser.add_argument("--grid", action="append", default=[], metavar="OPTION=A,B", help="an option of embed and its values")
    parser.add_argument("--method", default="umap")
    parser.add_argument("--sample", default="2000", help="rows scored")
    parser.add_argument("files", nargs="+")
    asked = parser.parse_args()
    grid = [(name, values.split(",")) for name, values in (option.split("=", 1) for option in asked.grid)]
    names = [name for name, _ in grid]
    print("| data |", " | ".join(names + ["layout, s"] + list(SHOWN)), "|", flush=True)
    print("|---" * (len(names) + 2 + len(SHOWN)) + "|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        for file in asked.files:
            run([asked.lowland, "knn", file, "-o", str(work / "graph.arrow"), "--force"])
            for values in itertools.product(*(values for _, values in grid)):
                cells = one(asked, work, file, dict(zip(names, values)))
                print("|", " | ".join([pathlib.Path(file).stem, *values, *cells]), "|", flush=True)


def one(asked, work, file, options):
    """Lays `file` out with `options`; the layout's seconds and the scores, as cells."""
    result, report = work / "map.parquet", work / "report.json"
    embed = [asked.lowland, "embed", file, "-o", str(result), "--method", asked.method, "--force"]
    embed += ["--knn", str(work / "graph.arrow"), "--report", str(report)]
    embed += [part for option, value in options.items() for part in ("--" + option, value)]
    run(embed)
    stages = {stage["stage"]: stage for stage in json.loads(report.read_text())["stages"]}
    score = [asked.lowland, "evaluate", "--map", str(result), "--source", file]
    score += ["--sample", asked.sample, "--report", "-"]
    scores = {score["score"]: score["value"] for score in json.loads(run(score))["scores"] if "value" in score}
    return [f"{stages['layout']['seconds']:.2f}"] + [f"{scores[name]:.4f}" if name in scores else "" for name in SHOWN]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
