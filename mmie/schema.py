"""Writes `config/schema.yaml` and `docs/configuration.md` from the typed configuration."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from mmie.configuration import DEFAULT_FILE, Configuration, sections


def schema_yaml() -> str:
    """The JSON schema of the configuration, as YAML."""
    return "# Written by `make schema`; do not edit.\n" + yaml.safe_dump(
        Configuration.model_json_schema(), sort_keys=False, allow_unicode=True, width=100
    )


def documentation() -> str:
    """A Markdown page with one table a section."""
    lines = [
        "# Configuration",
        "",
        "Written by `make schema` from `mmie/configuration.py`. A file given with `--configfile` is laid",
        "over `config/config.yaml`; setting an arm, a gate or a corpus to `null` removes it.",
    ]
    seen: set[type[BaseModel]] = set()
    for section in sections(Configuration):
        if section in seen:
            continue
        seen.add(section)
        title = "Top level" if section is Configuration else section.__name__
        lines += ["", f"## {title}", "", str(section.__doc__), "", "| key | default | meaning |"]
        lines.append("|---|---|---|")
        for name, field in section.model_fields.items():
            lines.append(f"| `{name}` | {_shown_default(field)} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def _shown_default(field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is dict:
        return "none"
    if field.default_factory is not None:
        is_section = isinstance(field.default_factory, type)
        return "section below" if is_section else "see `config/config.yaml`"
    return f"`{yaml.safe_dump(field.default, default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


def main() -> None:
    """Write the schema and the documentation page."""
    root = DEFAULT_FILE.parent.parent
    (root / "config" / "schema.yaml").write_text(schema_yaml(), encoding="utf-8")
    (root / "docs" / "configuration.md").write_text(documentation(), encoding="utf-8")


if __name__ == "__main__":
    main()
