from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmie.activations import patching
from mmie.activations.causal import CausalOptions, answer_nll, encode_items
from mmie.activations.patching import COLUMNS, match_pairs, patch_layers, patching_effect
from mmie.errors import InputError

OPTIONS = CausalOptions(controls=4, minimum_items=20, resamples=200)


@pytest.fixture
def without_attention(toy_model: Any) -> Any:
    """The toy model as one that repeats its last word: every position reads nothing but its own token."""
    with torch.no_grad():
        toy_model.model.embed_tokens.weight *= 20
    for block in toy_model.model.layers:
        torch.nn.init.zeros_(block.self_attn.o_proj.weight)
    return toy_model


@pytest.fixture
def pairs(toy_rows: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Each item with the next one; the answer is the last word; the source is the other item's own prompt."""
    rows = toy_rows("xx", count=24)
    rows["answer"] = rows["prompt"].str.split().str[-1]
    other, third = (rows.iloc[np.roll(np.arange(24), -step)].reset_index(drop=True) for step in (1, 2))
    columns = (
        rows["prompt"],
        rows["answer"],
        other["prompt"],
        other["answer"],
        other["prompt"],
        third["prompt"],
    )
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def effects(table: pd.DataFrame) -> dict[str, float]:
    return table[table["draw"] == 0].set_index("edit")["effect"].to_dict()


def outcome(model: Any, tokenizer: Any, pairs: pd.DataFrame, prompt: str) -> float:
    """Mean of log p(other answer) - log p(own answer) after another prompt, unpatched."""
    asked = pairs.assign(prompt=pairs[prompt])
    own, other = (
        answer_nll(model, tokenizer, encode_items(tokenizer, asked.assign(answer=pairs[name]), OPTIONS))
        for name in ("answer", "other_answer")
    )
    return float((own - other).mean())


@pytest.mark.regression("ACT-10")
@pytest.mark.parametrize("layer", [0, 1])
def test_where_one_state_decides_a_patch_goes_the_whole_way(
    without_attention: Any, toy_tokenizer: Any, pairs: pd.DataFrame, layer: int
) -> None:
    """Without attention the state at the last prompt token is all of the prompt that the answer sees."""
    table = patching_effect(
        without_attention, toy_tokenizer, pairs, layer, options=OPTIONS, other_layer=1 - layer
    )
    found = effects(table)
    assert found["patch"] == pytest.approx(1, abs=1e-5)
    assert found["other_layer"] == pytest.approx(1, abs=1e-5)
    assert found["self"] == pytest.approx(0, abs=1e-5)
    target, source, unrelated = (
        outcome(without_attention, toy_tokenizer, pairs, name)
        for name in ("prompt", "source_prompt", "unrelated_prompt")
    )
    assert found["unrelated"] == pytest.approx((unrelated - target) / (source - target), abs=1e-5)
    row = table[table["edit"] == "patch"].iloc[0]
    assert row["denominator"] == pytest.approx(source - target, abs=1e-5)
    assert row["nats"] == pytest.approx(source - target, abs=1e-4)
    assert (row["low"], row["high"]) == (pytest.approx(1, abs=1e-4), pytest.approx(1, abs=1e-4))
    assert table["edit"].value_counts()["control"] == 4
    assert table.loc[table["edit"] == "other_layer", "layer"].tolist() == [1 - layer]


def test_random_patches_move_each_state_as_far_as_the_patch(
    without_attention: Any, toy_tokenizer: Any, pairs: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched: list[torch.Tensor] = []
    original = patching._patched_nll

    def watched(model: Any, tokenizer: Any, encoded: Any, layer: int, states: torch.Tensor) -> Any:
        patched.append(states)
        return original(model, tokenizer, encoded, layer, states)

    monkeypatch.setattr(patching, "_patched_nll", watched)
    patching_effect(without_attention, toy_tokenizer, pairs, 0, options=OPTIONS)
    # Both answers of every edit, in the order of the table: patch, self, unrelated, controls.
    source, own, _, *controls = patched[::2]
    assert len(controls) == 4 and len({float(states[0, 0]) for states in controls}) == 4
    for states in controls:
        assert torch.allclose((states - own).norm(dim=-1), (source - own).norm(dim=-1), rtol=1e-4)


def test_an_effect_is_undefined_where_the_other_question_changes_nothing(
    without_attention: Any, toy_tokenizer: Any, pairs: pd.DataFrame
) -> None:
    same = pairs.assign(other_prompt=pairs["prompt"])
    table = patching_effect(without_attention, toy_tokenizer, same, 0, options=OPTIONS)
    assert table[["effect", "low", "high"]].isna().all(axis=None)
    assert table["denominator"].eq(0).all() and table["nats"].notna().all()
    report = patch_layers(without_attention, toy_tokenizer, same, [0], [], OPTIONS)
    assert report["layers"]["0"]["beyond_random"] is None


def test_the_report_has_every_selected_layer_with_its_controls(
    without_attention: Any, toy_tokenizer: Any, pairs: pd.DataFrame
) -> None:
    report = patch_layers(without_attention, toy_tokenizer, pairs, [0], [1], OPTIONS)
    assert report["pairs"] == 24 and list(report["layers"]) == ["0"]
    layer = report["layers"]["0"]
    assert layer["effect"] == pytest.approx(1, abs=1e-5) and layer["beyond_random"]
    assert sorted(layer["controls"]) == ["other_layer", "self", "unrelated"]
    both = patch_layers(without_attention, toy_tokenizer, pairs, [1, 0], [0, 1], OPTIONS)
    assert list(both["layers"]) == ["0", "1"]
    # No other layer is left to be patched.
    assert sorted(both["layers"]["1"]["controls"]) == ["self", "unrelated"]


def test_few_pairs_are_an_error_and_are_said_in_the_report(
    without_attention: Any, toy_tokenizer: Any, pairs: pd.DataFrame
) -> None:
    with pytest.raises(InputError, match="10 items; at least 20 are needed"):
        patching_effect(without_attention, toy_tokenizer, pairs.head(10), 0, options=OPTIONS)
    report = patch_layers(without_attention, toy_tokenizer, pairs.head(10), [0], [], OPTIONS)
    assert report == {"pairs": 10, "reason": "at least 20 matched pairs of DEV questions are needed"}


def questions(*languages: str, facts: int = 12) -> pd.DataFrame:
    """Questions of two templates; every third fact has the same answer, and every fourth is TEST."""
    return pd.DataFrame(
        {
            "example_id": f"fact{fact}/{template}",
            "fact_id": f"fact{fact}",
            "template_id": template,
            "template_split": "held_out" if template == "q3" else "trained",
            "language": language,
            "split": "dev" if fact % 4 else "test",
            "kind": "direct",
            "prompt": f"{language} {template} {fact}",
            "answer": f"{language} answer {fact % 3}",
        }
        for language in languages
        for fact in range(facts)
        for template in ("q1", "q2", "q3")
    )


def test_pairs_share_a_template_differ_in_answers_and_ask_each_dev_fact_once() -> None:
    rows = questions("hi", "hi_Latn", "en", "bn")
    pairs = match_pairs(rows, ["hi", "hi_Latn"], ["en", "bn"], 20)
    assert len(pairs) == 9
    asked = pairs["prompt"].str.split(expand=True)
    assert asked[2].is_unique and not asked[2].astype(int).mod(4).eq(0).any()
    assert set(zip(asked[0], pairs["source_prompt"].str.split().str[0], strict=True)) == {
        ("hi", "en"), ("hi_Latn", "en"), ("hi", "bn"), ("hi_Latn", "bn"),
    }  # fmt: skip
    for _, pair in pairs.iterrows():
        own, other, source, unrelated = (
            pair[name].split() for name in ("prompt", "other_prompt", "source_prompt", "unrelated_prompt")
        )
        assert own[1] == other[1] == source[1] == unrelated[1] != "q3"
        assert other[2] == source[2] and other[0] == own[0] and unrelated[0] == source[0]
        assert len({int(words[2]) % 3 for words in (own, other, unrelated)}) == 3
        assert pair["answer"] == f"{own[0]} answer {int(own[2]) % 3}"
        assert pair["other_answer"] == f"{own[0]} answer {int(other[2]) % 3}"
    pd.testing.assert_frame_equal(
        pairs, match_pairs(rows.sample(frac=1, random_state=1), ["hi", "hi_Latn"], ["en", "bn"], 20)
    )
    assert len(match_pairs(rows, ["hi"], ["en"], 3)) == 3
    assert match_pairs(rows, ["hi"], ["en"], 0).empty
    # A language without questions of its own leaves the others their turns.
    assert len(match_pairs(rows, ["hi"], ["en", "xx"], 20)) == len(match_pairs(rows, ["hi"], ["en"], 20))


def test_languages_without_common_items_or_templates_with_two_answers_give_no_pairs() -> None:
    rows = questions("hi", "en")
    assert match_pairs(rows.assign(answer="one"), ["hi"], ["en"], 5).empty
    apart = rows["example_id"].where(rows["language"] == "hi", rows["example_id"] + "/en")
    assert match_pairs(rows.assign(example_id=apart), ["hi"], ["en"], 5).empty
