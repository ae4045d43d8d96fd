"""The report of a run, in plain Python, so that a fitted estimator can be copied and pickled."""

from __future__ import annotations

import html
import json
from typing import Any


class Report:
    """What a run did: its plan, the time and memory of each stage, scores, warnings and notes.

    `print(report)` shows the text of the command line. `docs/outputs.md` describes the fields of `report.json`.

    Attributes
    ----------
    text : str
        The report as text.
    summary : str
        One line: what the run took and how good the map is.
    json : dict
        The whole report: `report.json["quality"]` has the scores, `report.json["stages"]` the time and memory of each stage.
    """

    def __init__(self, text: str, summary: str, json: dict[str, Any]) -> None:
        self.text, self.summary, self.json = text, summary, json

    @classmethod
    def of(cls, native: Any, *notes: str) -> Report:
        """Returns the report of a native one, with further notes."""
        content = native.to_json()
        if isinstance(content, (str, bytes)):
            content = json.loads(content)
        text = str(native.text)
        if notes:
            content.setdefault("notes", []).extend({"text": note} for note in notes)
            text = "\n".join([text, *(f"note: {note}" for note in notes)])
        summary = getattr(native, "summary", None)
        return cls(text, str(summary) if summary is not None else text.partition("\n")[0], content)

    @property
    def notes(self) -> list[str]:
        """The notes of the run."""
        return [_text(note) for note in self.json.get("notes", [])]

    @property
    def warnings(self) -> list[str]:
        """The warnings of the run, which were also given to `warnings`."""
        return [_text(warning) for warning in self.json.get("warnings", [])]

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<lowland.Report: {self.summary}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


def _text(remark: Any) -> str:
    return str(remark.get("text", remark)) if isinstance(remark, dict) else str(remark)
