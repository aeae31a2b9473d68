"""Signatures: few positional parameters, and none that could be swapped unnoticed."""

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tests.listings.rooms import ROOT

MOST = 4
# Neighbours of one of these types are told apart by their order alone: three are one too many, and two where
# they are numbers or switches that another module gives.
PLAIN = {"int", "float", "bool", "str", "Path"}
NUMBERS = {"int", "float", "bool"}
# PyTorch's own order, as in `nn.MultiheadAttention(embed_dim, num_heads)`.
WIDTH = "d_model"
# What PyTorch calls itself: modules and autograd's functions.
CALLED_BY_OTHERS = {"forward", "backward", "__call__"}


def functions(text: str) -> Iterator[tuple[ast.FunctionDef, bool]]:
    """Every function of a module, and whether it is a method."""
    tree = ast.parse(text)
    methods = {
        function for parent in ast.walk(tree) if isinstance(parent, ast.ClassDef) for function in parent.body
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node, node in methods


def faults(text: str) -> Iterator[str]:
    for function, is_method in functions(text):
        if is_method and function.name in CALLED_BY_OTHERS:
            continue
        parameters = [*function.args.posonlyargs, *function.args.args]
        if is_method and parameters and parameters[0].arg in ("self", "cls"):
            parameters = parameters[1:]
        if len(parameters) > MOST:
            yield f"line {function.lineno}: {function.name} has {len(parameters)} positional parameters"
        types = [parameter.annotation and ast.unparse(parameter.annotation) for parameter in parameters]
        for three in zip(types, types[1:], types[2:], strict=False):
            if three[0] in PLAIN and len(set(three)) == 1:
                yield f"line {function.lineno}: {function.name} takes three of {three[0]} side by side"
        if function.name.startswith("_") and function.name != "__init__":
            continue
        for (first, kind), (second, also) in pairwise(zip(parameters, types, strict=True)):
            if kind in NUMBERS and kind == also and WIDTH not in (first.arg, second.arg):
                yield f"line {function.lineno}: {function.name} takes {first.arg}, {second.arg} by position"


def sources() -> list[Path]:
    return [path for room in ("fsgr_model", "pipeline", "bench") for path in (ROOT / room).rglob("*.py")]


def test_no_function_takes_much_by_position():
    found = {path: list(faults(path.read_text(encoding="utf-8"))) for path in sources()}
    assert not {path: of_file for path, of_file in found.items() if of_file}


def test_what_is_too_much_is_noticed():
    assert len(list(faults("def f(a, b, c, d, e): ..."))) == 1
    assert not list(faults("def f(a, b, c, d, *, e): ..."))
    assert any("three" in fault for fault in faults("def f(width: int, height: int, side: int): ..."))
    assert len(list(faults("def f(source: str, key: str, picture: str): ..."))) == 1
    assert len(list(faults("def f(width: int, height: int): ..."))) == 1
    assert not list(faults("def f(width: int, *, height: int): ..."))
    assert not list(faults("def f(d_model: int, num_heads: int): ..."))
    assert not list(faults("def _f(first: int, last: int): ..."))
    assert not list(faults("class A:\n    def f(self, a, b, c, d): ..."))
    assert not list(faults("class A:\n    def forward(self, a, b, c, d, e): ..."))
