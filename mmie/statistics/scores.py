"""The scores that are aggregated: what each is called, its range, and which way success lies."""

from __future__ import annotations

from typing import Literal

Direction = Literal["down", "up", "hold"]

STATES = (
    "correct",
    "wrong_in_language",
    "other_language",
    "refusal",
    "undetermined",
    "empty_gibberish",
)
# A refusal is recognised with the lexicon of the answer's language, so it counts as that language.
STATES_IN_LANGUAGE = ("correct", "wrong_in_language", "refusal")
# Shares that follow from the answer state of every row; they are never missing.
STATE_SCORES = tuple(state for state in STATES if state not in ("correct", "empty_gibberish"))
IN_LANGUAGE = "in_language"

# name -> (words for a sentence, direction on forget languages)
_SCORES: dict[str, tuple[str, Direction]] = {
    "leak": ("leak rate", "down"),
    "correct": ("accuracy", "down"),
    "answer_probability": ("answer probability", "down"),
    "exact_memorisation": ("exact memorisation", "down"),
    "extraction_strength": ("extraction strength", "down"),
    "paraphrase_probability": ("paraphrase probability", "down"),
    "truth_preference": ("preference for the true answer", "down"),
    "chrf": ("chrF", "down"),
    "target_language": ("target-language share", "down"),
    "lid_onset": ("language onset", "down"),
    "lid_onset_script_blind": ("script-blind language onset", "down"),
    "bits_per_byte": ("bits per byte", "up"),
    "nll_sum": ("answer loss", "up"),
    "wrong_in_language": ("share of wrong answers in the language", "up"),
    "gibberish": ("gibberish rate", "hold"),
    "script_share": ("script share", "hold"),
    "in_language": ("share of answers in the right language", "hold"),
    "line_pass": ("line pass rate", "hold"),
    "word_pass": ("word pass rate", "hold"),
    "kl_from_base": ("divergence from the base", "hold"),
    "other_language": ("share of answers in another language", "hold"),
    "refusal": ("refusal rate", "hold"),
    "undetermined": ("share of answers in no clear language", "hold"),
}
SCORES = tuple(_SCORES)
# Attack scores of single items: only their ranks mean something, so they enter AUCs and never means.
MEMBERSHIP = "membership"
_MEMBERSHIP_SCORES = {
    "mia_loss": "LOSS",
    "mia_zlib": "ZLib",
    "mia_min_k": "Min-K",
    "mia_min_k_plus_plus": "Min-K++",
}
MEMBERSHIP_SCORES = tuple(_MEMBERSHIP_SCORES)
TRANSFER_SCORES = ("leak", "answer_probability", "extraction_strength")
UNBOUNDED = ("bits_per_byte", "nll_sum", "kl_from_base")
_WORSE_WHEN_HIGHER = (
    "bits_per_byte",
    "nll_sum",
    "kl_from_base",
    "gibberish",
    "other_language",
    "refusal",
    "undetermined",
    "wrong_in_language",
)


def in_words(score: str) -> str:
    """A score's name as it stands in a sentence."""
    if score in _MEMBERSHIP_SCORES:
        return f"membership AUC ({_MEMBERSHIP_SCORES[score]})"
    return _SCORES[score][0] if score in _SCORES else score.replace("_", " ")


def direction(score: str, *, forget: bool, cell: str) -> Direction:
    """Where success lies: on forget languages as listed, on kept ones and on holdout no change."""
    if not forget or cell == "holdout" or score not in _SCORES:
        return "hold"
    return _SCORES[score][1]


def harm_of(score: str) -> Literal["down", "up"]:
    """Which way of a score is harm on a language to keep."""
    return "up" if score in _WORSE_WHEN_HIGHER else "down"
