"""Which known failures have a test. `python tests/regression/coverage.py` takes shown ones off `open.txt`.

`ids.txt` holds the id of every known failure of a predecessor, `open.txt` those without a test yet. A test
shows ids by `@pytest.mark.regression("DAT-01", "DAT-22")`; the marks are read from the syntax trees, so
nothing is imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent


def known_ids() -> set[str]:
    """Ids of all known failures."""
    return _lines(HERE / "ids.txt")


def open_ids() -> set[str]:
    """Ids that no test shows yet."""
    return _lines(HERE / "open.txt")


def shown_ids(folder: Path = TESTS) -> dict[str, list[str]]:
    """Ids that tests below `folder` carry, each with the places of its marks."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for line, name in _marks(tree):
            found.setdefault(name, []).append(f"{path.relative_to(folder)}:{line}")
    return found


def _marks(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, id) of every `regression(...)` mark that a test really carries.

    A mark counts as a decorator of a test, as the module's `pytestmark`, or in the `marks` of a parameter
    of a decorator. Tests that are skipped without a condition show nothing.
    """
    for node in ast.walk(tree):
        holders: Iterable[ast.expr] = ()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name.lower().startswith("test") and not any(map(_skips, node.decorator_list)):
                holders = node.decorator_list
        elif isinstance(node, ast.Assign) and any(_is_pytestmark(target) for target in node.targets):
            holders = [node.value]
        for holder in holders:
            for call in ast.walk(holder):
                if isinstance(call, ast.Call) and _dotted(call.func) == "pytest.mark.regression":
                    for argument in call.args:
                        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
                            raise ValueError(f"line {call.lineno}: regression ids must be written out")
                        yield call.lineno, argument.value


def _skips(decorator: ast.expr) -> bool:
    name = _dotted(decorator.func if isinstance(decorator, ast.Call) else decorator)
    return name in ("pytest.mark.skip", "pytest.mark.xfail")


def _is_pytestmark(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "pytestmark"


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node)


def _lines(path: Path) -> set[str]:
    return {line for line in path.read_text(encoding="utf-8").split("\n") if line}


def main() -> int:
    """Rewrite `open.txt` as the known ids without a test; refuse to let it grow."""
    shown = shown_ids()
    unknown = sorted(set(shown) - known_ids())
    still_open = known_ids() - set(shown)
    lost = sorted(still_open - open_ids())
    if unknown or lost:
        for name in unknown:
            print(f"{', '.join(shown[name])}: {name} is no known id", file=sys.stderr)
        for name in lost:
            print(f"{name} had a test and has none now: restore it", file=sys.stderr)
        return 1
    (HERE / "open.txt").write_text("".join(f"{name}\n" for name in sorted(still_open)), encoding="utf-8")
    print(f"{len(shown)} of {len(known_ids())} known failures have a test, {len(still_open)} are open.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
