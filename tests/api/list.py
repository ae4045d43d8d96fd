"""Lists the public items of a crate from rustdoc's JSON: one line an item, sorted.

    python3 tests/api/list.py target/doc/lowland_io.json > docs/api/lowland-io.txt

A line is the item's kind and path; a function's has the names of its parameters, and a field or
constant of a struct, enum or trait is listed below its owner. An item without documentation ends
in "(undocumented)". Used by ./x api.
"""

import json
import sys


def main(path):
    with open(path) as file:
        crate = json.load(file)
    index = crate["index"]
    lines = set()
    seen = set()

    def item(id):
        return index.get(str(id)) or index.get(id)

    def say(kind, path, found, extra=""):
        undocumented = "" if found.get("docs") else " (undocumented)"
        lines.add(f"{kind} {path}{extra}{undocumented}")

    def parameters(found):
        inner = found["inner"]["function"]
        signature = inner.get("sig") or inner.get("decl")
        return "(" + ", ".join(name for name, _ in signature["inputs"]) + ")"

    def members(ids, path):
        for id in ids:
            found = item(id)
            if found is None:
                continue
            kind = next(iter(found["inner"]))
            name = found.get("name")
            if kind == "function" and (found["visibility"] in ("public", "default")):
                say("fn", f"{path}::{name}", found, parameters(found))
            elif kind in ("struct_field", "variant", "assoc_const", "assoc_type"):
                if kind == "struct_field" and found["visibility"] not in ("public", "default"):
                    continue
                if kind == "struct_field" and name.isdigit():
                    continue
                say(kind.replace("struct_", "").replace("_", " "), f"{path}::{name}", found)
                if kind == "variant":
                    variant = found["inner"]["variant"]["kind"]
                    if isinstance(variant, dict) and "struct" in variant:
                        members(variant["struct"]["fields"], f"{path}::{name}")

    def own(impls, path):
        for id in impls:
            found = item(id)
            if found and found["inner"]["impl"]["trait"] is None:
                members(found["inner"]["impl"]["items"], path)

    def walk(id, path, name=None):
        found = item(id)
        if found is None or (str(id), path) in seen:
            return
        seen.add((str(id), path))
        kind, inner = next(iter(found["inner"].items()))
        if kind == "use":
            target = item(inner["id"]) if inner["id"] is not None else None
            if inner.get("is_glob") and target:
                for child in next(iter(target["inner"].values())).get("items", []):
                    walk_public(child, path)
            elif target:
                walk(inner["id"], path, inner["name"])
            else:
                lines.add(f"use {path}::{inner['name']} = {inner['source']}")
            return
        name = name or found["name"]
        here = f"{path}::{name}" if path else name
        if kind == "module":
            say("mod", here, found)
            for child in inner["items"]:
                walk_public(child, here)
            return
        say({"function": "fn", "type_alias": "type", "constant": "const"}.get(kind, kind), here, found,
            parameters(found) if kind == "function" else "")
        if kind == "struct":
            shape = inner["kind"]
            if isinstance(shape, dict) and "plain" in shape:
                members(shape["plain"]["fields"], here)
            own(inner["impls"], here)
        elif kind == "enum":
            members(inner["variants"], here)
            own(inner["impls"], here)
        elif kind == "trait":
            members(inner["items"], here)

    def walk_public(id, path):
        found = item(id)
        if found and found["visibility"] == "public":
            walk(id, path)

    walk(crate["root"], "")
    print("\n".join(sorted(lines, key=lambda line: (line.split()[1], line))))


if __name__ == "__main__":
    main(sys.argv[1])
