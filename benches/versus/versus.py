#!/usr/bin/env python3
"""lowland and its peers on the same data with the same threads, as one table.

    ./x versus --data debian
    ./x versus --data mixture --rows 1000000 --part graph --recall .9,.95,.99
    ./x versus --data uniform --rows 200000 --peers umap-learn,umap-rs --output FILE.md

Parts: `graph` finds the 15 nearest of each row; `layout` is the optimizer alone,
on lowland's graph and the same random positions for all; `whole` goes from
vectors to map, everybody with his own defaults. README.md says what is measured.

What must hold: every run is a process of its own, and the systems take turns,
so that a busy machine is busy for all of them. This process stays small (see
judge.py) and needs nothing but the standard library. A peer that fails has a
row that says so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import zlib
from pathlib import Path

import systems
from machine import heading
from process import Failed, run

REPO = systems.HERE.parents[1]
COLUMNS = ("part", "system", "wall, s", "s/epoch", "CPU, s", "peak, MiB", "recall@15",
           "trustworthiness", "preservation", "triplets", "notes")
DIM = {"mixture": 128, "uniform": 32}


def say(text, end="\n"):
    print(text, end=end, file=sys.stderr, flush=True)


class Judge:
    """judge.py, in a process of its own."""

    def __init__(self, work):
        self.work = work

    def __call__(self, command, *arguments):
        call = [sys.executable, str(systems.HERE / "judge.py"), command, *map(str, arguments)]
        _, printed = run(call, self.work / "judge.log", os.cpu_count() or 1)
        return json.loads(printed.splitlines()[-1])


class Measured:
    """What the runs of one job came to."""

    def __init__(self, job):
        self.job = job
        self.walls, self.cpus, self.peaks = [], [], []
        self.scores = {}
        self.failed = job.absent

    def once(self, log, options):
        self.job.result.unlink(missing_ok=True)
        try:
            process, printed = run(self.job.command, log, options.threads, options.limit)
            wall, cpu = self.job.timing(process, printed)
        except (Failed, LookupError, ValueError) as error:
            self.failed = f"failed: {error}"
            return say(self.failed)
        self.walls.append(wall)
        self.cpus.append(cpu)
        self.peaks.append(process.peak)
        say(f"{wall:.2f} s")

    def judge(self, judge, work, sample):
        """By the last run's result."""
        if self.failed:
            return
        try:
            if self.job.part == "graph":
                self.scores = judge("recall", self.job.result, work)
            else:
                self.scores = judge("score", self.job.result, work, sample)
        except Failed as error:
            self.failed = f"not judged: {error}"

    def row(self, epochs):
        cells = [self.job.part, self.job.system] + [""] * 8
        if self.walls:
            wall = statistics.median(self.walls)
            cells[2] = f"{wall:.2f}"
            if len(self.walls) > 1:
                cells[2] += f" ({min(self.walls):.2f}–{max(self.walls):.2f})"
            if self.job.part == "layout":
                cells[3] = f"{wall / epochs:.4f}"
            cells[4] = f"{statistics.median(self.cpus):.2f}"
            cells[5] = f"{statistics.median(self.peaks) / 2**20:,.0f}"
        for at, key in enumerate(("recall", "trustworthiness", "np", "triplet"), 6):
            if key in self.scores:
                cells[at] = f"{self.scores[key]:.4f}"
        return cells + ["; ".join(filter(None, (self.job.note, self.failed))).replace("|", "/")]


def source(options):
    """The vectors' file, generated if need be, and what to call its directory."""
    if options.data == "debian":
        path = Path(options.file or REPO / "datasets" / "debian-packages-64.parquet").resolve()
        # Files of one name in two places must not share a directory.
        return path, f"{path.stem}-{options.rows or 'all'}-{zlib.crc32(bytes(path)):08x}"
    rows, dim = options.rows or 100_000, options.dim or DIM[options.data]
    name = f"{options.data}-{rows}x{dim}"
    path = options.work / name / "source.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        say(f"versus: generating {name}")
        part = path.with_name("part.npy")
        subprocess.run([options.datasets, options.data, "--rows", str(rows), "--dim", str(dim),
                        "--seed", "7", "-o", part], check=True)
        part.replace(path)
    return path, name


def prepared(options):
    """The source as lowland reads it, the work directory, rows and components."""
    path, name = source(options)
    work = options.work / name
    work.mkdir(parents=True, exist_ok=True)
    judge = Judge(work)
    say(f"versus: preparing {work}")
    shape = judge("prepare", path, work, options.rows or 0)
    truth = work / "exact.npz"
    # Newer than the vectors' own source, or it is of other vectors.
    if not truth.exists() or truth.stat().st_mtime < path.stat().st_mtime:
        say("versus: exact neighbours of a sample")
        judge("exact", work)
    # Part of a file: lowland reads what the peers read.
    cut = options.data == "debian" and options.rows
    return (work / "vectors.npy" if cut else path), work, judge, shape


