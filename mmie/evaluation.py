"""One row a prompt: what a model says, in which state that is, and what it gives to the expected answer.

Every arm goes through this one function with the same prompts, the same greedy decoding and the same
length limit. Aggregates are made from its rows, never stored alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmie.errors import InputError
from mmie.io import seed_from, stable_hash
from mmie.language.identify import EXPECTED, UNDETERMINED, Identifier
from mmie.language.onset import lid_onset, lid_onset_script_blind
from mmie.language.scripts import script_share
from mmie.metrics.answer_state import DEFAULTS, Thresholds, answer_state, is_leak
from mmie.metrics.text import NORMALISATION, chrf, contains_words, normalise

if TYPE_CHECKING:
    import pandas as pd

_KEYS = (
    "example_id", "fact_id", "group", "template_id", "template_split", "relation", "kind", "split",
    "language", "script", "prompt",
)  # fmt: skip

SCORES = (
    "leak", "correct", "gibberish", "answer_probability", "nll_sum", "bits_per_byte",
    "exact_memorisation", "extraction_strength", "chrf", "lid_onset", "lid_onset_script_blind",
    "script_share", "target_language",
)  # fmt: skip

COLUMNS = (
    *_KEYS, "reference", "generation", "truncated", "answer_state", "correct_any_language", *SCORES,
    "lid", "lid_votes", "missing_reason",
)  # fmt: skip

_MISSING = {
    "bits_per_byte": "empty reference",
    "script_share": "no letters in the generation",
    "target_language": "language undetermined",
    "lid_onset": "languages of the experiment share the script and no classifier tells them apart",
    "lid_onset_script_blind": "no romanised form of the language, or a word without a spelling",
}


@dataclass(frozen=True)
class Decoding:
    """How every arm is decoded: greedily, at most `max_new_tokens` tokens.

    `batch_size` says how many prompts run together; it is no part of the hash.
    """

    max_new_tokens: int = 24
    batch_size: int = 64


def decoding_hash(decoding: Decoding) -> str:
    """Hash of all that decides what a model is asked: two results compare only if theirs are equal."""
    return stable_hash(
        {
            "method": "greedy",
            "max_new_tokens": decoding.max_new_tokens,
            "template": "bos prompt / space answer eos",
            "normalisation": NORMALISATION,
        }
    )


def evaluate(
    model: Any,
    tokenizer: Any,
    rows: pd.DataFrame,
    references: pd.DataFrame,
    identifier: Identifier,
    *,
    decoding: Decoding = Decoding(),
    thresholds: Thresholds = DEFAULTS,
    romanise: Callable[[str, str], str] | None = None,
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

    Returns:
        One row for each of `rows`, in order, with `COLUMNS`. A score that cannot be computed is NaN and
        `missing_reason` says why. `attrs["decoding_hash"]` travels with the table.

    Raises:
        InputError: no rows, a missing column, or a language that the identifier does not know.
    """
    import pandas as pd

    _check(rows, identifier)
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
    for name, values in judged.items():
        table[name] = values
    for name, scores in likelihood(model, tokenizer, rows, batch_size=decoding.batch_size).items():
        if name in COLUMNS:
            table[name] = scores
    for name, scores in _language_scores(table, identifier, romanise).items():
        table[name] = scores
    table["chrf"] = [
        chrf(text, normalise(answer))
        for text, answer in zip(table["generation"], table["reference"], strict=True)
    ]
    table["missing_reason"] = _missing_reasons(table)
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
    decoding: Decoding = Decoding(),
    thresholds: Thresholds = DEFAULTS,
) -> pd.DataFrame:
    """The few scores that a curve over training steps needs, equal to those of `evaluate`.

    Returns:
        Columns example_id, fact_id, group, language, answer_state, leak, correct,
        answer_probability, nll_sum, n_tokens; one row for each of `rows`, in order.
    """
    import pandas as pd

    _check(rows, identifier)
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


def judge(
    rows: pd.DataFrame,
    generations: Sequence[str],
    references: pd.DataFrame,
    identifier: Identifier,
    *,
    thresholds: Thresholds = DEFAULTS,
) -> dict[str, list[Any]]:
    """Answer state, language and leak of generations that were made elsewhere.

    Args:
        rows: fact_id, language, answer of each prompt.
        generations: one text for each row.

    Returns:
        Columns generation (normalised), answer_state, correct_any_language, leak, correct, gibberish,
        script_share, target_language, lid, lid_votes.
    """
    texts = [normalise(text) for text in generations]
    answers = _answers_by_fact(references)
    # One batch for all distinct texts; what follows reads the verdicts that are already there.
    verdicts = identifier.identify(texts)
    columns: dict[str, list[Any]] = {"generation": texts}
    for text, fact, language, answer, verdict in zip(
        texts, rows["fact_id"], rows["language"], rows["answer"], verdicts, strict=True
    ):
        known = answers.get(str(fact), {})
        agreement = identifier.agreement(text, language)
        own = list(dict.fromkeys([answer, *known.get(language, [])]))
        state = answer_state(text, own, agreement, language=language, thresholds=thresholds)
        every = [*own, *(item for group in known.values() for item in group)]
        anywhere = state == "correct" or any(contains_words(text, item) for item in every)
        in_language = math.nan if agreement == UNDETERMINED else float(agreement == EXPECTED)
        for name, value in (
            ("answer_state", state),
            ("correct_any_language", anywhere),
            ("leak", float(is_leak(state, anywhere))),
            ("correct", float(state == "correct")),
            ("gibberish", float(state == "empty_gibberish")),
            ("script_share", script_share(text, identifier.scripts[language])),
            ("target_language", in_language),
            ("lid", verdict.language),
            ("lid_votes", verdict.record()),
        ):
            columns.setdefault(name, []).append(value)
    return columns


