"""The facts that depth is measured on, each with its right answer and a wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmie.errors import InputError
from mmie.io import seed_from
from mmie.metrics.text import comparable

if TYPE_CHECKING:
    import pandas as pd


def choose_items(rows: pd.DataFrame, items: int) -> pd.DataFrame:
    """At most `items` TEST facts of each language in a trained wording, each twice: right and wrong.

    The wrong answer is the right one of another fact of the same relation and language, so that right
    and wrong answers are the same kind of words. The choice is by hash: it is the same for every arm.

    Args:
        rows: cleaned rows of the forget languages.
        items: facts a language.

    Returns:
        fact_id, group, language, prompt, answer, right; the right answers first, in the same order as
        the wrong ones.

    Raises:
        InputError: no fact has a wrong answer.
    """
    import pandas as pd

    direct = rows[(rows["kind"] == "direct") & (rows["template_split"] == "trained")]
    tested = direct[direct["split"] == "test"]
    order = tested["example_id"].map(lambda name: seed_from("depth", name))
    facts = tested.loc[order.sort_values().index].drop_duplicates(["language", "fact_id"])
    answers = {
        (str(language), str(relation)): sorted(set(map(str, part["answer"])))
        for (language, relation), part in direct.groupby(["language", "relation"])
    }
    accepted = {
        (str(language), str(fact)): set(map(comparable, part["answer"]))
        for (language, fact), part in direct.groupby(["language", "fact_id"])
    }
    right, wrong = [], []
    for _, part in facts.groupby("language", sort=True):
        for row in part.head(items).itertuples():
            language, fact = str(row.language), str(row.fact_id)
            others = [
                text
                for text in answers[language, str(row.relation)]
                if comparable(text) not in accepted[language, fact]
            ]
            if others:
                entry: dict[str, Any] = {
                    "fact_id": fact, "group": row.group, "language": language, "prompt": row.prompt,
                }  # fmt: skip
                right.append({**entry, "answer": row.answer, "right": True})
                # Drawn by the language-free fact: right answers recur as wrong ones about equally often.
                drawn = others[seed_from("depth wrong answer", language, fact) % len(others)]
                wrong.append({**entry, "answer": drawn, "right": False})
    if not right:
        raise InputError("depth: no TEST fact has another answer to compare with. Give more facts.")
    return pd.DataFrame([*right, *wrong])
