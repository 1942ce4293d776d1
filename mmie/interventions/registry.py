"""Which kinds of intervention there are, and how one is built or read."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmie.errors import InputError
from mmie.interventions.combined import Combined
from mmie.interventions.contrastive import ContrastiveAdapters
from mmie.interventions.crisp import Crisp
from mmie.interventions.diff_means import DifferenceInMeans
from mmie.interventions.full import FullFineTuning
from mmie.interventions.interface import DESCRIPTION, Intervention
from mmie.interventions.language_neurons import LanguageNeurons
from mmie.interventions.leace import Leace, ScriptScrub
from mmie.interventions.lingtea import LingTea
from mmie.interventions.lora import LowRankAdapters
from mmie.interventions.noise import WeightNoise
from mmie.interventions.none import NoIntervention
from mmie.interventions.prompt_only import PromptOnly
from mmie.interventions.reft import Loreft
from mmie.interventions.reft_variants import GatedReft, NegativeReft
from mmie.interventions.replacement import WeightReplacement
from mmie.interventions.rmu import Rmu
from mmie.interventions.sae_clamp import SaeClamp
from mmie.interventions.subspace import SubspaceProjection
from mmie.interventions.task_vector import TaskVector
from mmie.io import read_json

KINDS: dict[str, type[Intervention]] = {
    kind.kind: kind
    for kind in (
        NoIntervention,
        WeightReplacement,
        WeightNoise,
        LowRankAdapters,
        Loreft,
        NegativeReft,
        GatedReft,
        LingTea,
        Crisp,
        SaeClamp,
        DifferenceInMeans,
        Leace,
        ScriptScrub,
        SubspaceProjection,
        LanguageNeurons,
        PromptOnly,
        FullFineTuning,
        TaskVector,
        Rmu,
        ContrastiveAdapters,
        Combined,
    )
}


def build(options: Mapping[str, Any]) -> Intervention:
    """Build an intervention from the block of an arm in the config.

    Args:
        options: `kind` and the options of that kind.

    Raises:
        InputError: an unknown kind or option.
    """
    rest = {key: value for key, value in options.items() if key != "kind"}
    return _kind(options.get("kind"), "arm").from_options(rest)


def load_intervention(directory: str | Path) -> Intervention:
    """Read a fitted intervention of any kind, strictly.

    Raises:
        InputError: missing files, an unknown kind, tensors that do not fit.
    """
    description = Path(directory) / DESCRIPTION
    return _kind(read_json(description).get("kind"), str(description)).load(directory)


def _kind(name: Any, source: str) -> type[Intervention]:
    if name not in KINDS:
        close = get_close_matches(str(name), KINDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"{source}: unknown kind {name!r}. Known: {', '.join(sorted(KINDS))}.{hint}")
    return KINDS[name]
