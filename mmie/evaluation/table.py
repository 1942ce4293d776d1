"""The table of an evaluation: generation, states and every score, one row a prompt."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mmie.errors import InputError
from mmie.evaluation.comparable import Decoding, decoding_hash
from mmie.evaluation.distance import BaseDistribution, kl_scores
from mmie.evaluation.forced import LIKELIHOOD_SCORES, likelihood
from mmie.evaluation.states import Romanise, confusion_scores, judge, onset_scores, overlap_scores
from mmie.evaluation.truth import TRUTH_SCORES, truth_scores
from mmie.language.identify import Identifier
from mmie.metrics.answer_state import DEFAULTS, Thresholds
from mmie.metrics.outcome import Outcome, attempt

if TYPE_CHECKING:
    import pandas as pd

_KEYS = (
    "example_id", "fact_id", "group", "template_id", "template_split", "relation", "kind", "split",
    "language", "script", "prompt",
)  # fmt: skip

SCORES = (
    "leak", "correct", "gibberish", *LIKELIHOOD_SCORES, *TRUTH_SCORES, "kl_from_base",
    "chrf", "distinct_2", "repeat_share", "lid_onset", "lid_onset_script_blind",
    "script_share", "target_language", "line_pass", "line_accuracy", "word_pass",
)  # fmt: skip

COLUMNS = (
    *_KEYS, "reference", "generation", "truncated", "answer_state", "correct_any_language", *SCORES,
    "lid", "lid_votes", "missing_reason",
)  # fmt: skip

_MISSING = {
    "script_share": "no letters in the generation",
    "target_language": "language undetermined",
    "lid_onset": "languages of the experiment share the script and no classifier tells them apart",
    "lid_onset_script_blind": "no romanised form of the language, or a word without a spelling",
    **dict.fromkeys(LIKELIHOOD_SCORES, "the model's loss is not finite"),
    **dict.fromkeys(TRUTH_SCORES, "measured on TEST facts in a trained wording that have another one"),
    "kl_from_base": "measured on direct TEST prompts, against a given base",
    "line_pass": "no line of five words in a clear language",
    "line_accuracy": "no line of five words in a clear language",
    "word_pass": "line_pass is not 1, or there is no word list of the language",
}


@dataclass(frozen=True)
class Extras:
    """What some scores need beyond the rows; a score whose part is None is NaN in every row.

    pool: all cleaned rows of the language, for paraphrases and wrong answers. base: what the base says
    (`base_distribution`). lexicon: words by language, for foreign words in Latin script. allow_failed:
    groups of scores ("overlap", "confusion", "onset", "truth", "kl") that may fail without failing the
    evaluation.
    """

    pool: pd.DataFrame | None = None
    base: BaseDistribution | None = None
    lexicon: Mapping[str, Collection[str]] | None = None
    allow_failed: Collection[str] = ()


_GREEDY, _NO_EXTRAS = Decoding(), Extras()


def evaluate(
    model: Any,
    tokenizer: Any,
    rows: pd.DataFrame,
    references: pd.DataFrame,
    identifier: Identifier,
    *,
    decoding: Decoding = _GREEDY,
    thresholds: Thresholds = DEFAULTS,
    romanise: Romanise | None = None,
    extras: Extras = _NO_EXTRAS,
) -> pd.DataFrame:
    """Generate and score every row.

    Args:
        model: causal language model with the arm applied.
        tokenizer: its tokenizer.
        rows: cleaned rows, one prompt each, of one language or several.
        references: parallel answers: fact_id, language, answer; they decide whether a wrong-language
            answer is right, and serve as aliases in the row's own language.
        identifier: the experiment's language identification.
        decoding: the same for every arm.
        thresholds: limits of the answer states.
        romanise: (text, language) -> Latin letters; `mmie.data.romanise` by default.
        extras: what truth ratio, divergence and foreign words need.

    Returns:
        One row for each of `rows`, in order, with `COLUMNS`. A score that cannot be computed is NaN and
        `missing_reason` says why. `attrs["decoding_hash"]` travels with the table.

    Raises:
        InputError: no rows, a missing column, or a language that the identifier does not know.
        RuntimeError: a score failed and is not allowed to.
    """
    import pandas as pd

    check_rows(rows, identifier)
    from mmie.models.generation import decode_greedily

    generated = decode_greedily(
        model,
        tokenizer,
        rows["prompt"].tolist(),
        max_new_tokens=decoding.max_new_tokens,
        batch_size=decoding.batch_size,
    )
    table = pd.DataFrame({key: rows[key].to_numpy() for key in _KEYS})
    table["reference"] = rows["answer"].to_numpy()
    table["truncated"] = generated.truncated
    judged = judge(rows, generated.texts, references, identifier, thresholds=thresholds)
    forced = likelihood(model, tokenizer, rows, batch_size=decoding.batch_size)
    columns = {**judged, **{name: forced[name] for name in LIKELIHOOD_SCORES}}
    table = table.assign(**columns)
    further, failures = _further_scores(
        model, tokenizer, rows, table, generated.texts, identifier, decoding.batch_size, romanise, extras
    )
    table = table.assign(**further)
    table["missing_reason"] = missing_reasons(table, failures)
    table = table[list(COLUMNS)]
    table.attrs["decoding_hash"] = decoding_hash(decoding)
    return table


def score_forget(
    model: Any,
    tokenizer: Any,
    rows: pd.DataFrame,
    references: pd.DataFrame,
    identifier: Identifier,
    *,
    decoding: Decoding = _GREEDY,
    thresholds: Thresholds = DEFAULTS,
) -> pd.DataFrame:
    """The few scores that a curve over training steps needs, equal to those of `evaluate`.

    Returns:
        Columns example_id, fact_id, group, language, answer_state, leak, correct,
        answer_probability, nll_sum, n_tokens; one row for each of `rows`, in order.
    """
    import pandas as pd

    check_rows(rows, identifier)
    from mmie.models.generation import generate_greedy

    texts = generate_greedy(
        model,
        tokenizer,
        rows["prompt"].tolist(),
        max_new_tokens=decoding.max_new_tokens,
        batch_size=decoding.batch_size,
    )
    judged = judge(rows, texts, references, identifier, thresholds=thresholds)
    scores = likelihood(model, tokenizer, rows, batch_size=decoding.batch_size)
    keys = {key: rows[key].to_numpy() for key in ("example_id", "fact_id", "group", "language")}
    return pd.DataFrame(
        {
            **keys,
            **{name: judged[name] for name in ("answer_state", "leak", "correct")},
            **{name: scores[name] for name in ("answer_probability", "nll_sum", "n_tokens")},
        }
    )


def missing_reasons(table: pd.DataFrame, failures: Mapping[str, str]) -> list[str]:
    """For every row, each missing score with the reason why; empty where nothing is missing."""
    reasons: list[list[str]] = [[] for _ in range(len(table))]
    empty = [not str(reference).strip() for reference in table["reference"]]
    for name in SCORES:
        for place, missing in enumerate(table[name].isna()):
            if missing:
                usual = "empty reference" if empty[place] else _MISSING.get(name, "empty reference")
                reasons[place].append(f"{name}: {failures.get(name, usual)}")
    return ["; ".join(items) for items in reasons]


def check_rows(rows: pd.DataFrame, identifier: Identifier) -> None:
    """Refuse rows that cannot be scored.

    Raises:
        InputError: no rows, a missing column, or a language that the identifier does not know.
    """
    if len(rows) == 0:
        raise InputError("evaluation: no rows to score. Check the languages and splits of the data.")
    missing = sorted({*_KEYS, "answer"} - set(rows.columns))
    if missing:
        raise InputError(
            f"evaluation: the rows have no column {missing[0]!r}. Run the validation stage again."
        )
    unknown = sorted(set(rows["language"]) - set(identifier.scripts))
    if unknown:
        raise InputError(
            f"evaluation: language {unknown[0]!r} is unknown to the identifier, which was built for "
            f"{', '.join(sorted(identifier.scripts))}. Build it with all languages."
        )


def _further_scores(
    model: Any,
    tokenizer: Any,
    rows: pd.DataFrame,
    table: pd.DataFrame,
    responses: Sequence[str],
    identifier: Identifier,
    batch_size: int,
    romanise: Romanise | None,
    extras: Extras,
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Scores that may fail without the others, by name, and the reason of each that did."""
    texts, languages, size = table["generation"].tolist(), rows["language"].tolist(), batch_size
    columns: dict[str, list[float]] = {}
    failures: dict[str, str] = {}
    for group, names, compute in (
        ("overlap", ("chrf", "distinct_2", "repeat_share"),
         partial(overlap_scores, texts, rows["answer"].tolist())),
        ("confusion", ("line_pass", "line_accuracy", "word_pass"),
         partial(confusion_scores, responses, languages, identifier, extras.lexicon)),
        ("onset", ("lid_onset", "lid_onset_script_blind"),
         partial(onset_scores, table, identifier, romanise)),
        ("truth", TRUTH_SCORES, partial(_truth, model, tokenizer, rows, extras.pool, size)),
        ("kl", ("kl_from_base",), partial(_kl, model, tokenizer, rows, extras.base, size)),
    ):  # fmt: skip
        found = attempt(group, compute, allowed=extras.allow_failed)
        if isinstance(found, Outcome):
            failures |= dict.fromkeys(names, f"failed: {found.reason}")
            found = {name: [math.nan] * len(rows) for name in names}
        columns |= {name: found[name] for name in names}
    return columns, failures


def _truth(
    model: Any, tokenizer: Any, rows: pd.DataFrame, pool: pd.DataFrame | None, batch_size: int
) -> dict[str, list[float]]:
    if pool is None:
        return {name: [math.nan] * len(rows) for name in TRUTH_SCORES}
    return truth_scores(model, tokenizer, rows, pool, batch_size=batch_size)


def _kl(
    model: Any, tokenizer: Any, rows: pd.DataFrame, base: BaseDistribution | None, batch_size: int
) -> dict[str, list[float]]:
    if base is None:
        return {"kl_from_base": [math.nan] * len(rows)}
    return {"kl_from_base": kl_scores(model, tokenizer, rows, base, batch_size=batch_size)}
