"""The scores of an evaluation row: what each is called, what computes it, and which way success lies.

One meaning a name: a score is in this table once, and the function named here is the one that computes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["down", "up", "hold", "to oracle"]


@dataclass(frozen=True)
class Score:
    """function: module and name of the pure function with formula and source. low, high: range, None for
    unbounded. direction: of success on the forget set; on kept languages every score holds."""

    function: str
    low: float | None
    high: float | None
    direction: Direction


_MEMBERSHIP = "mmie.metrics.membership"
_LIKELIHOOD = "mmie.metrics.likelihood"
_TRUTH = "mmie.metrics.truth_ratio"
REGISTRY: Mapping[str, Score] = {
    "leak": Score("mmie.metrics.answer_state.is_leak", 0, 1, "down"),
    "correct": Score("mmie.metrics.answer_state.answer_state", 0, 1, "down"),
    "gibberish": Score("mmie.metrics.answer_state.is_gibberish", 0, 1, "hold"),
    "answer_probability": Score(f"{_LIKELIHOOD}.answer_probability", 0, 1, "down"),
    "nll_sum": Score(f"{_LIKELIHOOD}.summed", 0, None, "up"),
    "bits_per_byte": Score(f"{_LIKELIHOOD}.bits_per_byte", 0, None, "up"),
    "exact_memorisation": Score(f"{_LIKELIHOOD}.exact_memorisation", 0, 1, "down"),
    "extraction_strength": Score(f"{_LIKELIHOOD}.extraction_strength", 0, 1, "down"),
    "mia_loss": Score(f"{_MEMBERSHIP}.loss_score", None, 0, "to oracle"),
    "mia_zlib": Score(f"{_MEMBERSHIP}.zlib_score", None, 0, "to oracle"),
    "mia_min_k": Score(f"{_MEMBERSHIP}.min_k", None, 0, "to oracle"),
    "mia_min_k_plus_plus": Score(f"{_MEMBERSHIP}.min_k_plus_plus", None, None, "to oracle"),
    "paraphrase_probability": Score(f"{_LIKELIHOOD}.answer_probability", 0, 1, "down"),
    "truth_ratio": Score(f"{_TRUTH}.truth_ratio", 0, None, "to oracle"),
    "truth_preference": Score(f"{_TRUTH}.truth_preference", 0, 1, "down"),
    "kl_from_base": Score("mmie.metrics.divergence.kl_from_base", 0, None, "hold"),
    "chrf": Score("mmie.metrics.text.chrf", 0, 1, "down"),
    "distinct_2": Score("mmie.metrics.text.distinct_2", 0, 1, "hold"),
    "repeat_share": Score("mmie.metrics.text.longest_repeat_share", 0, 1, "hold"),
    "lid_onset": Score("mmie.language.onset.lid_onset", 0, 1, "down"),
    "lid_onset_script_blind": Score("mmie.language.onset.lid_onset_script_blind", 0, 1, "down"),
    "script_share": Score("mmie.language.scripts.script_share", 0, 1, "hold"),
    "target_language": Score("mmie.language.identify.Identifier.agreement", 0, 1, "down"),
    "line_pass": Score("mmie.metrics.confusion.confusion", 0, 1, "hold"),
    "line_accuracy": Score("mmie.metrics.confusion.confusion", 0, 1, "hold"),
    "word_pass": Score("mmie.metrics.confusion.foreign_words", 0, 1, "hold"),
}
