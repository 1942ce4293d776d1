"""Which library files a script depends on, so that editing one re-runs what used it, and no more.

Snakemake tracks the script file alone. The closure of its `mmie` imports, late ones included, is read
from the syntax tree: nothing is imported, so a dry run stays fast.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from mmie.io import sha256_file, stable_hash

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent


def code_files(script: str | Path) -> list[str]:
    """Library files that `script` reaches through imports, as sorted paths relative to the project.

    Args:
        script: path of a Python file, relative to the project or absolute.

    Returns:
        Paths such as `mmie/io.py`; the script itself is not among them (Snakemake tracks it).
    """
    start = ROOT / script
    seen: set[Path] = set()
    waiting = [start]
    while waiting:
        for module in _imports(waiting.pop()):
            if module not in seen:
                seen.add(module)
                waiting.append(module)
    seen.discard(start)
    return sorted(path.relative_to(ROOT).as_posix() for path in seen)


def code_hash() -> str:
    """Hash of the whole library: what decided a result besides configuration and data."""
    files = sorted(PACKAGE.rglob("*.py"))
    return stable_hash({path.relative_to(ROOT).as_posix(): sha256_file(path) for path in files})


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from mmie.data import splits` names a module, `from mmie.io import x` a function.
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    files = {file for name in names for file in _files_of(name)}
    return tuple(sorted(files - {path}))


def _files_of(name: str) -> list[Path]:
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return []
    found = []
    for depth in range(1, len(parts) + 1):
        base = ROOT.joinpath(*parts[:depth])
        # Importing a module runs every package file above it.
        for candidate in (base / "__init__.py", base.with_suffix(".py")):
            if candidate.is_file():
                found.append(candidate)
    return found
