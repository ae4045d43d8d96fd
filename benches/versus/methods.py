#!/usr/bin/env python3
"""Every method of lowland, three ways, beside the program that owns the method.

    ./x methods                                   # writes benches/record/methods-{digits,packages}.md
    ./x methods --methods umap,tsne --data digits --output .
    ./x methods --file packages.parquet           # other vectors in the packages' place

The ways: in memory (an .npy file, a generous budget), streamed (a Parquet file,
the smallest budget that lowland names), and that again, ended by SIGKILL once
while neighbours are searched (exact methods: where the layout begins) and once
in the layout, and taken up. All three
must give the same bytes; the map is scored once, four ways, and beside it that of the peer.

What must hold: which methods there are is what the binary says; one that has no
line in `PEERS` is run without a peer. A peer that cannot do a data set in time
on a processor gets fewer of its rows, and lowland the same ones. Peers' maps
stay in the work directory with their seconds, as long as no version changes.
This process stays small and needs nothing but the standard library.
"""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import machine
import systems
from process import Failed, run

REPO = systems.HERE.parents[1]
RECORD = REPO / "benches" / "record"
# The program that owns a method, by its name in peer.py; TorchDR where it has no other.
PEERS = {"umap": "umap-learn", "tsne": "openTSNE", "pacmap": "PaCMAP", "largevis": "TorchDR LargeVis",
         "infotsne": "TorchDR InfoTSNE", "sne": "TorchDR SNE", "tsnekhorn": "TorchDR TSNEkhorn",
         "cosne": "TorchDR COSNE", "phate": "TorchDR PHATE"}
# Methods of all pairs: their time grows with the square of the rows.
EXACT = ("sne", "tsne-exact", "tsnekhorn", "cosne", "affinity-matcher", "phate")
# Of so many packages TorchDR gets one, where its method samples; and of so many, where it
# compares all pairs, and once more where not: on a processor a thousand rows take it minutes.
STEP, EXACT_STEP = 20, 60
# The scores of judge.py, as the table calls them, and what a map may fall short of its peer's by in each.
SCORES = {"trustworthiness": "trustworthiness@15", "np": "preservation@15", "triplet": "triplets", "accuracy": "accuracy@10"}
TOLERANCE = 0.01
GENEROUS = "8GiB"
PACKAGES = ("umap-learn", "openTSNE", "pacmap", "torchdr", "torch", "scikit-learn", "numpy", "numba")
COLUMNS = ("data", "method", "peer", "same bytes", *(name for score in SCORES.values() for name in (score, "peer's")),
           "in memory, s", "streamed, s", "budget", "resumed, s", "peer, s", "verdict")


def say(text):
    print(f"methods: {text}", file=sys.stderr, flush=True)


def judge(work, command, *arguments):
    call = [sys.executable, str(systems.HERE / "judge.py"), command, *map(str, arguments)]
    return json.loads(run(call, work / "judge.log", os.cpu_count() or 1)[1].splitlines()[-1])


class Data:
    """One data set in the work directory: vectors.npy, source.parquet, labels.npy."""

    def __init__(self, options, name, make):
        self.name, self.work = name, options.work / re.sub(r"\W+", "-", name)
        self.work.mkdir(parents=True, exist_ok=True)
        say(f"preparing {name}")
        shape = judge(self.work, *make, self.work)
        self.rows, self.dim = shape["rows"], shape["dim"]


