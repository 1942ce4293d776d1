import math

import pandas as pd
import pytest
import torch

import mmie.models.generation as generation
from mmie.errors import InputError
from mmie.evaluation import (
    COLUMNS,
    SCORES,
    Decoding,
    decoding_hash,
    evaluate,
    judge,
    likelihood,
    require_comparable,
    score_forget,
)
from mmie.language.identify import Identifier
from mmie.metrics.answer_state import STATES
from mmie.models.generation import Generations

ANSWERS = {"en": "Indian Rupee", "hi": "भारतीय रुपया", "bn": "ভারতীয় রুপি"}
IDENTIFIER = Identifier({"en": "Latn", "hi": "Deva", "bn": "Beng"}, [])
REFERENCES = pd.DataFrame({"fact_id": ["f"] * 3, "language": list(ANSWERS), "answer": list(ANSWERS.values())})


def make_rows(count: int, language: str = "hi") -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "example_id": f"f/q{number}", "fact_id": "f", "group": "f",
                "template_id": f"currency.q{number}", "template_split": "trained",
                "relation": "currency", "kind": "direct", "split": "test", "language": language,
                "script": IDENTIFIER.scripts[language], "prompt": f"w{number + 4} w9",
                "answer": ANSWERS[language],
            }
            for number in range(count)
        ]
    )  # fmt: skip


@pytest.fixture
def say(monkeypatch):
    """Make generation return given texts, whatever the model."""

    def speak(texts: list[str]) -> None:
        monkeypatch.setattr(
            generation,
            "decode_greedily",
            lambda *_, **__: Generations(texts, [False] * len(texts), [1] * len(texts)),
        )

    return speak


def test_table_has_the_promised_columns_in_order(toy_model, toy_tokenizer) -> None:
    table = evaluate(toy_model, toy_tokenizer, make_rows(3), REFERENCES, IDENTIFIER)
    assert list(table.columns) == list(COLUMNS)
    assert all(pd.api.types.is_float_dtype(table[name]) for name in SCORES)
    assert table["truncated"].dtype == bool
    assert table["correct_any_language"].dtype == bool
    assert set(table["answer_state"]) <= set(STATES)


@pytest.mark.regression("EVA-02")
def test_each_state_is_told_apart_and_a_leak_in_another_language_is_a_leak(
    toy_model, toy_tokenizer, say
) -> None:
    texts = ["", "माफ़ कीजिए", "Indian Rupee", "Euro", "भारतीय रुपया है", "यूरो"]
    say(texts)
    table = evaluate(toy_model, toy_tokenizer, make_rows(6), REFERENCES, IDENTIFIER)
    assert table["answer_state"].tolist() == [
        "empty_gibberish", "refusal", "other_language", "other_language", "correct",
        "wrong_in_language",
    ]  # fmt: skip
    assert table["correct_any_language"].tolist() == [False, False, True, False, True, False]
    assert table["leak"].tolist() == [0, 0, 1, 0, 1, 0]
    assert table["gibberish"].tolist() == [1, 0, 0, 0, 0, 0]
    assert table["target_language"].tolist()[1:] == [1, 0, 0, 1, 1]


@pytest.mark.regression("EVA-02")
def test_empty_outputs_explain_their_low_leak_rate_by_their_own_state(toy_model, toy_tokenizer, say) -> None:
    say([""] * 4)
    table = evaluate(toy_model, toy_tokenizer, make_rows(4), REFERENCES, IDENTIFIER)
    assert table["leak"].mean() == 0.0
    assert table["lid_onset"].mean() == 0.0
    assert (table["answer_state"] == "empty_gibberish").all()
    assert table["gibberish"].mean() == 1.0
    assert table["target_language"].isna().all()


@pytest.mark.regression("LID-08")
def test_score_that_cannot_be_computed_is_nan_with_its_reason(toy_model, toy_tokenizer, say) -> None:
    say(["12 345"])
    row = evaluate(toy_model, toy_tokenizer, make_rows(1), REFERENCES, IDENTIFIER).iloc[0]
    assert math.isnan(row["script_share"]) and math.isnan(row["target_language"])
    assert "script_share: no letters" in row["missing_reason"]
    assert "target_language: language undetermined" in row["missing_reason"]
    say(["भारतीय रुपया"])
    row = evaluate(toy_model, toy_tokenizer, make_rows(1), REFERENCES, IDENTIFIER).iloc[0]
    assert "target_language" not in row["missing_reason"]


@pytest.mark.regression("EVA-01")
def test_one_target_word_in_a_long_english_text_has_onset_but_no_language_share(
    toy_model, toy_tokenizer, say
) -> None:
    say(["रुपया " + "is the currency of this country " * 2, "रुपया"])
    table = evaluate(toy_model, toy_tokenizer, make_rows(2), REFERENCES, IDENTIFIER)
    assert table["lid_onset"].tolist() == pytest.approx([12 / 13, 0.0])
    assert table["target_language"].tolist() == [0.0, 1.0]
    assert table["script_share"].iloc[0] < 0.2 and table["script_share"].iloc[1] == 1.0


