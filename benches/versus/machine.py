"""What a figure depends on and a table must say: when, where, of what versions.

Standard library alone: see judge.py on why the driver stays small.
"""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import tomllib

PACKAGES = ("pynndescent", "faiss-cpu", "umap-learn", "pacmap", "openTSNE", "numba", "numpy")
CRATES = ("umap-rs", "annembed", "hnsw_rs")


def asked(*command, cwd=None):
    """What a command prints, or nothing where there is no such command."""
    try:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def processor():
    told = dict(line.split(":", 1) for line in asked("lscpu").splitlines() if ":" in line)
    flags = told.get("Flags", "").split()
    sets = [name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("FMA", "fma")) if flag in flags]
    lacks = [name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f")) if flag not in flags]
    words = [told.get("Model name", platform.processor()).strip() or platform.machine(), f"{os.cpu_count()} cores"]
    if flags:
        words += sets + [f"no {name}" for name in lacks]
    return ", ".join(words)


def packages():
    for name in PACKAGES:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            yield f"{name} missing"


def crates(repo):
    lock = repo / "benches" / "versus" / "crates" / "Cargo.lock"
    locked = tomllib.loads(lock.read_text())["package"] if lock.exists() else []
    return [f"{package['name']} {package['version']}" for package in locked if package["name"] in CRATES]


def commit(repo):
    changed = " with changes" if asked("git", "status", "--porcelain", cwd=repo) else ""
    return (asked("git", "rev-parse", "--short", "HEAD", cwd=repo) or "unknown") + changed


def heading(options, repo):
    """The lines above a table."""
    version = ", ".join(asked(options.lowland, "--version").splitlines()) or "lowland"
    if os.environ.get("LOWLAND_BIN"):
        version += " (LOWLAND_BIN, of whatever commit)"
    return "\n".join([
        f"- {datetime.date.today()}, commit {commit(repo)}: `./x versus {shlex.join(sys.argv[1:])}`",
        f"- {processor()}; {platform.system()} {platform.release()}",
        f"- {version}; {', '.join(crates(repo))}",
        f"- Python {platform.python_version()}; {', '.join(packages())}",
    ])
