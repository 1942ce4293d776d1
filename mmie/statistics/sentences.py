"""Why a gate passed, failed or was not measured, in one sentence a person can check."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mmie.statistics.measurement import Measurement
from mmie.statistics.scores import in_words

_CELLS = {
    "test": "",
    "test_new_wording": " in new wordings",
    "dev": " on DEV",
    "mixed": " on mixed prompts",
    "adversarial": " on adversarial prompts",
    "holdout": " on holdout facts",
}


def language_name(code: str, names: Mapping[str, str] | None = None) -> str:
    """English name of a language code: `hi_Latn` is "Hindi (Latin script)".

    Args:
        code: language, or language_Script.
        names: own words by code, which win over those of the CLDR.
    """
    if names and code in names:
        return names[code]
    from babel import Locale

    english = Locale("en")
    language, _, script = code.partition("_")
    word = str(english.languages.get(language, language))
    return f"{word} ({english.scripts.get(script, script)} script)" if script else word


def number(value: float) -> str:
    """Two decimals, three below 0.1; "n/m" when not measured."""
    if math.isnan(value):
        return "n/m"
    shown = f"{value:.3f}" if 0 < abs(value) < 0.0995 else f"{value:.2f}"
    return shown.removeprefix("-") if float(shown) == 0.0 else shown


def beside(value: float, limit: float) -> str:
    """`number` of a value, with the decimals it takes to see on which side of a limit it is."""
    shown, decimals = number(value), 3
    while value != limit and decimals < 9 and float(shown) == float(number(limit)):
        shown, decimals = f"{value:.{decimals}f}", decimals + 1
    return shown


def signed(value: float) -> str:
    """A change with its sign; 0 has none."""
    shown = number(value)
    return f"+{shown}" if value > 0 and shown[0].isdigit() and float(shown) > 0 else shown


def corrected(q: float) -> str:
    """A corrected p-value as it stands in a sentence."""
    return "q < 0.001" if q < 0.001 else f"q = {q:.3f}"


def reason(test: Measurement, names: Mapping[str, str]) -> str:
    """One sentence about a test that has its q and status."""
    score = f"{language_name(test.language, names)} {in_words(test.metric)}{_where(test.cell)}"
    if test.status == "not_measured":
        return f"{score} is not measured: {test.reason or test.ci_reason or 'no p-value'}."
    if test.statistic == "auc_gap":
        values = f"{number(test.arm_value)} against {number(test.oracle_value)} for the oracle"
        return f"{score} is {values}: {_gap(test)}"
    run = "" if test.seed == "mean" else f" in its worst seed ({test.seed})"
    values = f"{number(test.arm_value)}{run} against {number(test.base_value)} for the base"
    head = f"{score} is {values}"
    interval = _interval(test)
    if test.statistic in ("transfer", "ratio"):
        return f"{head}: {_effect(test, interval)}"
    return f"{head}: {_change(test, interval)}"


def _interval(test: Measurement) -> str:
    if math.isnan(test.ci_low):
        return f"(no interval: {test.ci_reason})"
    return f"({100 * test.ci_level:.0f} % CI {number(test.ci_low)} to {number(test.ci_high)})"


def _gap(test: Measurement) -> str:
    said = f"a gap of {signed(test.estimate)} {_interval(test)}"
    margin = f"the margin of {number(test.margin)}"
    if test.status == "passed":
        return f"{said} stays inside {margin} ({corrected(test.q)})."
    if not _reaches(test):
        way = "the model still recognises" if test.estimate > 0 else "over-unlearning singles out"
        return f"{said} leaves {margin}; {way} what it was trained on."
    return f"{said} is not shown to stay inside {margin} ({corrected(test.q)})."


def _where(cell: str) -> str:
    return _CELLS.get(cell, f" after the attack {cell}")


def _effect(test: Measurement, interval: str) -> str:
    word = "transfer" if test.statistic == "transfer" else "ratio"
    if test.statistic == "transfer" and math.isnan(test.oracle_value):
        word = "transfer (no oracle, taken as 0)"
    threshold = number(test.threshold)
    reached = _reaches(test)
    said = f"{word} {beside(test.estimate, test.threshold)} {interval} {'reaches' if reached else 'misses'} "
    said += threshold if test.direction == "at_least" else f"at most {threshold}"
    if reached and not test.rejected:
        return f"{said}, but the difference is not significant ({corrected(test.q)})."
    return f"{said} ({corrected(test.q)})." if reached else f"{said}."


def _change(test: Measurement, interval: str) -> str:
    said = f"a change of {signed(test.estimate)} {interval}"
    if test.test == "sign_flip":
        verb = "reaches" if _reaches(test) else "misses"
        return f"{said} {verb} {number(test.threshold)} ({corrected(test.q)})."
    margin = f"the margin of {number(test.margin)}"
    if test.status == "passed":
        return f"{said} stays inside {margin} ({corrected(test.q)})."
    if not _reaches(test):
        return f"{said} leaves {margin}."
    return f"{said} is not shown to stay inside {margin} ({corrected(test.q)})."


def _reaches(test: Measurement) -> bool:
    if test.direction == "within":
        return abs(test.estimate) <= (test.margin if test.margin == test.margin else test.threshold)
    if test.direction == "at_least":
        return test.estimate >= test.threshold
    return test.estimate <= test.threshold
