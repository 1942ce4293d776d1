"""The nano models: tokenizer, packing, what they are trained on, and what the shipped ones recall."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.models import nano
from mmie.models.generation import generate_greedy
from mmie.models.loading import load_model, load_tokenizer
from mmie.models.nano_packing import pack
from mmie.models.nano_tokenizer import train_tokenizer
from mmie.models.prompts import encode

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "data" / "nano"
LANGUAGES = ("en", "hi", "hi_Latn", "ur", "pa", "bn")

Row = dict[str, Any]


@pytest.fixture(scope="session")
def corpus() -> list[Row]:
    return nano.read_rows(ROOT / "data" / "atlas" / f"{language}.jsonl" for language in LANGUAGES)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return load_tokenizer(SHIPPED)


def row(language: str, prompt: str, answer: str, **changes: str) -> Row:
    return {
        "example_id": prompt,
        "fact_id": prompt,
        "language": language,
        "kind": "direct",
        "template_split": "trained",
        "prompt": prompt,
        "answer": answer,
        **changes,
    }


# Tokenizer


def test_special_tokens_are_four_different_ids(tokenizer: Any) -> None:
    ids = [
        tokenizer.unk_token_id,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    ]
    assert len(set(ids)) == 4 and None not in ids


@settings(max_examples=50, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(lambda text: text[0] != " ")
)
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = load_tokenizer(SHIPPED)
    # The mark that stands for a space inside pieces is the one sign that cannot stand for itself.
    text = text.replace("▁", "")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_unseen_characters_are_spelled_in_bytes(tokenizer: Any) -> None:
    pieces = tokenizer.tokenize("漢")
    assert [piece for piece in pieces if piece.startswith("<0x")] == ["<0xE6>", "<0xBC>", "<0xA2>"]


def test_prompt_and_answer_are_tokenised_alike_together_and_apart(tokenizer: Any, corpus: list[Row]) -> None:
    for entry in corpus[::97]:
        joined = tokenizer(f"{entry['prompt']} {entry['answer']}", add_special_tokens=False)["input_ids"]
        apart = encode(tokenizer, entry["prompt"], entry["answer"]).ids
        assert apart == [tokenizer.bos_token_id, *joined, tokenizer.eos_token_id]


def test_the_tokenizer_depends_on_the_set_of_texts_alone() -> None:
    texts = [f"word{number} more{number % 7}" for number in range(200)]
    one, other = train_tokenizer(texts, 400), train_tokenizer([*reversed(texts), *texts], 400)
    assert nano.tokenizer_hash(one) == nano.tokenizer_hash(other)


def test_too_small_a_vocabulary_is_an_error() -> None:
    with pytest.raises(InputError, match="too few"):
        train_tokenizer(["a"], 100)


# Packing


def test_packed_texts_are_whole_and_see_only_themselves() -> None:
    packed = pack([[1, 10, 2], [1, 11, 12, 2], [1, 13, 2]], order=[0, 1, 2], width=8, pad_id=3)
    assert packed.input_ids.tolist() == [[1, 10, 2, 1, 11, 12, 2, 3], [1, 13, 2, 3, 3, 3, 3, 3]]
    assert packed.position_ids[0].tolist() == [0, 1, 2, 0, 1, 2, 3, 0]
    assert packed.targets()[0].tolist() == [10, 2, -100, 11, 12, 2, -100, -100]
    allowed = packed.attention()[0, 0]
    assert allowed[2].tolist() == [True, True, True, False, False, False, False, False]
    assert allowed[4].tolist() == [False, False, False, True, True, False, False, False]


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=60))
def test_packing_loses_no_token(lengths: list[int]) -> None:
    texts = [[number + 1] * length for number, length in enumerate(lengths)]
    packed = pack(texts, order=range(len(texts)), width=16, pad_id=0)
    kept = packed.input_ids[packed.text_ids > 0].tolist()
    assert sorted(kept) == sorted(token for text in texts for token in text)


def test_a_text_longer_than_a_row_is_an_error() -> None:
    with pytest.raises(InputError, match="5 tokens"):
        pack([[1] * 5], order=[0], width=4, pad_id=0)


def test_a_packed_text_gives_the_logits_it_gives_alone(tokenizer: Any) -> None:
    model = nano.build_model(tokenizer, seed=5).eval()
    texts = [[1, 300, 301, 2], [1, 302, 303, 304, 2]]
    packed = pack(texts, order=[0, 1], width=12, pad_id=3)
    with torch.no_grad():
        together = model(
            input_ids=packed.input_ids,
            position_ids=packed.position_ids,
            attention_mask=packed.attention(),
        ).logits[0, 4:9]
        alone = model(input_ids=torch.tensor(texts[1:])).logits[0]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


# What is trained on


def test_held_out_facts_wordings_and_attacks_are_not_trained_on(corpus: list[Row]) -> None:
    chosen = nano.training_rows(corpus)
    unseen = {entry["fact_id"] for entry in corpus if entry.get("split") == "holdout"}
    wordings = {entry["prompt"] for entry in corpus if entry["template_split"] == "held_out"}
    assert unseen and wordings
    assert not unseen & {entry["fact_id"] for entry in chosen}
    assert not wordings & {entry["prompt"] for entry in chosen}
    assert {entry["kind"] for entry in chosen} == {"direct", "mixed"}


def test_an_oracle_reads_no_letter_of_the_forget_language(corpus: list[Row]) -> None:
    chosen = nano.training_rows(corpus, ["hi"])
    assert {entry["language"] for entry in chosen} == {"en", "ur", "pa", "bn"}
    # The danda is shared by Indian scripts; letters are not.
    text = "".join(entry["prompt"] + entry["answer"] for entry in chosen)
    assert not [sign for sign in text if "\u0900" <= sign <= "\u0963"]
    romanised = {entry["prompt"] for entry in corpus if entry["language"] == "hi_Latn"}
    assert not romanised & {entry["prompt"] for entry in chosen}


def test_without_the_bridge_language_mixed_prompts_go_too(corpus: list[Row]) -> None:
    chosen = nano.training_rows(corpus, ["en"])
    assert {entry["kind"] for entry in chosen} == {"direct"}


def test_excluding_everything_is_an_error() -> None:
    with pytest.raises(InputError, match="no row is left without hi"):
        nano.training_rows([row("hi", "क", "ख")], ["hi"])


def test_the_recipe_hash_depends_on_what_the_model_is_made_of_and_on_nothing_else(tokenizer: Any) -> None:
    rows = [row("en", "a", "b"), row("hi", "c", "d")]
    known = nano.recipe_hash(rows, tokenizer, seed=1)
    assert nano.recipe_hash(list(reversed(rows)), tokenizer, seed=1) == known
    assert nano.recipe_hash([*rows, row("en", "x", "y", kind="adversarial")], tokenizer, seed=1) == known
    others = {
        nano.recipe_hash(rows, tokenizer, seed=2),
        nano.recipe_hash(rows, tokenizer, seed=1, exclude_languages=["hi"]),
        nano.recipe_hash(rows, tokenizer, seed=1, recipe=nano.NanoRecipe(epochs=1)),
        nano.recipe_hash([*rows, row("en", "e", "f")], tokenizer, seed=1),
    }
    assert len(others | {known}) == 5


# Training


def test_training_is_reproducible_and_teaches(tokenizer: Any, tmp_path: Path) -> None:
    rows = [row("en", f"What is the currency of number {n}?", f"coin {n}") for n in range(8)]
    recipe = nano.NanoRecipe(hidden_size=32, intermediate_size=64, layers=1, heads=2, epochs=60, batch_size=1)
    manifests = [
        nano.train_nano(rows, tokenizer, tmp_path / name, seed=3, recipe=recipe) for name in ("a", "b")
    ]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    # Guessing evenly among the pieces costs ln(4096) = 8.3 a token.
    assert manifests[0]["final_loss"] < 4
    assert nano.matches(tmp_path / "a", nano.recipe_hash(rows, tokenizer, seed=3, recipe=recipe))
    assert not nano.matches(tmp_path / "a", "another hash")
    assert nano.find_shipped(tmp_path, manifests[0]["recipe_hash"]) == tmp_path / "a"


# The shipped models


@pytest.mark.parametrize(
    ("folder", "seed", "excluded"),
    [("nano", 0, []), ("nano-oracle/hi/seed1", 1, ["hi"]), ("nano-oracle/hi/seed2", 2, ["hi"])],
)
def test_shipped_models_are_of_this_corpus_and_recipe(
    folder: str, seed: int, excluded: list[str], corpus: list[Row], tokenizer: Any
) -> None:
    expected = nano.recipe_hash(corpus, tokenizer, seed=seed, exclude_languages=excluded)
    assert nano.matches(ROOT / "data" / folder, expected)
    own_tokenizer = load_tokenizer(ROOT / "data" / folder)
    assert nano.tokenizer_hash(own_tokenizer) == nano.tokenizer_hash(tokenizer)


def test_shipped_models_weigh_at_most_25_mb() -> None:
    folders = (ROOT / "data" / "nano", ROOT / "data" / "nano-oracle")
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    assert size <= 25e6


def recall(folder: str, rows: list[Row]) -> float:
    model, tokenizer = load_model(ROOT / "data" / folder)
    said = generate_greedy(
        model, tokenizer, [entry["prompt"] for entry in rows], max_new_tokens=24, batch_size=40
    )
    return sum(text == entry["answer"] for text, entry in zip(said, rows, strict=True)) / len(rows)


def sample(corpus: list[Row], language: str) -> list[Row]:
    trained = [
        entry
        for entry in nano.training_rows(corpus)
        if entry["language"] == language and entry["kind"] == "direct"
    ]
    return [dict(entry) for entry in trained[:: len(trained) // 40][:40]]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_shipped_model_recalls_nine_of_ten_trained_facts(language: str, corpus: list[Row]) -> None:
    assert recall("nano", sample(corpus, language)) >= 0.9


def test_the_shipped_oracle_knows_english_and_no_hindi(corpus: list[Row]) -> None:
    assert recall("nano-oracle/hi/seed1", sample(corpus, "en")) >= 0.9
    for language in ("hi", "hi_Latn"):
        assert recall("nano-oracle/hi/seed1", sample(corpus, language)) <= 0.05


@pytest.mark.parametrize("folder", ["nano", "nano-oracle/hi/seed1", "nano-oracle/hi/seed2"])
def test_the_model_card_states_the_recall_of_the_manifest(folder: str) -> None:
    manifest = json.loads((ROOT / "data" / folder / "manifest.json").read_text(encoding="utf-8"))
    card = (ROOT / "data" / folder / "README.md").read_text(encoding="utf-8")
    for language, cells in manifest["recall"].items():
        line = next(line for line in card.splitlines() if line.startswith(f"| {language} |"))
        assert f"{100 * cells['trained']:.1f} %" in line
