from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from mmie.models.hooks import capture
from mmie.sae.gibberish import scramble, statistics_of_texts
from mmie.sae.topk import TopKSAE

TEXTS = ["क्या भारत की मुद्रा रुपया है?", "दिल्ली किस देश में है?"]


def test_scrambled_text_keeps_its_letters_and_loses_its_words() -> None:
    found = scramble(TEXTS, seed=0)
    assert Counter("".join(found)) == Counter("".join(TEXTS))
    assert [text.count(" ") for text in found] == [text.count(" ") for text in TEXTS]
    assert all(text.endswith("?") for text in found)
    # Words of one or two letters may come about by chance.
    words = {word for word in " ".join(TEXTS).split() if len(word) > 4}
    assert len(words) == 3 and not words & set(" ".join(found).split())


def test_marks_stay_on_letters() -> None:
    assert not any(word[0] in "ािीुेैोौ्ं" for text in scramble(TEXTS, seed=1) for word in text.split())


def test_another_seed_deals_otherwise() -> None:
    assert scramble(TEXTS, 0) == scramble(TEXTS, 0) != scramble(TEXTS, 1)


def test_statistics_of_texts_are_those_of_their_activations(
    tiny_model: tuple[LlamaForCausalLM, PreTrainedTokenizerFast, pd.DataFrame],
) -> None:
    model, tokenizer, _ = tiny_model
    sae = TopKSAE(16, 24, 4)
    sae.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    sae.requires_grad_(False)
    # The shorter text comes first in the passes of the model; one item more than a pass holds.
    texts = ["w1 w2 w3", "w4", "w5 w6 w7"]
    found = statistics_of_texts(model, tokenizer, {"hi": texts}, {1: sae}, token_budget=8)[1]["hi"]
    bos = tokenizer.bos_token_id
    means, rates = [], []
    for text in texts:
        ids = torch.tensor([[bos, *tokenizer(text, add_special_tokens=False)["input_ids"]]])
        with capture(model, [1]) as seen, torch.no_grad():
            model(input_ids=ids)
        # The first token is a sink and BOS.
        codes = sae.codes(seen.hidden[1][0, 1:])
        means.append(codes.mean(0).double())
        rates.append((codes > 0).double().mean(0))
    items = torch.stack(means)
    assert found.mean == pytest.approx(items.mean(0).numpy(), abs=1e-5)
    assert found.variance == pytest.approx(items.var(0).numpy(), rel=1e-5)
    assert found.rate == pytest.approx(torch.stack(rates).mean(0).numpy(), abs=1e-9)
    assert found.halves == ()