def share_graph(options, path, work, judge):
    """lowland's graph for all who lay out: the first one measured, or one made now."""
    job = systems.lowland("graph", options, path, work)[0]
    if not ("graph" in options.part and job.result.exists()):
        say("versus: a graph to lay out")
        run(job.command, work / "graph-lowland.log", options.threads)
    given = work / "graph.arrow"
    given.unlink(missing_ok=True)
    os.link(job.result, given)
    judge("share", given, work)


def measure(options, part, path, work, judge, rows):
    if part == "layout":
        share_graph(options, path, work, judge)
    measured = [Measured(job) for job in systems.jobs(part, options, path, rows, work)]
    for turn in range(options.runs):
        for each in measured:
            if each.failed:
                continue
            job = each.job
            say(f"versus: {part}, run {turn + 1} of {options.runs}: {job.system} {job.note} … ", end="")
            each.once(work / f"{part}-{job.system}.log", options)
    for each in measured:
        say(f"versus: judging {part} of {each.job.system}")
        each.judge(judge, work, options.sample)
    return [each.row(options.epochs) for each in measured]


def caption(options):
    runs = "one run each" if options.runs == 1 else \
        f"medians of {options.runs} runs in turn, least and most in brackets"
    return f"""\
{options.threads} threads; {runs}; scores are of the last run, layouts have {options.epochs} epochs.
Wall and CPU time of a peer are those of the call alone, vectors in memory and code
compiled; lowland's are its whole process, from file to file, but for the wall time of
`layout`, which is that stage's. (So the CPU time there includes reading the graph,
weights and scores.) Peaks are whole processes, peers' with their interpreter. The
asymmetry is in the peers' favour."""


def table(rows):
    lines = [COLUMNS, ["---", "---"] + ["--:"] * 8 + ["---"], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shares(text):
    for share in text.split(","):
        if not 0 < float(share) <= 1:
            raise ValueError(share)
    return text.split(",")


def parsed():
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target").resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = argparse.ArgumentParser(
        prog="./x versus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("debian", "mixture", "uniform"), default="debian")
    parser.add_argument("--file", help="debian: another Parquet or .npy file of vectors")
    parser.add_argument("--rows", type=int, help="the first rows of the data (all; generated: 100000)")
    parser.add_argument("--dim", type=int, help="components of generated rows (mixture 128, uniform 32)")
    parser.add_argument("--part", default=",".join(systems.PARTS), help="a list; default: %(default)s")
    parser.add_argument("--peers", default="", help="a list; default: all that can do it at this size")
    parser.add_argument("--runs", type=int, default=3, help="runs of each system (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each system (%(default)s)")
    parser.add_argument("--recall", type=shares, default="0.95",
                        help="lowland's in graph; a list makes a row each, the first is laid out (%(default)s)")
    parser.add_argument("--epochs", type=int, default=200, help="of layout (%(default)s)")
    parser.add_argument("--sample", type=int, default=3000, help="rows that a map is judged by (%(default)s)")
    parser.add_argument("--limit", type=int, help="seconds after which a run is killed (none)")
    parser.add_argument("--work", type=Path, default=target / "versus",
                        help="directory for data and results, used again (versus/ in cargo's target)")
    parser.add_argument("--output", type=Path, help="a Markdown file to append the section to")
    options = parser.parse_args()
    options.part = options.part.split(",")
    options.peers = set(filter(None, options.peers.lower().split(",")))
    known = {name.lower() for names in systems.PEERS.values() for name in names}
    if unknown := (set(options.part) - set(systems.PARTS)) | (options.peers - known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; parts are {', '.join(systems.PARTS)}, "
                     f"peers {', '.join(sorted(known))}")
    if min(options.runs, options.threads, options.epochs, options.sample) < 1:
        parser.error("runs, threads, epochs and sample are at least 1")
    options.work = options.work.resolve()
    options.lowland = os.environ.get("LOWLAND_BIN") or str(target / "release" / "lowland")
    options.datasets = str(target / "release" / "lowland-datasets")
    options.crates = cache / "lowland" / "versus-target" / "release"
    return options


def main():
    options = parsed()
    try:
        path, work, judge, shape = prepared(options)
        rows = [row for part in systems.PARTS if part in options.part
                for row in measure(options, part, path, work, judge, shape["rows"])]
    except (Failed, subprocess.CalledProcessError, OSError) as error:
        sys.exit(f"versus: {error}")
    name = options.data if not options.file else path.name
    title = f"{name}, {shape['rows']:,} × {shape['dim']}"
    section = "\n\n".join([f"## {title}", heading(options, REPO), table(rows), caption(options)]) + "\n"
    print(section, end="")
    if options.output:
        with open(options.output, "a", encoding="utf-8") as file:
            file.write(("\n" if file.tell() else "") + section)


if __name__ == "__main__":
    main()
