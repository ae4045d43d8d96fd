"""Callbacks, bars, warnings and logs."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import warnings

import numpy as np
import pytest

import lowland
from lowland import _progress


def test_events(X):
    events = []
    lowland.UMAP(n_epochs=20, callback=events.append).fit(X)
    kinds = {event["kind"] for event in events}
    assert {"start", "end"} <= kinds <= {"start", "progress", "end", "note", "warning"}
    stages = [event["stage"] for event in events if event["kind"] == "end"]
    assert stages.index("scan") < stages.index("layout") < stages.index("output")
    assert all(set(event) == {"kind", "stage", "done", "total", "unit", "text"} for event in events)


def test_an_exception_in_a_callback_stops_the_run(X):
    class Enough(Exception): ...

    def stop(event):
        raise Enough

    model = lowland.UMAP(callback=stop, n_epochs=5000)
    with pytest.raises(Enough):
        model.fit(X)
    assert not hasattr(model, "embedding_")


def test_what_cannot_be_called(X):
    with pytest.raises(ValueError, match="callback"):
        lowland.UMAP(callback=3).fit(X)


def test_notes_are_logged_and_reported(X, caplog):
    with caplog.at_level(logging.INFO, "lowland"):
        model = lowland.UMAP(n_epochs=20).fit(X[:10])
    assert any("n_neighbors" in note for note in model.report_.notes)
    assert any("n_neighbors" in record.getMessage() for record in caplog.records)


def test_warnings_are_warned(X):
    wide = X.copy()
    wide[:, 0] *= 1e6
    with pytest.warns(lowland.LowlandWarning) as told:
        model = lowland.UMAP(n_epochs=20).fit(wide)
    assert told[0].filename == __file__  # attributed to the caller
    assert len(model.report_.warnings) == len(told)


def test_warnings_may_be_errors(X):
    wide = X.copy()
    wide[:, 0] *= 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error", lowland.LowlandWarning)
        with pytest.raises(lowland.LowlandWarning):
            lowland.UMAP(n_epochs=20).fit(wide)


EVENTS = [
    {"kind": "start", "stage": "layout", "done": 0, "total": 200, "unit": "epochs", "text": ""},
    {"kind": "progress", "stage": "layout", "done": 100, "total": 200, "unit": "epochs", "text": ""},
    {"kind": "note", "stage": "layout", "done": 0, "total": 0, "unit": "", "text": "a note"},
    {"kind": "end", "stage": "layout", "done": 200, "total": 200, "unit": "epochs", "text": ""},
]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_terminals():
    stream = Terminal()
    bar = _progress._shown_on(stream)
    for event in EVENTS:
        bar.drawn = 0.0
        bar(event)
    bar.close()
    shown = stream.getvalue()
    assert "50 %" in shown and "100 of 200 epochs" in shown and "\r" in shown
    assert "lowland: a note\n" in shown and shown.endswith("\n")
    assert max(len(line) for part in shown.split("\n") for line in part.split("\r")) <= 200


def test_lines_elsewhere():
    stream = io.StringIO()
    lines = _progress._shown_on(stream)
    for event in EVENTS:
        lines(event)
    assert stream.getvalue().startswith("lowland: a note\nlayout ") and "\r" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 2


def test_verbose_writes_to_standard_error(tmp_path, X):
    np.save(tmp_path / "X.npy", X)
    script = "import lowland, sys; lowland.UMAP(n_epochs=20, verbose=True).fit(sys.argv[1])"
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "X.npy")], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0 and told.stdout == "" and "layout" in told.stderr
    told = subprocess.run(
        [sys.executable, "-c", script.replace(", verbose=True", ""), str(tmp_path / "X.npy")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.stderr == ""