def refusal(options, *arguments):
    """What lowland says of a plan that it cannot make."""
    command = [options.lowland, "plan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def methods(options):
    """All methods, as the binary lists them."""
    told = refusal(options, "x.npy", "--method", "which")
    if not (found := re.search(r"there are ([\w, -]+)", told)):
        sys.exit(f"methods: {options.lowland} does not say which methods there are: {told}")
    return found.group(1).strip().split(", ")


def smallest(options, method, source):
    """The smallest budget that would do."""
    told = refusal(options, source, "--method", method, "--memory", "1MiB", "--threads", options.threads)
    found = re.search(r"(?:give --memory|that would do is) (\d+) ?(\w+)", told)
    return "".join(found.groups()) if found else "1MiB"


def embed(options, method, source, out, memory):
    return [options.lowland, "embed", str(source), "-o", str(out), "--method", method, "--memory", memory,
            "--threads", str(options.threads), "--run-dir", str(out.with_suffix(".run")), "--keep-stages", "none"]


def kill_at(command, log, reached):
    """Runs until an event of the log is `reached`, and ends it by SIGKILL; whether it came so far."""
    with open(log, "wb") as errors:
        process = subprocess.Popen([*command, "--log-format", "json"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE)
        for line in process.stderr:
            errors.write(line)
            if reached(json.loads(line)):
                process.kill()
                break
        for line in process.stderr:
            pass
    return process.wait() == -9


def searching(event):
    # Exact methods search nothing: they are ended where their layout begins.
    return event["event"] == "start" and event["stage"] in ("neighbors", "affinity", "layout")


def laying_out(event):
    return event["event"] == "unit" and event["unit"] == "checkpoint" and not event["reused"]


class Lowland:
    """One method of lowland on one data set, three ways."""

    def __init__(self, options, method, data):
        work = data.work
        maps = {way: work / f"{method}-{way}.npy" for way in ("memory", "streamed", "resumed")}
        self.budget = smallest(options, method, work / "source.parquet")
        self.seconds, self.kills = {}, 0
        for way, out in maps.items():
            source, memory = ("vectors.npy", GENEROUS) if way == "memory" else ("source.parquet", self.budget)
            command = embed(options, method, work / source, out, memory)
            log = work / f"{method}-{way}.log"
            start = time.perf_counter()
            if way == "resumed":
                # Taken up twice: what was under way when it was killed is done again.
                killed = [*command, "--force", "--checkpoint", "0"]
                self.kills += kill_at([*killed, "--restart"], log, searching)
                self.kills += kill_at(killed, log, laying_out)
                run([*killed, "--quiet"], log, options.threads)
            else:
                run([*command, "--force", "--restart", "--quiet"], log, options.threads)
            self.seconds[way] = time.perf_counter() - start
        self.map = maps["memory"]
        whole = maps["memory"].read_bytes()
        self.same = all(path.read_bytes() == whole for path in maps.values())
        self.scores = scored(self.map, data)


def scored(path, data):
    """The four scores of a map, in the order of `SCORES`."""
    found = judge(data.work, "score", path, data.work, 3000)
    return [found[score] for score in SCORES]


def versions():
    for name in PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} missing"


def beside(options, method, data):
    """The peer's map, made now or found: its scores and seconds."""
    name = PEERS[method]
    out = data.work / f"peer-{name.replace(' ', '-')}.npy"
    made_of = hashlib.sha256(" ".join(versions()).encode() + (data.work / "vectors.npy").read_bytes()).hexdigest()
    kept = out.with_suffix(".json")
    if out.exists() and kept.exists() and (told := json.loads(kept.read_text()))["made_of"] == made_of:
        return scored(out, data), told["wall"]
    call = [sys.executable, str(systems.HERE / "peer.py"), "whole", name, str(data.work), str(out),
            str(options.threads), "0"]
    _, printed = run(call, out.with_suffix(".log"), options.threads, options.limit)
    wall = json.loads(printed.splitlines()[-1])["wall"]
    kept.write_text(json.dumps({"made_of": made_of, "wall": wall}))
    return scored(out, data), wall


def row(options, method, data, peer):
    """One row of the table, and whether it may stand as it is."""
    cells = [""] * len(COLUMNS)
    cells[0], cells[1], cells[2] = f"{data.name}, {data.rows:,} × {data.dim}", method, PEERS.get(method, "none")
    # Where the scores begin, ours and the peer's by turns, and what follows them.
    first = 4
    after = first + 2 * len(SCORES)
    faults = []
    try:
        ours = Lowland(options, method, data)
        cells[3] = f"yes, {ours.kills} kills" if ours.same else "NO"
        faults += [] if ours.same else ["bytes differ"]
        faults += [] if ours.kills == 2 else [f"only {ours.kills} of 2 kills came in time"]
        cells[first:after:2] = [f"{x:.4f}" for x in ours.scores]
        cells[after], cells[after + 1], cells[after + 3] = (
            f"{ours.seconds[way]:.1f}" for way in ("memory", "streamed", "resumed"))
        cells[after + 2] = ours.budget
    except Failed as error:
        return cells[:-1] + [f"lowland failed: {error}"], False
    if peer and method in PEERS:
        try:
            scores, wall = beside(options, method, data)
            cells[first + 1:after:2] = [f"{x:.4f}" for x in scores]
            cells[after + 4] = f"{wall:.1f}"
            faults += [f"{name} worse than its peer's" for name, mine, its in zip(SCORES.values(), ours.scores, scores)
                       if mine <= its - TOLERANCE]
        except (Failed, LookupError, ValueError) as error:
            cells[first + 1] = "failed"
            faults += [f"peer: {error}".replace("|", "/")]
    elif method in PEERS:
        cells[first + 1] = "see below"
    cells[-1] = "; ".join(faults) or "pass"
    return cells, not faults


def tables(options):
    """Of each record its name and, data set by data set, what is to be made: (name, how, methods, those with peers)."""
    asked = [method for method in methods(options) if not options.methods or method in options.methods]
    source = Path(options.file or REPO / "datasets" / "debian-packages-64.parquet").resolve()
    thin = lambda step: ("thin", source, step, "section")
    streamed = [m for m in asked if m not in EXACT]
    slow = [m for m in streamed if PEERS.get(m, "").startswith("TorchDR")]
    fewest = slow + [m for m in asked if m in EXACT]
    yield "digits", [("digits", ("digits",), asked, asked)]
    yield "packages", [("packages", thin(1), streamed, [m for m in streamed if m not in slow]),
                       (f"packages, one of {STEP}", thin(STEP), slow, slow),
                       (f"packages, one of {EXACT_STEP}", thin(EXACT_STEP), fewest, fewest)]


def rows(options, plan):
    """Data set by data set, method by method: (row, fine)."""
    for name, make, of, beside_peers in plan:
        if not of:
            continue
        data = Data(options, name, make)
        for method in of:
            say(f"{method} on {name}")
            yield row(options, method, data, method in beside_peers)


def heading(options):
    version = ", ".join(machine.asked(options.lowland, "--version").splitlines())
    return "\n".join([
        f"- {datetime.date.today()}, commit {machine.commit(REPO)}: `{shlex.join(['./x', 'methods', *sys.argv[1:]])}`",
        f"- {machine.processor()}; {platform.system()} {platform.release()}; {options.threads} threads",
        f"- {version}; Python {platform.python_version()}; {', '.join(versions())}",
    ])


CAPTION = f"""\
Made by `./x methods`; not edited by hand. Everybody has his own defaults. *In memory* is
an .npy file with a budget of {GENEROUS}, *streamed* a Parquet file with the smallest budget
that lowland names, *resumed* the same, killed (SIGKILL) in the search for neighbours and
again in the layout (exact methods where it begins and again in it), and taken up twice; its seconds are those of all three processes with a
checkpoint in every epoch. *Same bytes* says whether the three maps are one. Trustworthiness
and neighbourhood preservation are of 15 neighbours, triplets of 20 random triples a row, accuracy
the majority of 10 neighbours in the map by digit or section, all on 3,000 rows against all
(`tests/oracle/score.py`); a row passes where bytes are the same and no score is below the
peer's by more than {TOLERANCE}. TorchDR runs on the
processor, where all packages would take it hours: it gets one of {STEP} and one of
{EXACT_STEP}, and lowland the same; methods that compare all pairs one of {EXACT_STEP}. A peer's
seconds are its call's alone, those of lowland a process's from file to file."""


def parsed():
    target = Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target").resolve()
    parser = argparse.ArgumentParser(
        prog="./x methods", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="", help="a list; default: all that the binary has")
    parser.add_argument("--data", choices=("digits", "packages"), help="only this one")
    parser.add_argument("--file", help="another Parquet file with columns embedding and section, for packages")
    parser.add_argument("--threads", type=int, default=2, help="threads of each system (%(default)s)")
    parser.add_argument("--limit", type=int, default=1800, help="seconds after which a peer is killed (%(default)s)")
    parser.add_argument("--work", type=Path, default=target / "methods",
                        help="directory for data and maps, used again (methods/ in cargo's target)")
    parser.add_argument("--output", type=Path, default=RECORD, help="directory of the Markdown files (%(default)s)")
    options = parser.parse_args()
    options.methods = list(filter(None, options.methods.split(",")))
    options.work = options.work.resolve()
    options.lowland = os.environ.get("LOWLAND_BIN") or str(target / "release" / "lowland")
    if unknown := set(options.methods) - set(methods(options)):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(methods(options))}")
    return options


def main():
    options = parsed()
    # The commit that is measured, whatever is committed while it is.
    head = heading(options)
    fine = True
    for name, plan in tables(options):
        if options.data and options.data != name:
            continue
        lines = [COLUMNS, ["---"] * 4 + ["--:"] * (len(COLUMNS) - 5) + ["---"]]
        record = options.output / f"methods-{name}.md"
        try:
            for cells, good in rows(options, plan):
                lines.append(cells)
                fine &= good
                say(" | ".join(cells))
                # Hours of work: what is done stands in the record, should the rest not come.
                table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
                text = [f"# Every method on {name}, three ways, beside its peer", head, table, CAPTION]
                record.write_text("\n\n".join(text) + "\n", encoding="utf-8")
        except (Failed, OSError) as error:
            sys.exit(f"methods: {error}")
        say(f"wrote {record}")
    sys.exit(0 if fine else "methods: a row does not pass")


if __name__ == "__main__":
    main()
