"""Signatures, docstrings and pages against the engine's table of options."""

from __future__ import annotations

import importlib.util
import inspect
import re

import pytest

import lowland
from lowland import _lowland, _maps, _options

from conftest import HOME


def generator():
    spec = importlib.util.spec_from_file_location("generate", HOME / "python" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CLASSES = {getattr(_maps, name).method: getattr(_maps, name) for name in _maps.__all__}


def test_every_method_has_a_class():
    assert set(CLASSES) == set(_lowland.methods())
    for name in _maps.__all__:
        assert getattr(lowland, name) is getattr(_maps, name)


@pytest.mark.parametrize("method", CLASSES)
def test_signatures_are_those_of_the_table(method):
    kind = CLASSES[method]
    parameters = inspect.signature(kind.__init__).parameters
    table = {option["name"]: option for option in _lowland.options()}
    own = [name for name, option in table.items() if method in option["methods"]]
    assert [name for name in parameters if name in table] == own
    for name in own:
        assert parameters[name].default is None, name
        doc = re.search(rf"^    {name} : .*?\n((?:        .*\n)+)", inspect.getsource(kind), re.M)
        told = " ".join(doc.group(1).split())
        assert f"None: {table[name]['defaults'][method]}." in told, name
    assert all(p.kind is p.KEYWORD_ONLY for n, p in parameters.items() if n != "self")


def test_generated_files_are_up_to_date():
    make = generator()
    assert make.MAPS.read_text(encoding="utf-8") == make.maps(), "run python/generate.py"
    assert make.REFERENCE.read_text(encoding="utf-8") == make.reference(), "run python/generate.py"


def test_every_public_thing_has_a_docstring():
    for name in dir(lowland):
        if name.startswith("_"):
            continue
        thing = getattr(lowland, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), name
            for part, member in vars(thing).items() if inspect.isclass(thing) else ():
                if inspect.isfunction(member) and not part.startswith("_"):
                    assert inspect.getdoc(member), f"{name}.{part}"


def test_names_of_other_libraries_lead_to_parameters():
    known = {name for kind in [*CLASSES.values(), lowland.PCA] for name in kind._get_param_names()}
    for name, here in _options.ELSEWHERE.items():
        assert name not in known, name
        assert " " in here or here in known, here


def test_unknown_options_of_functions():
    with pytest.raises(ValueError, match="no method 'uamp'; did you mean 'umap'"):
        _options.engine_options("uamp")
    with pytest.raises(ValueError, match="tsne does not have it"):
        _options.engine_options("tsne", min_dist=0.5)
    assert _options.engine_options("umap", n_neighbors=None, random_state=None, n_jobs=-1) == {
        "method": "umap",
        "threads": None,
    }
