"""Atomic files, content hashes and seeds.

A file or directory appears under its final name only when it is whole: a killed job leaves nothing
that a later job could take for a result.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmie.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import torch


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        _flush_to_disk(partial)
        # mkstemp makes files private; results are meant to be read by the whole group.
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; put it in the place of `path` when all went well.

    What a killed process of this machine left of the same directory is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    prefix = f".{path.name}.{os.getpid()}@{platform.node()}."
    partial = Path(tempfile.mkdtemp(prefix=prefix, suffix=".partial", dir=path.parent))
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(path: Path) -> None:
    """Partial directories may be many gigabytes; those of a live process or of another machine stay."""
    import psutil

    for left in path.parent.glob(f".{glob.escape(path.name)}.*@{glob.escape(platform.node())}.*.partial"):
        process = left.name.removeprefix(f".{path.name}.").partition("@")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as JSON with sorted keys; NaN and infinities become null."""
    text = json.dumps(_plain(content), ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file; a missing or broken one is an InputError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Run the stage that writes it first.") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}: not valid JSON ({error.msg}). Delete it and run again."
        ) from error


def write_parquet(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, without its index."""
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False, compression="zstd")


def read_parquet(path: str | Path) -> pd.DataFrame:
    """Read a Parquet table; a missing one is an InputError that names it."""
    import pandas as pd

    if not Path(path).exists():
        raise InputError(f"{path}: no such file. Run the stage that writes it first.")
    return pd.read_parquet(path)


def write_safetensors(
    path: str | Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors as safetensors; they are made contiguous and moved to the CPU."""
    from safetensors.torch import save_file

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as partial:
        save_file(ready, partial, metadata=dict(metadata or {}))


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a safetensors file onto the CPU."""
    from safetensors.torch import load_file

    if not Path(path).exists():
        raise InputError(f"{path}: no such file. Run the stage that writes it first.")
    return load_file(path)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_directory(path: str | Path, pattern: str = "*") -> str:
    """SHA-256 over names and contents of the files below a directory that match `pattern`."""
    root = Path(path)
    digest = hashlib.sha256()
    for file in sorted(entry for entry in root.rglob(pattern) if entry.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0{sha256_file(file)}\n".encode())
    return digest.hexdigest()


def stable_hash(content: Any) -> str:
    """SHA-256 of the canonical JSON of `content`: independent of key order and of the process."""
    text = json.dumps(_plain(content), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def seed_from(*names: object) -> int:
    """A stable 63-bit seed from names, so that every random draw can be traced to what it is for."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _plain(content: Any) -> Any:
    """Reduce numpy scalars, paths and tuples to what JSON knows."""
    if isinstance(content, Mapping):
        return {str(key): _plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    if isinstance(content, (set, frozenset)):
        return sorted(_plain(value) for value in content)
    if isinstance(content, Path):
        return str(content)
    if hasattr(content, "tolist"):
        return _plain(content.tolist())
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
