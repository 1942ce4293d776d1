"""What a trial is worth on DEV, which one is chosen, and how the others did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmie.errors import InputError
from mmie.io import stable_hash
from mmie.statistics.cells import with_derived_scores
from mmie.statistics.gate_table import read_gates

_KEYS = ["language", "example_id"]
_NAMES = ("arm", "seed", "trial")


def dev_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Direct DEV prompts in trained wordings: the only rows that a sweep may look at."""
    direct = (table["split"] == "dev") & (table["kind"] == "direct")
    return table[direct & (table["template_split"] == "trained")]


def score_trial(
    trial: pd.DataFrame,
    base: pd.DataFrame,
    oracle: pd.DataFrame | None,
    roles: Mapping[str, Sequence[str]],
    gates: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Worth of one trial: how much it forgot, and whether it kept the rest.

        s_mem = clip(mean over forget languages of T, 0, 1)
        T = 1 - (leak_trial - leak_oracle) / (leak_base - leak_oracle)

    Leak rates are means over groups of means over items. Without an oracle its leak counts as 0. A trial
    is admissible when every preservation gate that reads TEST answers holds on DEV by its estimate.

    Args:
        trial, base, oracle: evaluation rows of the same prompts; other rows than `dev_rows` are an error.
        roles: languages of each role.
        gates: the gate table of the configuration.

    Returns:
        s_mem, admissible, and `transfer_{language}` and `{gate}_{language}` behind them.

    Raises:
        InputError: rows that are not DEV, or different prompts.
    """
    tables = {"trial": trial, "base": base} | ({} if oracle is None else {"oracle": oracle})
    for name, table in tables.items():
        if not table["split"].eq("dev").all():
            raise InputError(f"sweep: {name} has rows that are not DEV. A sweep never reads TEST.")
        if sorted(map(tuple, table[_KEYS].to_numpy())) != sorted(map(tuple, base[_KEYS].to_numpy())):
            raise InputError(f"sweep: {name} and base were scored on different prompts. Evaluate both again.")
    scored = {name: with_derived_scores(_named(table, name)) for name, table in tables.items()}
    result: dict[str, Any] = {}
    for language in roles["forget"]:
        means = {name: _mean(table, language, "leak") for name, table in scored.items()}
        span = means["base"] - means.get("oracle", 0.0)
        gap = means["trial"] - means.get("oracle", 0.0)
        result[f"transfer_{language}"] = 1 - gap / span if span > 0 else math.nan
    forgotten = pd.Series([result[f"transfer_{language}"] for language in roles["forget"]], dtype=float)
    held = []
    for gate in read_gates(gates):
        if gate.family != "preservation" or gate.cell != "test" or gate.not_applicable:
            continue
        for language in roles[gate.languages]:
            change = _mean(scored["trial"], language, gate.metric) - _mean(
                scored["base"], language, gate.metric
            )
            result[f"{gate.name}_{language}"] = change
            held.append(
                change >= gate.threshold if gate.direction == "at_least" else change <= gate.threshold
            )
    # A missing score is no permission: NaN compares false.
    mean = float(forgotten.mean(skipna=False))
    return {
        "s_mem": mean if math.isnan(mean) else min(max(mean, 0.0), 1.0),
        "admissible": all(held),
        **result,
    }


def choose(table: pd.DataFrame, *, threshold: float = 0.5) -> dict[str, Any]:
    """The chosen configuration and the distribution over all of them.

    Chosen is the largest `s_mem` among the admissible trials; ties go to the smallest number. Without an
    admissible trial nothing is chosen: a setting that breaks what must be kept is no setting.

    Args:
        table: one row a trial with trial (its name), number, s_mem and admissible.
        threshold: `s_mem` that counts as forgetting.

    Returns:
        chosen (name or None), trials, admissible, median and quartiles of s_mem over all trials, and
        share_above_threshold among all of them, of which only admissible ones count as above.
    """
    if table.empty:
        raise InputError("sweep: no trials. Give the grid at least one value.")
    admissible = table[table["admissible"] & table["s_mem"].notna()]
    best = admissible.sort_values(["s_mem", "number"], ascending=[False, True], kind="stable").head(1)
    quartiles = table["s_mem"].quantile([0.25, 0.5, 0.75])
    return {
        "chosen": str(best["trial"].iloc[0]) if len(best) else None,
        "trials": len(table),
        "admissible": int(table["admissible"].sum()),
        "s_mem": {"q25": quartiles[0.25], "median": quartiles[0.5], "q75": quartiles[0.75]},
        "threshold": threshold,
        "share_above_threshold": float((admissible["s_mem"] >= threshold).sum() / len(table)),
    }


def check_grid_acts(
    tables: Mapping[str, pd.DataFrame], changes: Mapping[str, Mapping[str, Any]]
) -> dict[str, bool | None]:
    """See that every swept key changes what is measured: a key that does not was never searched.

    Trials that differ in one key alone are compared in everything that was recorded of their prompts,
    generations and likelihoods included: a score may well be the same for two settings that act.

    Args:
        tables: evaluation rows of each trial, by its name.
        changes: value of every swept key of each trial, by its name.

    Returns:
        By key: True where it changes something; None where no two trials differ in it alone, which random
        search may leave, or where it has one value.

    Raises:
        InputError: all trials that differ in one key alone have the same rows.
    """
    acts: dict[str, bool | None] = {}
    for key in sorted({key for change in changes.values() for key in change}):
        groups: dict[str, list[str]] = {}
        for name, change in changes.items():
            rest = stable_hash({other: value for other, value in change.items() if other != key})
            groups.setdefault(rest, []).append(name)
        several = [names for names in groups.values() if len(names) > 1]
        found = [len({_content(tables[name]) for name in names}) > 1 for names in several]
        acts[key] = any(found) if found else None
    idle = [key for key, does in acts.items() if does is False]
    if idle:
        raise InputError(
            f"sweep: {idle[0]!r} changes no generation and no score of any trial, so nothing was searched. "
            "Take it out of the grid, or give it values that differ."
        )
    return acts


def _content(table: pd.DataFrame) -> str:
    """Everything that was recorded of the prompts, but the names of the trial, in one hash."""
    rows = table.drop(columns=[name for name in _NAMES if name in table]).sort_values(_KEYS)
    return stable_hash({str(name): [str(value) for value in rows[name]] for name in rows})


def _named(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table if "arm" in table else table.assign(arm=name)


def _mean(table: pd.DataFrame, language: str, metric: str) -> float:
    """Mean over groups of means over items; NaN where a score is missing or the language is."""
    rows = table[table["language"] == language]
    if rows.empty or metric not in rows or rows[metric].isna().any():
        return math.nan
    return float(rows.groupby("group")[metric].mean().mean())
