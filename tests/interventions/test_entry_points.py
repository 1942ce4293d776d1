"""Every kind of arm through what measures it, and equal treatment of every prompt set."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from mmie.errors import InputError
from mmie.interventions import KINDS, FitData
from mmie.interventions.lora import target_modules
from mmie.interventions.sae_clamp import Clamp
from mmie.models.generation import generate_greedy
from mmie.training.reference import reference_log_likelihoods


def measure(model: Any, data: FitData, rows: pd.DataFrame) -> tuple[list[str], list[float]]:
    """The two ways in which a model is measured: what it writes, and what it gives to an answer."""
    texts = generate_greedy(model, data.tokenizer, rows["prompt"].tolist(), max_new_tokens=4, batch_size=5)
    return texts, reference_log_likelihoods(model, data.tokenizer, rows)["nll_sum"].tolist()


@pytest.mark.regression("SAE-25")
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_can_be_measured(kind: str, talkative: Any, toy_data: FitData, fitted: Any) -> None:
    assert toy_data.forget is not None
    plain = measure(talkative, toy_data, toy_data.forget)
    with fitted(kind).applied(talkative) as changed:
        texts, nll = measure(changed, toy_data, toy_data.forget)
    assert len(texts) == len(nll) == len(toy_data.forget)
    assert all(torch.isfinite(torch.tensor(nll)))
    assert (nll == plain[1]) == (kind == "none")
    assert measure(talkative, toy_data, toy_data.forget) == plain


@pytest.mark.regression("SAE-13")
def test_the_same_edit_is_in_force_for_every_prompt_set_and_metric(
    talkative: Any, toy_data: FitData, fitted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toy_data.forget is not None and toy_data.retain is not None
    calls: list[str] = []
    original = Clamp.__call__

    def logged(self: Clamp, hidden: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        calls.append(now)
        return original(self, hidden, keep)

    monkeypatch.setattr(Clamp, "__call__", logged)
    now = "outside"
    with fitted("sae_clamp").applied(talkative) as changed:
        for name, rows in (("forget", toy_data.forget), ("retain", toy_data.retain)):
            rows = rows.head(12)
            now = f"{name}, generation"
            generate_greedy(
                changed, toy_data.tokenizer, rows["prompt"].tolist(), max_new_tokens=3, batch_size=12
            )
            now = f"{name}, likelihood"
            reference_log_likelihoods(changed, toy_data.tokenizer, rows)
    counts = pd.Series(calls).value_counts().to_dict()
    # Three passes to generate three tokens, one to score; one edited layer.
    assert counts == {
        "forget, generation": 3,
        "retain, generation": 3,
        "forget, likelihood": 1,
        "retain, likelihood": 1,
    }


@pytest.mark.regression("ACT-19")
def test_llama_target_names_on_gpt2_are_an_error_and_on_llama_train_adapters_only(
    toy_model: Any, fitted: Any
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2))
    with pytest.raises(InputError, match=r"no linear layer named \['k_proj', 'q_proj'\]"):
        target_modules(gpt2, [0], ["q_proj", "k_proj"])
    arm = fitted("lora")
    assert all(".lora_A." in name or ".lora_B." in name for name in arm.fitted.tensors)
    # Two blocks, seven targets, two matrices each: every match is counted.
    assert len(arm.fitted.tensors) == 2 * 7 * 2
