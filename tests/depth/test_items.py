import pandas as pd
import pytest

from mmie.depth.items import choose_items
from mmie.errors import InputError


def rows(count: int, split: str = "test") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "example_id": f"currency/{number}/{wording}", "fact_id": f"currency/{number}",
                "group": str(number), "relation": "currency", "kind": "direct", "language": "hi",
                "split": split, "template_split": "trained", "prompt": f"p{number} {wording}",
                "answer": f"a{number}",
            }
            for number in range(count)
            for wording in ("q1", "q2")
        ]
    )  # fmt: skip


def test_every_fact_stands_once_right_and_once_wrong_with_the_same_prompt() -> None:
    items = choose_items(rows(6), 4)
    right, wrong = items[items["right"]], items[~items["right"]]
    assert len(right) == len(wrong) == right["fact_id"].nunique() == 4
    assert right["prompt"].tolist() == wrong["prompt"].tolist()
    assert all(first != other for first, other in zip(right["answer"], wrong["answer"], strict=True))


def test_choice_does_not_depend_on_the_order_of_the_rows() -> None:
    table = rows(9)
    shuffled = table.sample(frac=1, random_state=3)
    assert choose_items(table, 5).equals(choose_items(shuffled, 5))


def test_fit_facts_are_never_chosen_and_one_fact_alone_has_no_wrong_answer() -> None:
    both = pd.concat([rows(3), rows(3, "fit").assign(fact_id="other", answer="b")])
    assert "other" not in set(choose_items(both, 9)["fact_id"])
    with pytest.raises(InputError, match="no TEST fact"):
        choose_items(rows(1), 5)
