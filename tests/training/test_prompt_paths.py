"""One prompt, four ways into the model: training, likelihood, generation, generation behind an edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmie.evaluation.forced import passes
from mmie.models.generation import generate_greedy
from mmie.models.hooks import edit
from mmie.training.loop import train
from mmie.training.reference import reference_log_likelihoods, reference_sums
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings


def seen_by(model: Any, act: Callable[[], Any]) -> set[tuple[int, ...]]:
    """Token ids of every row of every forward pass without a cache behind it, padding left out."""
    rows: set[tuple[int, ...]] = set()

    def note(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        ids, mask = given["input_ids"], given["attention_mask"].bool()
        if ids.shape == mask.shape:
            rows.update(tuple(row[kept].tolist()) for row, kept in zip(ids, mask, strict=True))

    handle = model.register_forward_pre_hook(note, with_kwargs=True)
    act()
    handle.remove()
    return rows


@pytest.mark.regression("TRN-09")
def test_the_prompt_has_the_same_tokens_in_training_likelihood_and_generation(
    toy_model: Any, toy_tokenizer: Any, toy_rows: Any, toy_sets: TrainingSets, shift: Any
) -> None:
    """With the tokenizer of an instruct model, whose template some library might apply by itself."""
    toy_tokenizer.chat_template = "w60 {% for m in messages %}{{ m['content'] }} {% endfor %}w61"
    rows = toy_rows("xx")
    prompts, answers = rows["prompt"].tolist(), rows["answer"].tolist()
    settings = TrainingSettings(steps=2, forget_batch=12, retain_batch=12, learning_rate=0.05)
    # The forget rows on both sides, so that every row seen is one of them.
    examples = type(toy_sets.forget).from_rows(rows, toy_tokenizer)
    table = reference_log_likelihoods(toy_model, toy_tokenizer, rows)
    sets = TrainingSets(examples, reference_sums(table, examples), examples)

    def training() -> None:
        with edit(toy_model, {0: shift}):
            train(toy_model, {"v": shift.vector}, sets, settings, seed=1)

    def gated(hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        return torch.where(keep.unsqueeze(-1), hidden * 1.5, hidden)

    def generation() -> None:
        generate_greedy(toy_model, toy_tokenizer, prompts, max_new_tokens=1, batch_size=5)

    def gated_generation() -> None:
        with edit(toy_model, {1: gated}):
            generation()

    whole = {
        "training": seen_by(toy_model, training),
        "likelihood": seen_by(
            toy_model, lambda: list(passes(toy_model, toy_tokenizer, prompts, answers, batch_size=5))
        ),
    }
    alone = {
        "generation": seen_by(toy_model, generation),
        "gated": seen_by(toy_model, gated_generation),
    }
    # One token a word: <s> is 1, w4 is 4, and the answer ends with </s>, which is 2.
    words = [[int(word[1:]) for word in text.split()] for text in (*prompts, *answers)]
    heads, tails = words[: len(prompts)], words[len(prompts) :]
    assert alone["generation"] == alone["gated"] == {(1, *head) for head in heads}
    expected = {(1, *head, *tail, 2) for head, tail in zip(heads, tails, strict=True)}
    assert whole["training"] == whole["likelihood"] == expected
