"""What is compared: for each part, the systems and the commands that run them.

What must hold: one `Job` is one process, and leaves its result in one file.
"""

import dataclasses
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARTS = ("graph", "layout", "whole")
PEERS = {
    "graph": ("pynndescent", "faiss"),
    "layout": ("umap-learn", "umap-rs"),
    "whole": ("umap-learn", "PaCMAP", "openTSNE", "annembed"),
}
# What a peer differs in, and the rows from which on it is left out.
NOTES = {
    ("graph", "faiss"): "IVF of 4√n lists, 8 probed",
    ("whole", "PaCMAP"): "10 neighbours, its default",
    ("whole", "openTSNE"): "perplexity 30, its default",
    ("whole", "annembed"): "10 neighbours, its default",
}
MOST_ROWS = {"openTSNE": 100_000}
RUST = ("umap-rs", "annembed")


@dataclasses.dataclass
class Job:
    """One system in one part: a row of the table."""

    part: str
    system: str
    command: list
    result: Path
    note: str = ""
    # Where lowland tells how long its stages took.
    report: Path | None = None
    # Why it is not run at all.
    absent: str = ""

    def timing(self, process, printed):
        """Wall and CPU seconds: lowland's are its process's, a peer's its own word."""
        if self.system != "lowland":
            told = json.loads(printed.splitlines()[-1])
            return told["wall"], told["cpu"]
        if self.part == "layout":
            stages = json.loads(self.report.read_text())["stages"]
            return next(s["seconds"] for s in stages if s["stage"] == "layout"), process.cpu
        return process.wall, process.cpu


def lowland(part, options, source, work):
    """lowland's rows: one for each recall asked for in the graph, else one."""
    # --restart: what an interrupted run left would make this one look faster.
    common = ["--threads", str(options.threads), "--force", "--restart", "--quiet"]
    if part == "graph":
        return [graph(options, source, work, share, common) for share in options.recall]
    result, report = work / f"{part}-lowland.parquet", work / f"{part}-lowland.json"
    if part == "layout":
        given = ["--knn", str(work / "graph.arrow"), "--init", str(work / "init.npy"),
                 "--n-epochs", str(options.epochs)]
    else:
        given = [str(source)]
    command = [options.lowland, "embed", *given, "-o", str(result), "--report", str(report), *common]
    return [Job(part, "lowland", command, result, report=report)]


def graph(options, source, work, share, common):
    result = work / f"graph-lowland-{share}.arrow"
    command = [options.lowland, "knn", str(source), "-o", str(result),
               "--n-neighbors", "15", "--recall", share, *common]
    return Job("graph", "lowland", command, result, note=f"--recall {share}")


def peer(part, name, options, rows, work):
    result = work / f"{part}-{name}.npy"
    if name in RUST:
        program = options.crates / name
        command = [str(program), str(work), str(result)]
        if part == "layout":
            command.append(str(options.epochs))
        absent = "" if program.exists() else "not built"
    else:
        command = [sys.executable, str(HERE / "peer.py"), part, name, str(work), str(result),
                   str(options.threads), str(options.epochs)]
        absent = ""
    if rows > MOST_ROWS.get(name, rows):
        absent = f"left out above {MOST_ROWS[name]:,} rows"
    return Job(part, name, command, result, note=NOTES.get((part, name), ""), absent=absent)


def jobs(part, options, source, rows, work):
    """All rows of one part of the table, lowland's first."""
    named = [name for name in PEERS[part] if not options.peers or name.lower() in options.peers]
    return lowland(part, options, source, work) + [peer(part, n, options, rows, work) for n in named]