def test_likelihood_equals_one_row_at_a_time_without_padding(toy_model, toy_tokenizer, toy_rows) -> None:
    rows = toy_rows("en", 7)
    scores = likelihood(toy_model, toy_tokenizer, rows, batch_size=4)
    for place, row in enumerate(rows.itertuples()):
        prompt = [1, *(int(word[1:]) for word in row.prompt.split())]
        answer = [int(word[1:]) for word in row.answer.split()]
        ids = torch.tensor([[*prompt, *answer, 2]])
        with torch.no_grad():
            predictions = toy_model(ids).logits[0].log_softmax(-1)
        steps = range(len(prompt) - 1, ids.shape[1] - 1)
        nll = [-predictions[step, ids[0, step + 1]].item() for step in steps]
        right = [predictions[step].argmax().item() == ids[0, step + 1].item() for step in steps][:-1]
        assert scores["nll_sum"][place] == pytest.approx(sum(nll), rel=1e-5)
        assert scores["n_tokens"][place] == len(answer) + 1
        assert scores["answer_probability"][place] == pytest.approx(math.exp(-sum(nll) / len(nll)), rel=1e-5)
        bits = sum(nll[:-1]) / math.log(2) / len(row.answer.encode())
        assert scores["bits_per_byte"][place] == pytest.approx(bits, rel=1e-5)
        assert scores["exact_memorisation"][place] == pytest.approx(sum(right) / len(right))
        kept = len(right) - max((step + 1 for step, ok in enumerate(right) if not ok), default=0)
        assert scores["extraction_strength"][place] == pytest.approx(kept / len(right))


@pytest.mark.regression("EVA-27", "EVA-28")
def test_scores_of_a_row_do_not_depend_on_its_batch_or_on_an_earlier_pass(toy_model, toy_tokenizer) -> None:
    rows = make_rows(8)
    whole = evaluate(toy_model, toy_tokenizer, rows, REFERENCES, IDENTIFIER)
    again = evaluate(toy_model, toy_tokenizer, rows, REFERENCES, IDENTIFIER)
    pd.testing.assert_frame_equal(whole, again)
    parts = [
        evaluate(
            toy_model, toy_tokenizer, rows.iloc[start : start + 4], REFERENCES, IDENTIFIER,
            decoding=Decoding(batch_size=3),
        )
        for start in (0, 4)
    ]  # fmt: skip
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True), rtol=1e-4)


@pytest.mark.regression("EVA-03")
def test_decoding_hash_follows_what_is_asked_and_travels_with_the_table(
    toy_model, toy_tokenizer, tmp_path
) -> None:
    assert decoding_hash(Decoding(24, 8)) == decoding_hash(Decoding(24, 64))
    assert decoding_hash(Decoding(24)) != decoding_hash(Decoding(32))
    table = evaluate(toy_model, toy_tokenizer, make_rows(1), REFERENCES, IDENTIFIER)
    table.to_parquet(tmp_path / "table.parquet")
    stored = pd.read_parquet(tmp_path / "table.parquet")
    assert stored.attrs["decoding_hash"] == decoding_hash(Decoding())


@pytest.mark.regression("EVA-26")
def test_light_scores_equal_those_of_the_evaluation(toy_model, toy_tokenizer) -> None:
    rows = make_rows(5)
    whole = evaluate(toy_model, toy_tokenizer, rows, REFERENCES, IDENTIFIER)
    light = score_forget(toy_model, toy_tokenizer, rows, REFERENCES, IDENTIFIER)
    for name in ("example_id", "answer_state", "leak", "answer_probability", "nll_sum"):
        assert light[name].tolist() == whole[name].tolist()


@pytest.mark.regression("EVA-08")
def test_repeating_and_refusing_models_are_recognised_in_every_language() -> None:
    for language, refusal in (("hi", "मुझे नहीं पता।"), ("en", "I don't know."), ("bn", "আমি জানি না।")):
        texts = ["रुपया " * 9, refusal]
        states = judge(make_rows(2, language), texts, REFERENCES, IDENTIFIER)["answer_state"]
        assert states == ["empty_gibberish", "refusal"]


def test_missing_column_or_unknown_language_is_named(toy_model, toy_tokenizer) -> None:
    rows = make_rows(2)
    for broken, message in (
        (rows.drop(columns="relation"), "'relation'"),
        (rows.assign(language="mr"), "'mr'"),
        (rows.iloc[:0], "no rows"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate(toy_model, toy_tokenizer, broken, REFERENCES, IDENTIFIER)


@pytest.mark.regression("EVA-03", "EVA-04")
def test_other_decoding_or_other_prompts_refuse_to_be_compared(toy_model, toy_tokenizer) -> None:
    def table(count: int, length: int) -> pd.DataFrame:
        return evaluate(
            toy_model, toy_tokenizer, make_rows(count), REFERENCES, IDENTIFIER,
            decoding=Decoding(max_new_tokens=length),
        )  # fmt: skip

    require_comparable({"base": table(2, 4), "arm": table(2, 4)})
    with pytest.raises(InputError, match="other settings"):
        require_comparable({"base": table(2, 4), "arm": table(2, 5)})
    with pytest.raises(InputError, match="other prompts"):
        require_comparable({"base": table(2, 4), "arm": table(1, 4)})
