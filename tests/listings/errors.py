"""Every message that a user can see, in docs/reference/errors.md: python -m tests.listings.errors"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "errors.md"
ROOMS = ("fsgr_model", "pipeline")
ERRORS = {"UserError", "BadImage", "ValueError", "ArgumentTypeError"}
HEAD = """# Every error message

A mistake that the user can put right ends a command with one line, `error: ...`, and exit code 1
(`UserError`, `fsgr_model/runtime/errors.py`). A picture that cannot be used is a `BadImage`, a `UserError`
with a `reason`. What a parameter may be is in `fsgr_model/config/params.py`; the validators' own messages are
listed here as `ValueError`, and the loader turns them into a `UserError` with the parameter's name. A
`ValueError` elsewhere is a mistake in the program. Numbers, names and values stand here as `{...}`.

This page is written by `python -m tests.listings.errors`; a test compares it with the code.
"""


def messages(path: Path) -> list[tuple[str, str]]:
    """Error class and message of every error that a file makes, in the order of its lines."""
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and node.args and _name(node.func) in ERRORS
    ]
    return [(_name(call.func), _text(call.args[-1])) for call in sorted(calls, key=lambda call: call.lineno)]


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _text(node: ast.expr) -> str:
    """The literal text of an expression; what is filled in stands in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "{" + ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node) + "}"


def page() -> str:
    lines = [HEAD]
    for path in sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        found = messages(path)
        if found:
            lines.append(f"\n## {path.relative_to(ROOT)}\n\n")
            lines += [f"- `{kind}` {_one_line(text)}\n" for kind, text in found]
    return "".join(lines)


def _one_line(text: str) -> str:
    return "`` " + " ".join(text.split()) + " ``"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