def likelihood(model: Any, tokenizer: Any, rows: pd.DataFrame, *, batch_size: int) -> dict[str, list[float]]:
    """Teacher-forced scores of the expected answers, from one forward pass.

    answer_probability and nll_sum count the end token as an answer token, as training does;
    bits_per_byte, exact_memorisation and extraction_strength do not: it has no bytes, and a model that
    says more after the right answer has still memorised it.

    Returns:
        Columns answer_probability, nll_sum (nats), n_tokens, bits_per_byte, exact_memorisation,
        extraction_strength, one value for each of `rows`.
    """
    import torch

    from mmie.metrics import likelihood as metrics
    from mmie.models.prompts import collate, encode_all, length_buckets, padding_id
    from mmie.objectives.masking import token_nll
    from mmie.training.forward import answer_logits

    encoded = encode_all(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
    names = ("answer_probability", "nll_sum", "n_tokens", "content_nll", "exact_memorisation",
             "extraction_strength")  # fmt: skip
    columns = {name: [math.nan] * len(rows) for name in names}
    for indices in length_buckets(encoded, batch_size):
        batch = collate([encoded[index] for index in indices], padding_id(tokenizer), side="left")
        with torch.no_grad():
            logits, target, mask = answer_logits(model, batch)
        nll = token_nll(logits, target, mask)
        predicted, content = logits.argmax(-1), metrics.without_end(mask)
        values = (
            metrics.answer_probability(nll, mask),
            metrics.summed(nll, mask),
            mask.sum(-1),
            metrics.summed(nll, content),
            metrics.exact_memorisation(predicted, target, content),
            metrics.extraction_strength(predicted, target, content),
        )
        for name, value in zip(names, values, strict=True):
            for index, number in zip(indices, value.tolist(), strict=True):
                columns[name][index] = float(number)
    columns["bits_per_byte"] = [
        metrics.bits_per_byte(total, answer)
        for total, answer in zip(columns.pop("content_nll"), rows["answer"], strict=True)
    ]
    return columns


def _language_scores(
    table: pd.DataFrame, identifier: Identifier, romanise: Callable[[str, str], str] | None
) -> dict[str, list[float]]:
    aware = [
        lid_onset(text, language, identifier)
        for text, language in zip(table["generation"], table["language"], strict=True)
    ]
    blind = [math.nan] * len(table)
    for language in sorted(set(table["language"])):
        places = [place for place, code in enumerate(table["language"]) if code == language]
        texts = [table["generation"].iloc[place] for place in places]
        scores = lid_onset_script_blind(texts, language, identifier, romanise or _romanise)
        for place, score in zip(places, scores, strict=True):
            blind[place] = score
    return {"lid_onset": aware, "lid_onset_script_blind": blind}


def _romanise(text: str, language: str) -> str:
    # Its tables take seconds to load, so only a word in other letters loads them.
    from mmie.data.romanise import romanise

    return romanise(text, language)


def _answers_by_fact(references: pd.DataFrame) -> Mapping[str, Mapping[str, list[str]]]:
    answers: dict[str, dict[str, list[str]]] = {}
    for fact, language, answer in zip(
        references["fact_id"], references["language"], references["answer"], strict=True
    ):
        answers.setdefault(str(fact), {}).setdefault(str(language), []).append(str(answer))
    return answers


def _missing_reasons(table: pd.DataFrame) -> list[str]:
    reasons: list[list[str]] = [[] for _ in range(len(table))]
    for name in SCORES:
        for place, missing in enumerate(table[name].isna()):
            if missing:
                reasons[place].append(f"{name}: {_MISSING.get(name, 'empty reference')}")
    return ["; ".join(items) for items in reasons]


def _check(rows: pd.DataFrame, identifier: Identifier) -> None:
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


def require_comparable(tables: Mapping[str, pd.DataFrame]) -> None:
    """Refuse to compare evaluations that were asked different questions.

    Args:
        tables: evaluation tables of one language, by arm and seed.

    Raises:
        InputError: decoding hashes differ, or the prompts are not the same ones.
    """
    names = sorted(tables)
    for name in names[1:]:
        first, other = tables[names[0]], tables[name]
        if first.attrs.get("decoding_hash") != other.attrs.get("decoding_hash"):
            raise InputError(f"{name} was decoded with other settings than {names[0]}. Evaluate both again.")
        if list(first["example_id"]) != list(other["example_id"]):
            raise InputError(f"{name} was evaluated on other prompts than {names[0]}. Evaluate both again.")


def choose_prompts(rows: pd.DataFrame, items: int) -> pd.DataFrame:
    """The prompts that are scored: at most `items` of each cell, the same ids in every language and arm.

    A cell is a split of the direct prompts in trained or in new wordings, or one of the other kinds on
    TEST groups. FIT rows are never scored. The choice is by hash of the id: neither order nor language
    changes it.

    Args:
        rows: cleaned rows of one language.
        items: largest number a cell.

    Raises:
        InputError: no row is left to score.
    """
    scored = rows[
        rows["split"].isin(["dev", "test", "holdout"])
        & ((rows["kind"] == "direct") | (rows["split"] == "test"))
    ]
    if scored.empty:
        raise InputError("no DEV, TEST or holdout row to score. Check data.fit_share and data.dev_share.")
    rank = scored["example_id"].map(lambda name: seed_from("evaluation", name))
    cells = [scored[name] for name in ("kind", "split", "template_split")]
    place = rank.groupby(cells).rank(method="first")
    return scored[place <= items].sort_values("example_id").reset_index(drop=True)
