"""Paraphrases and wrong answers: is the fact known in other words, and better than a false one?

Measured on TEST facts asked in a trained wording. The paraphrase is a held-out wording of the same fact;
wrong answers are the answers of other facts of the same relation and language. Both are drawn by hash,
so they are the same for every arm.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mmie.io import seed_from
from mmie.metrics.text import comparable
from mmie.metrics.truth_ratio import truth_preference, truth_ratio

if TYPE_CHECKING:
    import pandas as pd

TRUTH_SCORES = ("paraphrase_probability", "truth_ratio", "truth_preference")
WRONG_ANSWERS = 3


def truth_scores(
    model: Any,
    tokenizer: Any,
    rows: pd.DataFrame,
    pool: pd.DataFrame,
    *,
    batch_size: int,
    wrong_answers: int = WRONG_ANSWERS,
) -> dict[str, list[float]]:
    """Paraphrase probability and truth ratio of TEST facts that are asked in a trained wording.

    All probabilities are length-normalised and conditioned on the paraphrased prompt, so the ratio
    compares answers and nothing else.

    Args:
        model: with the arm applied.
        tokenizer: its tokenizer.
        rows: the prompts that are scored, of one language.
        pool: all cleaned rows of that language, where paraphrases and wrong answers come from.
        batch_size: prompts of one forward pass.
        wrong_answers: wrong answers of each fact.

    Returns:
        `TRUTH_SCORES`, one value for each of `rows`; NaN on other rows, and where a fact has no held-out
        wording or its relation no other answer.
    """
    from mmie.evaluation.forced import passes
    from mmie.metrics.likelihood import answer_probability
    from mmie.objectives.masking import token_nll

    asked = _asked(rows)
    questions = questions_of(pool, sorted(set(rows.loc[asked, "fact_id"])), wrong_answers)
    flat = [(fact, prompt, answer) for fact, (prompt, answers) in questions.items() for answer in answers]
    probabilities = [math.nan] * len(flat)
    if flat:
        _, prompts, answers = zip(*flat, strict=True)
        for indices, logits, target, mask in passes(model, tokenizer, prompts, answers, batch_size):
            found = answer_probability(token_nll(logits, target, mask), mask).tolist()
            for index, value in zip(indices, found, strict=True):
                probabilities[index] = value
    of_fact: dict[str, list[float]] = {}
    for (fact, _, _), value in zip(flat, probabilities, strict=True):
        of_fact.setdefault(fact, []).append(value)
    columns: dict[str, list[float]] = {name: [math.nan] * len(rows) for name in TRUTH_SCORES}
    for place, (fact, wanted) in enumerate(zip(rows["fact_id"], asked, strict=True)):
        if wanted and fact in of_fact:
            right, *wrong = of_fact[fact]
            ratio = truth_ratio(right, wrong)
            columns["paraphrase_probability"][place] = right
            columns["truth_ratio"][place] = ratio
            columns["truth_preference"][place] = truth_preference(ratio)
    return columns


def questions_of(
    pool: pd.DataFrame, facts: list[str], wrong_answers: int
) -> dict[str, tuple[str, list[str]]]:
    """By fact: a held-out wording, and the right answer followed by wrong ones."""
    direct = pool[pool["kind"] == "direct"]
    held_out = direct[(direct["template_split"] == "held_out") & direct["fact_id"].isin(facts)]
    order = held_out["example_id"].map(lambda name: seed_from("paraphrase", name))
    chosen = held_out.loc[order.sort_values().index].drop_duplicates("fact_id").set_index("fact_id")
    accepted = {str(fact): set(map(comparable, part["answer"])) for fact, part in direct.groupby("fact_id")}
    answers = {
        str(relation): sorted({str(answer) for answer in part["answer"]})
        for relation, part in direct.groupby("relation")
    }
    questions = {}
    for fact in facts:
        if fact in chosen.index:
            row = chosen.loc[fact]
            others = [
                text for text in answers[str(row["relation"])] if comparable(text) not in accepted[fact]
            ]
            others.sort(key=lambda text, fact=fact: seed_from("wrong answer", fact, text))  # type: ignore[misc]
            questions[fact] = (str(row["prompt"]), [str(row["answer"]), *others[:wrong_answers]])
    return questions


def _asked(rows: pd.DataFrame) -> pd.Series:
    return (rows["kind"] == "direct") & (rows["split"] == "test") & (rows["template_split"] == "trained")
