from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.activations.storage import ActivationStore
from mmie.sae.quality import loss_recovered, measure_loss_recovered, measure_quality
from mmie.sae.topk import TopKSAE

Writer = Callable[..., ActivationStore]


class Stub(TopKSAE):
    """An autoencoder whose reconstruction is given; every row fires latent 0 with code 1."""

    def __init__(self, width: int, rebuild: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(width, 4, 1)
        self.rebuild = rebuild

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen = x
        return torch.ones(len(x), 1), torch.zeros(len(x), 1, dtype=torch.long)

    def decode(self, values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return self.rebuild(self.seen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rebuild(x)


@pytest.fixture
def rows() -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(5000, 6)) + 2).astype(np.float32)


@pytest.mark.regression("SAE-04")
def test_unexplained_variance_of_mean_zero_exact_and_shifted_predictions(
    write_store: Writer, rows: np.ndarray
) -> None:
    store = write_store({"hi": rows})
    x = torch.from_numpy(rows).double()
    mean = x.mean(0)
    total = float((x - mean).square().sum())
    count, width = rows.shape

    def fvu(rebuild: Callable[[torch.Tensor], torch.Tensor]) -> float:
        return float(measure_quality(Stub(width, rebuild), store)["pooled"]["fvu"])

    assert fvu(lambda x: mean.expand_as(x)) == pytest.approx(1, abs=1e-9)
    zero = 1 + count * float(mean.square().sum()) / total
    assert fvu(torch.zeros_like) == pytest.approx(zero, abs=1e-6)
    assert fvu(lambda x: x) == 0
    assert fvu(lambda x: x.double() + 1) == pytest.approx(count * width / total, abs=1e-6)


@pytest.mark.regression("SAE-04")
def test_an_exact_dictionary_has_fvu_zero_and_l0_k(write_store: Writer) -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((400, 8), dtype=np.float32)
    for row in x:
        row[rng.choice(8, 2, replace=False)] = rng.uniform(1, 2, 2)
    sae = TopKSAE(8, 8, 2)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(8))
        sae.w_dec.copy_(torch.eye(8))
    found = measure_quality(sae, write_store({"hi": x[:200], "en": x[200:]}))
    assert found["pooled"]["fvu"] == 0
    assert found["pooled"]["l0"] == 2
    assert found["pooled"]["dead_share"] == 0
    assert found["pooled"]["shrinkage"] == 1
    assert found["pooled"]["rows"] == 400
    assert found["languages"]["hi"]["rows"] == 200


def test_l0_counts_firing_latents_not_k(write_store: Writer) -> None:
    sae = TopKSAE(2, 4, 2)
    with torch.no_grad():
        sae.w_enc[0, 0] = 1
        sae.w_dec[0, 0] = 1
        sae.b_enc[1:] = -1
    found = measure_quality(sae, write_store({"hi": np.array([[1, 0], [2, 5], [-1, 3]], np.float32)}))
    assert found["pooled"]["l0"] == pytest.approx(2 / 3)
    assert found["pooled"]["dead_share"] == 0.75
    assert found["pooled"]["dense_share"] == 0.25


@pytest.mark.regression("SAE-21")
def test_names_say_what_is_counted(write_store: Writer) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    wide = TopKSAE(2, 24_576, 32)
    with torch.no_grad():
        wide.b_enc += 1
    found = measure_quality(wide, write_store({"hi": rows}))["pooled"]
    assert found["l0"] == 32
    assert found["active_share"] == pytest.approx(0.0013021, abs=1e-7)
    everywhere = TopKSAE(2, 4, 4)
    with torch.no_grad():
        everywhere.b_enc += 1
    found = measure_quality(everywhere, write_store({"hi": rows}))["pooled"]
    assert found["active_share"] == 1
    assert found["dense_share"] == 1


def test_a_language_far_worse_than_the_pool_supports_no_claim(write_store: Writer, rows: np.ndarray) -> None:
    hindi = rows[:300].copy()
    hindi[:, 0] += 100
    store = write_store({"en": rows, "hi": hindi})

    def rebuild(x: torch.Tensor) -> torch.Tensor:
        constant = torch.tensor([102.0, 2, 2, 2, 2, 2])
        return torch.where(x[:, :1] > 50, constant, 0.5 * x + 1)

    found = measure_quality(Stub(6, rebuild), store)
    assert found["languages"]["en"]["supported"]
    assert not found["languages"]["hi"]["supported"]
    # Half of each distance from the mean remains in English, all of it in Hindi.
    expected = (0.25 * 5000 + 300) / 5300
    assert found["pooled"]["fvu_within"] == pytest.approx(expected, abs=0.01)
    assert found["pooled"]["fvu"] < 0.1


def test_loss_recovered_by_hand() -> None:
    assert loss_recovered(3, 3.2, 10) == pytest.approx(0.97143, abs=1e-5)
    assert loss_recovered(3, 3, 10) == 1
    assert loss_recovered(3, 10, 10) == 0
    assert math.isnan(loss_recovered(3, 3.1, 3.005))


def test_the_identity_recovers_all_and_zero_nothing(
    tiny_model: tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame],
) -> None:
    model, tokenizer, table = tiny_model
    rows = {"hi": table, "en": table.iloc[:2]}
    same = measure_loss_recovered(model, tokenizer, rows, Stub(16, lambda x: x), 0)
    nothing = measure_loss_recovered(model, tokenizer, rows, Stub(16, torch.zeros_like), 0)
    assert set(same) == {"hi", "en", "pooled"}
    assert same["pooled"]["loss_sae"] == same["pooled"]["loss_base"]
    assert nothing["pooled"]["loss_sae"] == nothing["pooled"]["loss_zero"]
    assert nothing["pooled"]["loss_zero"] != nothing["pooled"]["loss_base"]
    tight = measure_loss_recovered(model, tokenizer, rows, Stub(16, torch.zeros_like), 0, norm_limit=0.0)
    assert tight["pooled"]["loss_zero"] == tight["pooled"]["loss_base"]


def test_loss_does_not_depend_on_batching(
    tiny_model: tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame],
) -> None:
    model, tokenizer, table = tiny_model
    sae = Stub(16, lambda x: 0.5 * x)
    together = measure_loss_recovered(model, tokenizer, {"hi": table}, sae, 1)
    alone = measure_loss_recovered(model, tokenizer, {"hi": table}, sae, 1, token_budget=1)
    for name, value in together["hi"].items():
        assert value == pytest.approx(alone["hi"][name], abs=1e-5, nan_ok=True)
