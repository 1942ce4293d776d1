"""What a job gives an arm to be fitted on, read from the files that its rule names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmie.activations.norms import residual_norms
from mmie.contrastive.pairs import fit_triples
from mmie.data.triples import Triple
from mmie.interventions.interface import FitData
from mmie.io import read_json, read_parquet


def read_fit_data(
    given: Mapping[str, Any],
    *,
    tokenizer: Any,
    forget: Sequence[str],
    retain: Sequence[str],
    checkpoints: str | Path | None = None,
    observe: Callable[[Mapping[str, Any]], None] | None = None,
) -> FitData:
    """Read what the rule of an arm gives; what a kind does not need is not there.

    Args:
        given: inputs by name, each a path or a list of paths: `rows` and `reference` by language, `layers`
            (selected.json), `oracle`, `sae`, `latents`, `activations` by language, files of `triples`,
            fitted arms (`parts`, folders `{arm}/seed{seed}`).
        tokenizer: of the base model.
        forget: forget languages, every written form.
        retain: retain languages.
        checkpoints: where training may keep its state.
        observe: who is shown the training history row by row.

    Returns:
        Direct FIT rows of both sides and everything else that was given.
    """
    reference = [read_parquet(file) for file in given.get("reference", [])]
    selected = read_json(given["layers"]) if "layers" in given else {}
    latents = read_parquet(given["latents"]) if "latents" in given else None
    activations = [Path(folder) for folder in given.get("activations", [])]
    return FitData(
        tokenizer=tokenizer,
        forget=_fit_rows(given.get("rows", []), forget),
        retain=_fit_rows(given.get("rows", []), retain),
        reference=pd.concat(reference, ignore_index=True) if reference else None,
        layers=tuple(selected.get("layers", ())),
        layer_scores={int(layer): score for layer, score in selected.get("scores", {}).items()} or None,
        layer_candidates=tuple(selected.get("candidates", ())),
        layer_gap=selected.get("gap"),
        forget_languages=tuple(forget),
        retain_languages=tuple(retain),
        activations=activations[0].parent if activations else None,
        oracle=Path(given["oracle"]) if "oracle" in given else None,
        sae=Path(given["sae"]) if "sae" in given else None,
        latents=None
        if latents is None
        else {at: latents[latents["layer"] == at] for at in set(latents["layer"])},
        residual_norms=_residual_norms(activations, retain),
        triples=_triples(given, forget),
        parts={Path(folder).parent.name: Path(folder) for folder in given.get("parts", [])},
        checkpoints=None if checkpoints is None else Path(checkpoints),
        observe=observe,
    )


def _fit_rows(files: Sequence[str], languages: Sequence[str]) -> pd.DataFrame | None:
    """FIT rows of some languages; None for an arm that reads none."""
    tables = [read_parquet(file) for file in files if Path(file).stem in languages]
    if not tables:
        return None
    rows = pd.concat(tables, ignore_index=True)
    return rows[(rows["kind"] == "direct") & (rows["split"] == "fit")].reset_index(drop=True)


def _triples(given: Mapping[str, Any], forget: Sequence[str]) -> list[Triple]:
    """Triples that attack FIT facts of the forget languages; none for an arm that reads none."""
    rows = _fit_rows(given.get("rows", []), forget)
    if not given.get("triples") or rows is None:
        return []
    return fit_triples(given["triples"], {*map(str, rows["fact_id"]), *map(str, rows["group"])})


def _residual_norms(folders: Sequence[Path], retain: Sequence[str]) -> dict[int, float] | None:
    """n_l by layer; None for an arm that reads no activations."""
    if not folders:
        return None
    return residual_norms(folders[0].parent, retain)
