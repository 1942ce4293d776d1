"""What an experiment claims to test, written down with its hash before any result is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmie.errors import InputError
from mmie.io import stable_hash
from mmie.statistics.gate_table import read_gates
from mmie.statistics.gates import Roles, expanded, not_applicable
from mmie.statistics.options import Options

BEFORE, AFTER = "before results", "after results"


def hypotheses(
    roles: Roles,
    gates: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    options: Options,
) -> dict[str, Any]:
    """The hypotheses of an experiment; they follow from its configuration alone.

    Returns:
        "gates" with thresholds and left-out ones with their reason, "families" with the number of
        tests an arm will get in each, "roles", "options", and "hash" over all of them.
    """
    roles = {role: sorted(languages) for role, languages in roles.items()}
    table = sorted(read_gates(gates), key=lambda gate: gate.name)
    families: dict[str, int] = {}
    for gate in table:
        if not not_applicable(gate, roles):
            tests = len(roles[gate.languages]) * len(expanded(gate, options))
            families[gate.family] = families.get(gate.family, 0) + tests
    content = {
        "gates": [{**asdict(gate), "left_out": not_applicable(gate, roles)} for gate in table],
        "families": dict(sorted(families.items())),
        "roles": dict(sorted(roles.items())),
        "options": asdict(options),
    }
    return {**content, "hash": stable_hash(content)}


def declared(content: Mapping[str, Any], earlier: Mapping[str, Any] | None, results: Iterable[Path]) -> str:
    """Whether hypotheses were written before there were results: "before results" or "after results".

    Args:
        content: the hypotheses to be written.
        earlier: the "hypotheses" entry of an earlier verdict of this experiment, if there is one:
            writing the same hypotheses again does not make them later.
        results: files with scores that exist now.
    """
    if earlier and earlier.get("hash") == content["hash"]:
        return str(earlier["declared"])
    return AFTER if any(True for _ in results) else BEFORE


def check(
    written: Mapping[str, Any],
    roles: Roles,
    gates: Iterable[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]],
    options: Options,
) -> dict[str, str]:
    """Compare written hypotheses with what is about to be tested.

    Returns:
        "hash" and "declared", for gates.json.

    Raises:
        InputError: the file was edited, or the configuration is another one by now.
    """
    body = {key: value for key, value in written.items() if key not in ("hash", "declared")}
    if stable_hash(body) != written.get("hash"):
        raise InputError("hypotheses.json: the hash does not fit the content. Delete the file and run again.")
    wanted = hypotheses(roles, gates, options)
    if wanted["hash"] != written["hash"]:
        odd = [key for key in body if stable_hash(body[key]) != stable_hash(wanted[key])]
        raise InputError(
            f"hypotheses.json: {', '.join(odd)} differ from the configuration. Delete the file and run "
            "again; the verdicts will say that the hypotheses were written after results."
        )
    return {"hash": str(written["hash"]), "declared": str(written.get("declared", AFTER))}
