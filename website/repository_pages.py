"""Adds the pages outside `docs/` to the site: ARCHITECTURE.md, CHANGELOG.md and the measurements of `benches/record/`.

In the repository a link leads to a file's path, and must do so for readers of the repository. In the site these pages lie
in one directory with those of `docs/`, so their links are rewritten here. A link that this file does not know stays as it
is, and the strict build then refuses it.
"""

from __future__ import annotations

import pathlib
import re

from mkdocs.structure.files import File

REPOSITORY = pathlib.Path(__file__).parent.parent
PAGES = ["ARCHITECTURE.md", "CHANGELOG.md"]
# The beginning of a link's path in the repository, and in the site.
MOVED = [("../benches/record/", "record/"), ("benches/record/", "record/"), ("../", ""), ("docs/", "")]
# Files that are not pages: a link to one becomes its name.
NOT_IN_SITE = re.compile(r"\[([^]]+)\]\(((?:\.\./)*(?:benches/(?!record)|src/|engine/|io/|examples/|tests/|api|README\.md)[^)]*)\)")


def on_files(files, config):
    """Adds the pages outside of `docs/`."""
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(REPOSITORY / name)))
    for record in sorted((REPOSITORY / "benches" / "record").glob("*.md")):
        files.append(File.generated(config, f"record/{record.name}", abs_src_path=str(record)))
    for picture in sorted((REPOSITORY / "benches" / "record").glob("*/*.png")):
        name = f"record/{picture.parent.name}/{picture.name}"
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    # Wide enough for the longest lines of code.
    files.append(File.generated(config, "wide.css", content=".md-grid { max-width: 84rem; }\n"))
    return files


def on_page_markdown(markdown, page, **_):
    """Rewrites the links of a page from paths of the repository to paths of the site."""
    if page.file.src_uri.startswith("record/"):
        return markdown
    # What follows the language of a block is for our tests.
    markdown = re.sub(r"^```(\w+)[ ,]\w+$", r"```\1", markdown, flags=re.M)
    markdown = NOT_IN_SITE.sub(r"\1", markdown)
    return re.sub(r"\]\(([^)#]+)", lambda link: f"]({moved(link.group(1))}", markdown)


def moved(path):
    """Returns the path in the site of a path in the repository."""
    if path in {"../benches/record", "benches/record"}:
        return "record/README.md"
    for before, after in MOVED:
        if path.startswith(before):
            return after + path.removeprefix(before)
    return path
