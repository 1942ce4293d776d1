"""Inside the model: autoencoders, latents, depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmie.report import words
from mmie.report.inputs import REFERENCE, ReportInputs

Row = dict[str, Any]


PICKS_SHOWN, OTHER_PICKS_SHOWN, CONTEXTS_SHOWN = 6, 3, 3
LAYER_CHOICES = ("selected", "random", "middle", "worst")
PATCH_CONTROLS = {
    "unrelated": "a third question's state",
    "other_layer": "the other question's state, at a random layer",
    "self": "its own state",
}


def depth(inputs: ReportInputs) -> list[Row]:
    """Measures of depth by arm, mean over seeds, with the values of base and oracle."""
    table = inputs.depth
    if table.empty:
        return []
    rows = []
    for arm in [*inputs.arms, REFERENCE]:
        own = table[table["arm"] == arm].sort_values("seed", kind="stable")
        if own.empty:
            continue
        cells = []
        for measure in words.DEPTH:
            part = own[own["measure"] == measure]
            values = part["value"].astype(float)
            reasons = sorted({str(reason) for reason in part["reason"] if reason})
            measured = len(values) and not values.isna().any()
            cells.append({
                "value": words.number(float(values.mean())) if measured else words.NOT_MEASURED,
                "reason": "" if measured else "; ".join(reasons),
                "seeds": " · ".join(words.number(value) for value in values) if len(values) > 1 else "",
            })  # fmt: skip
        found = own.loc[own["measure"] == "recoverability_gap", "changed"]
        changed = "n/m" if found.empty or found.isna().any() else "yes" if found.astype(bool).all() else "no"
        rows.append({"arm": arm, "studied": arm in inputs.studied, "cells": cells, "changed": changed})
    return rows


def layer_choices(inputs: ReportInputs) -> Row:
    """What ablating the selected layers did beside other choices of as many, and whether it did more."""
    found = inputs.causal.get("choices", {})
    rows = [
        {
            "name": name,
            "layers": "; ".join(sorted({", ".join(map(str, draw)) for draw in choice["layers"]})),
            "effect": words.signed(choice["effect"]),
            "interval": words.interval(choice["low"], choice["high"]),
            "difference": words.signed(apart["effect"]) if apart else "",
            "difference_interval": words.interval(apart["low"], apart["high"])
            if apart
            else "the same layers",
        }
        for name in LAYER_CHOICES
        if (choice := found.get(name))
        for apart in [choice.get("difference")]
    ]
    told = [choice["selected_is_stronger"] for name, choice in found.items() if name != "selected"]
    told = [stronger for stronger in told if stronger is not None]
    return {"rows": rows, "questions": inputs.causal.get("items", 0), "mattered": bool(told) and all(told)}


def patches(inputs: ReportInputs) -> Row:
    """How far the state of a question in another language takes the answer, by layer and beside controls."""
    found = inputs.causal.get("patching", {})
    rows = []
    for layer, patch in sorted(found.get("layers", {}).items(), key=lambda item: int(item[0])):
        rows.append(_patch(int(layer), "the other question's state", patch))
        rows += [
            _patch(int(patch["controls"][name]["layer"]), label, patch["controls"][name])
            for name, label in PATCH_CONTROLS.items()
            if name in patch["controls"]
        ]
        rows.append({"layer": int(layer), "name": "largest of the random patches",
                     "effect": words.number(patch["largest_random"]), "interval": ""})  # fmt: skip
    return {"rows": rows, "pairs": found.get("pairs", 0), "reason": found.get("reason", "")}


def _patch(layer: int, name: str, edit: Mapping[str, Any]) -> Row:
    return {
        "layer": layer, "name": name, "effect": words.number(edit["effect"]),
        "interval": words.interval(edit["low"], edit["high"]),
    }  # fmt: skip


def latents(inputs: ReportInputs) -> list[Row]:
    """By layer: what clamping each picker's latents did on DEV, and each one's top latents with contexts."""
    return [
        {
            "layer": name.removeprefix("layer"),
            "pickers": [
                _picker(picker, len(found["picks"][picker]), found.get("validation", {}).get(picker))
                for picker in sorted(found["picks"])
            ],
            "without": sorted(found.get("without", {}).items()),
            "shown": _shown(inputs, int(name.removeprefix("layer")), found["picks"]),
        }
        for name, found in sorted(inputs.picks.items(), key=lambda item: (len(item[0]), item[0]))
    ]


def _picker(name: str, count: int, effect: Mapping[str, Any] | None) -> Row:
    if effect is None:
        return {"name": name.replace("_", " "), "count": count, "specific": None}
    return {
        "name": name.replace("_", " "), "count": count, "specific": bool(effect["specific"]),
        "forget": words.signed(effect["forget"]), "limit": words.signed(effect["forget_limit"]),
        "retain": words.signed(effect["retain"]), "most": words.signed(max(effect["random_retain"])),
        "sets": len(effect["random_forget"]),
    }  # fmt: skip


def _shown(inputs: ReportInputs, layer: int, picks: Mapping[str, Any]) -> list[Row]:
    """The first latents of every picker, those that arms clamp first; each latent's contexts once."""
    used = [str(options.get("picker")) for options in inputs.config.get("arms", {}).values()]
    groups: list[Row] = []
    seen: set[int] = set()
    for picker in dict.fromkeys([*used, *sorted(picks)]):
        first = picks.get(picker, [])[: OTHER_PICKS_SHOWN if groups else PICKS_SHOWN]
        if first:
            rows = [_latent(inputs, layer, latent, picks) | {"above": latent in seen} for latent in first]
            groups.append({"picker": picker.replace("_", " "), "latents": rows})
            seen.update(first)
    return groups


def _latent(inputs: ReportInputs, layer: int, latent: int, picks: Mapping[str, Any]) -> Row:
    table = inputs.contexts
    if len(table):
        table = table[(table["layer"] == layer) & (table["latent"] == latent)].sort_values("rank")
    return {
        "latent": latent,
        "pickers": ", ".join(picker.replace("_", " ") for picker in sorted(picks) if latent in picks[picker]),
        "contexts": [
            {"language": words.language(row["language"]), "tag": words.language_tag(row["language"]),
             "before": row["before"], "token": row["token"], "after": row["after"],
             "code": words.number(row["code"])}
            for row in table.head(CONTEXTS_SHOWN).to_dict("records")
        ],
    }  # fmt: skip


def sae_table(inputs: ReportInputs) -> list[Row]:
    """Quality of every autoencoder, pooled and per language."""
    rows = []
    for name, quality in sorted(inputs.sae.items(), key=lambda item: (len(item[0]), item[0])):
        layer = name.removeprefix("layer")
        recovered = quality.get("loss_recovered", {})
        parts = [("all languages", "pooled", quality["pooled"])]
        described = quality.get("languages", {})
        order = [code for code in inputs.languages if code in described]
        order += sorted(set(described) - set(order))
        parts += [(words.language(code), code, described[code]) for code in order]
        for label, code, part in parts:
            rows.append({
                "layer": layer, "pooled": code == "pooled", "language": label,
                "fvu": words.number(part["fvu"]), "l0": words.number(part["l0"]),
                "dead": words.percent(part["dead_share"]),
                "recovered": words.number(recovered.get(code, {}).get("loss_recovered")),
                "supported": "" if part.get("supported", True) else "poorly described: no claim is made here",
            })  # fmt: skip
    return rows
