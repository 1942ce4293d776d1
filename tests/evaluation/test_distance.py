import math

import pytest
import torch

from mmie.errors import InputError
from mmie.evaluation.distance import base_distribution, kl_scores
from mmie.metrics.divergence import kl_from_base


@pytest.mark.regression("EVA-12")
def test_base_against_itself_is_zero_by_construction(toy_model, toy_tokenizer, facts) -> None:
    rows = facts()
    base = base_distribution(toy_model, toy_tokenizer, rows, batch_size=4)
    scores = kl_scores(toy_model, toy_tokenizer, rows, base, batch_size=4)
    measured = [value for value in scores if not math.isnan(value)]
    assert measured == pytest.approx([0.0] * 12, abs=1e-6)


@pytest.mark.regression("EVA-11")
def test_divergence_equals_the_formula_on_one_row_without_padding(toy_model, toy_tokenizer, facts) -> None:
    rows = facts()
    before = toy_model.lm_head.weight.detach().clone()

    def logits(row) -> torch.Tensor:
        words = [int(word[1:]) for word in f"{row.prompt} {row.answer}".split()]
        with torch.no_grad():
            return toy_model(torch.tensor([[1, *words, 2]])).logits[:, len(row.prompt.split()) : -1]

    base = base_distribution(toy_model, toy_tokenizer, rows, batch_size=4, top=64)
    of_base = [logits(row) for row in rows.itertuples()]
    with torch.no_grad():
        toy_model.model.layers[0].mlp.up_proj.weight.mul_(40.0)
    scores = kl_scores(toy_model, toy_tokenizer, rows, base, batch_size=4)
    for place, row in enumerate(rows.itertuples()):
        if row.split == "test":
            now = logits(row)
            mask = torch.ones(now.shape[:2], dtype=torch.bool)
            expected = kl_from_base(now, of_base[place], mask).item()
            assert expected > 1e-6
            assert scores[place] == pytest.approx(expected, rel=1e-3, abs=1e-6)
        else:
            assert math.isnan(scores[place])
    assert torch.equal(before, toy_model.lm_head.weight)


def test_base_asked_about_other_rows_is_refused(toy_model, toy_tokenizer, facts) -> None:
    base = base_distribution(toy_model, toy_tokenizer, facts(), batch_size=4)
    with pytest.raises(InputError, match="other rows"):
        kl_scores(toy_model, toy_tokenizer, facts(count=5), base, batch_size=4)
