"""Numbers, codes and names as a person reads them; every text of the report is made here or in a template."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from mmie.statistics import sentences

NOT_MEASURED = "n/m"
MINUS = "\N{MINUS SIGN}"

CODES = {
    "no_effect": "no effect",
    "below_threshold": "forgets too little",
    "utility_loss": "protected languages not kept",
    "neighbour_loss": "neighbour languages not kept",
    "collapsed": "fluent text not kept",
    "language_confusion": "answers not kept in the right language",
    "membership": "still recognises what it was trained on",
    "not_robust": "does not hold under attack",
    "not_measured": "a required gate could not be measured",
    "underpowered": "too little data to tell",
    "uncalibrated": "this run is not calibrated",
}
STATES = {
    "correct": "correct",
    "wrong_in_language": "wrong, in the language",
    "other_language": "in another language",
    "refusal": "refusal",
    "undetermined": "language unclear",
    "empty_gibberish": "empty or gibberish",
}
KINDS = {
    "none": "the model untouched",
    "oracle": "retrained without the forget language",
    "noise": "weights noised until it babbles",
    "lora": "low-rank adapters",
    "reft": "low-rank edit of the residual stream",
    "negative_reft": "low-rank edit of the residual stream, turned round",
    "gated_reft": "low-rank edit of the residual stream behind a gate",
    "full": "every weight trained",
    "task_vector": "what learning the facts changed, subtracted",
    "rmu": "residual stream of forget texts sent astray",
    "crisp": "SAE latents silenced in the weights",
    "lingtea": "distilled from itself without the language",
    "contrastive": "prompts with one meaning drawn together, attacks apart",
    "combined": "several arms at once",
    "sae_clamp": "SAE latents clamped",
    "diff_means": "direction between languages edited",
    "leace": "language erased for linear probes",
    "script_scrub": "script erased for linear probes",
    "subspace": "subspace of the language projected out",
    "language_neurons": "neurons of the language silenced",
    "prompt_only": "an instruction and nothing else",
}
CELLS = {
    "test": "direct prompts",
    "test_new_wording": "new wordings",
    "mixed": "mixed prompts",
    "adversarial": "adversarial prompts",
    "holdout": "holdout facts",
    "dev": "DEV",
}
ATTACKS = {
    "relearn": "relearning",
    "relearn_subset": "relearning, half",
    "relearn_held_out": "relearning, DEV",
    "relearn_benign": "relearning, benign",
    "int8": "8-bit weights",
    "int4": "4-bit weights",
    "rewrite": "rewritten prompts",
    "steer": "steered back",
    "detach": "intervention removed",
}
MEMBERSHIP = {
    "mia_loss": "LOSS",
    "mia_zlib": "ZLib",
    "mia_min_k": "Min-K",
    "mia_min_k_plus_plus": "Min-K++",
    "mia_reference": "against the oracle",
}
DEPTH = {
    "unlearning_depth": "unlearning depth",
    "logit_lens_depth": "logit-lens depth",
    "recoverability_gap": "recoverability gap",
    "perturbation_effect": "perturbation effect",
}


def missing(value: Any) -> bool:
    """Whether a value was not measured: None, NaN or infinite."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def number(value: Any) -> str:
    """Two decimals, three near zero, a true minus; "n/m" when not measured."""
    return NOT_MEASURED if missing(value) else sentences.number(float(value)).replace("-", MINUS)


def signed(value: Any) -> str:
    """A change with its sign."""
    return NOT_MEASURED if missing(value) else sentences.signed(float(value)).replace("-", MINUS)


def interval(low: Any, high: Any) -> str:
    """An interval, or why there is none to see."""
    return "no interval" if missing(low) or missing(high) else f"{number(low)} to {number(high)}"


def probability(value: Any) -> str:
    """A p- or q-value."""
    if missing(value):
        return NOT_MEASURED
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: Any) -> str:
    """A share without decimals."""
    return NOT_MEASURED if missing(value) else f"{100 * value:.0f} %"


def share(value: Any) -> str:
    """A share with one decimal where it is small but not zero."""
    if missing(value) or not 0 < abs(value) < 0.0995:
        return percent(value)
    if abs(value) < 0.0005:
        return "< 0.1 %"
    return f"{100 * value:.1f} %".replace("-", MINUS)


def count(value: Any) -> str:
    """A whole number with thousands marks; other values as they are."""
    if missing(value):
        return NOT_MEASURED
    return f"{int(value):,}" if float(value).is_integer() else number(value)


def share_of(part: int, whole: int) -> str:
    """Part, whole and percentage, all counted: "296,450 of 124,739,332 (0.24 %)"."""
    return f"{part:,} of {whole:,} ({100 * part / whole:.2f} %)"


def language(code: str) -> str:
    """English name of a language code: `hi_Latn` is "Hindi (Latin script)"."""
    return sentences.language_name(code)


def language_tag(code: str) -> str:
    """BCP 47 tag for the `lang` attribute: `hi-Latn`."""
    return code.replace("_", "-")


def cell(name: str) -> str:
    """What was asked in a cell: "mixed prompts", or under which attack."""
    return CELLS.get(name) or attack(name)


def attack(name: str) -> str:
    """An attack in a few words: "4-bit weights"."""
    return ATTACKS.get(name, name.replace("_", " "))


def headline(arm: Mapping[str, Any]) -> str:
    """The verdict on one arm in a sentence without numbers."""
    if arm["decision"] == "PROCEED":
        required = [gate for gate in arm["gates"].values() if gate.get("required", True)]
        return f"Passes all {len(required)} required gates."
    codes = arm.get("codes") or sorted({reason.split(":")[0] for reason in arm["reasons"]})
    if not codes:
        return "Stops without a stated reason."
    said = "; ".join(CODES.get(code, code.replace("_", " ")) for code in codes)
    return said[0].upper() + said[1:] + "."


def decision_in_words(found: str) -> str:
    """The first reason of a decision: "STOP for no_effect, collapsed" as "STOP: shows no effect"."""
    head, _, tail = found.partition(" for ")
    first = tail.partition(";")[0].partition(",")[0].strip()
    return f"{head}: {CODES.get(first, first)}" if first else found


def sentence(text: str) -> str:
    """A sentence as given, with true minus signs before numbers."""
    return re.sub(r"(?<![\w.])-(?=\d)", MINUS, text)
