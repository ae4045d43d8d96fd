"""The stubs of the native module name what the module has, with the same parameters and defaults."""

import ast
import inspect
from pathlib import Path

import lowland
from lowland import _lowland

STUBS = ast.parse(Path(lowland.__file__).with_name("_lowland.pyi").read_text())

# What every object has, and what Python makes itself.
ORDINARY = {
    "__new__",
    "__repr__",
    "__iter__",
    "__next__",
    "__len__",
    "__getattr__",
    "__getattribute__",
    "__doc__",
    "__module__",
}


def test_names_of_the_module():
    stubbed = {node.name for node in STUBS.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    there = {name for name in vars(_lowland) if not name.startswith("__")}
    assert stubbed == there


def test_signatures_of_functions():
    for node in STUBS.body:
        if isinstance(node, ast.FunctionDef):
            assert stub_signature(node) == signature(getattr(_lowland, node.name)), node.name


def test_members_and_signatures_of_classes():
    for node in STUBS.body:
        if not isinstance(node, ast.ClassDef) or node.name.endswith("Error"):
            continue
        native = getattr(_lowland, node.name)
        stubbed = {member.name: member for member in node.body if isinstance(member, ast.FunctionDef)}
        there = {name for name in vars(native) if name not in ORDINARY}
        assert {name for name in stubbed if name not in ORDINARY} == there, node.name
        for name, member in stubbed.items():
            decorators = {decorator.id for decorator in member.decorator_list}
            if name not in ORDINARY and "property" not in decorators:
                assert stub_signature(member) == signature(getattr(native, name)), f"{node.name}.{name}"


def signature(of):
    """Returns the parameters of a native function: name, kind and default."""
    parameters = inspect.signature(of).parameters.values()
    return [
        (p.name, p.kind.name, None if p.default is p.empty else repr(p.default)) for p in parameters if p.name != "self"
    ]


def stub_signature(node):
    """Returns the parameters of a stub: name, kind and default."""
    arguments = node.args
    found, plain = [], arguments.args
    missing = len(plain) - len(arguments.defaults)
    for i, argument in enumerate(plain):
        default = None if i < missing else repr(ast.literal_eval(arguments.defaults[i - missing]))
        found.append((argument.arg, "POSITIONAL_OR_KEYWORD", default))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found.append((argument.arg, "KEYWORD_ONLY", None if default is None else repr(ast.literal_eval(default))))
    return [parameter for parameter in found if parameter[0] != "self"]
