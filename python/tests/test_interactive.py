"""Interrupts where people type: the interpreter's prompt and a notebook's kernel."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import lowland
from conftest import clusters

#: Prints "layout" when the layout moves. 2,500 epochs of 3,000 rows take some seconds.
FIT = """
import numpy as np, lowland
def say(event):
    if event["kind"] == "progress" and event["stage"] == "layout": print("layout", flush=True)

rows = np.load("rows.npy")
model = lowland.UMAP(n_epochs=2500, run_dir="work", callback=say, n_jobs=1)
"""
SAVE = "np.save('map.npy', lowland.UMAP(n_epochs=2500, run_dir='work').fit_transform(rows)); print('sav' + 'ed', flush=True)\n"


def whole():
    return lowland.UMAP(n_epochs=2500).fit_transform(clusters(3000))


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_at_the_prompt(tmp_path, same):
    np.save(tmp_path / "rows.npy", clusters(3000))
    prompt = subprocess.Popen(
        [sys.executable, "-i", "-q"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    prompt.stdin.write(FIT + "model.fit(rows)\n")
    prompt.stdin.flush()
    assert prompt.stdout.readline().strip() == "layout"
    prompt.send_signal(signal.SIGINT)
    prompt.stdin.write("print('ali' + 've', hasattr(model, 'embedding_'), flush=True)\n")
    prompt.stdin.flush()
    line = "layout"
    while line == "layout":
        line = prompt.stdout.readline().strip()
    # The whole run would have left an `embedding_`.
    assert line == "alive False"
    rest, errors = prompt.communicate(SAVE, timeout=120)
    assert "saved" in rest and "KeyboardInterrupt" in errors
    assert same(np.load(tmp_path / "map.npy"), whole())


def test_an_interrupt_of_a_notebooks_kernel(tmp_path, same):
    manager = pytest.importorskip("jupyter_client.manager")
    pytest.importorskip("ipykernel")
    np.save(tmp_path / "rows.npy", clusters(3000))
    # The kernel of this interpreter, whatever kernels are registered.
    kernel = manager.KernelManager()
    kernel.kernel_spec.argv[0] = sys.executable
    kernel.start_kernel(cwd=str(tmp_path))
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        # Otherwise the kernel refuses what is sent soon after an error.
        client.execute(FIT + "model.fit(rows)", stop_on_error=False)
        _await(client, lambda m: m["msg_type"] == "stream" and "layout" in m["content"]["text"])
        kernel.interrupt_kernel()
        error = _await(client, lambda m: m["msg_type"] == "error")
        assert error["content"]["ename"] == "KeyboardInterrupt"
        client.execute(SAVE)
        _await(client, lambda m: m["msg_type"] == "stream" and "saved" in m["content"]["text"], seconds=120)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert same(np.load(tmp_path / "map.npy"), whole())


def _await(client, wanted, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        if wanted(message):
            return message
        if message["msg_type"] == "error":
            raise AssertionError("\n".join(message["content"]["traceback"]))
    raise AssertionError(f"nothing came in {seconds} s")
