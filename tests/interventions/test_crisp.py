from __future__ import annotations

from typing import Any

import pytest
import torch

from mmie.errors import InputError
from mmie.interventions.crisp import Silenced, SilenceTerm, StreamTerm
from mmie.interventions.interface import FitData
from mmie.interventions.lora import adapted, target_modules
from mmie.interventions.registry import build
from mmie.models.hooks import capture
from mmie.sae.topk import TopKSAE
from mmie.training.batches import Examples


def coordinates(k: int) -> TopKSAE:
    """An autoencoder whose four latents read the four coordinates of the stream."""
    sae = TopKSAE(4, 4, k)
    with torch.no_grad():
        sae.w_enc.copy_(torch.eye(4))
        sae.w_dec.copy_(torch.eye(4))
    sae.requires_grad_(False)
    return sae


def test_the_activity_is_the_hand_value() -> None:
    silenced = Silenced(coordinates(2), torch.tensor([0, 3]))
    base = torch.tensor([[5.0, 1.0, 0.0, 4.0], [0.0, 3.0, 2.0, 1.0]])
    stream = torch.tensor([[-1.0, 2.0, 3.0, 4.0], [3.0, 0.0, 5.0, 4.0]])
    # Token 0: both fired in the base. The mean pre-activation is 2, the margin 0.5 * 2 = 1:
    # relu(-1 + 1) = 0 and relu(4 + 1) = 5. Token 1: neither fired; now the two largest are 5 and 4, so the
    # codes are 0 (3 is the third largest) and 4.
    assert silenced.activity(stream, base, 0.5).tolist() == [2.5, 2.0]
    assert silenced.activity(stream, base, 0.0).tolist() == [2.0, 2.0]


def test_the_margin_is_positive_where_the_mean_is_negative_and_carries_no_gradient() -> None:
    silenced = Silenced(coordinates(1), torch.tensor([0]))
    base = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    stream = torch.tensor([[-1.0, -3.0, 0.0, 0.0]], requires_grad=True)
    activity = silenced.activity(stream, base, 3.0)
    assert activity.tolist() == [2.0]
    activity.sum().backward()
    assert stream.grad is not None
    assert stream.grad.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def parts(model: Any, data: FitData, sae: TopKSAE) -> tuple[Examples, dict[int, Silenced]]:
    assert data.forget is not None
    rows = data.forget.copy()
    rows.loc[0, "prompt"] = "w4 w5 w6 w7 w8 w9"
    return Examples.from_rows(rows, data.tokenizer), {1: Silenced(sae, torch.tensor([5, 2, 7]))}


def test_the_forget_term_counts_real_tokens_but_the_first(
    toy_model: Any, toy_data: FitData, toy_sae: TopKSAE
) -> None:
    examples, silenced = parts(toy_model, toy_data, toy_sae)
    term = SilenceTerm(toy_model, examples, silenced, 0.0)
    sums, _ = term.sums([0, 1, 2])
    alone = [term.sums([row])[0] for row in (0, 1, 2)]
    assert torch.allclose(sums, torch.cat(alone), rtol=1e-5)
    for row in (0, 1):
        ids = torch.tensor([examples.encoded[row].ids])
        with torch.no_grad(), capture(toy_model, [1]) as seen:
            toy_model(input_ids=ids)
        codes = toy_sae.codes(seen.hidden[1][0, 1:])[:, [5, 2, 7]]
        # Nothing is attached, so arm and base fire alike and without a lift the codes themselves count.
        assert sums[row].item() == pytest.approx(float(codes.mean(-1).sum()), rel=1e-5)
        assert term.count([row]) == ids.shape[1] - 1


def test_the_retain_term_is_the_distance_of_both_streams(toy_model: Any, toy_data: FitData) -> None:
    assert toy_data.retain is not None
    examples = Examples.from_rows(toy_data.retain.head(2), toy_data.tokenizer)
    modules = target_modules(toy_model, [0], ["down_proj"])
    arm = build({"kind": "crisp", "rank": 2, "targets": ["down_proj"], "layers": [0]})
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator)
        for name, shape in arm._shapes({"modules": modules}).items()
    }
    ids = torch.tensor([examples.encoded[0].ids])
    with capture(toy_model, [0, 1]) as seen, torch.no_grad():
        toy_model(input_ids=ids)
    before = {layer: value[0, 1:] for layer, value in seen.hidden.items()}
    with adapted(toy_model, arm._peft_config(sorted(modules)), tensors) as (wrapped, _):
        with capture(wrapped, [0, 1]) as seen, torch.no_grad():
            wrapped(input_ids=ids)
        apart = {
            layer: float((value[0, 1:] - before[layer]).square().mean(-1).sum())
            for layer, value in seen.hidden.items()
        }
        term = StreamTerm(wrapped, examples, [0], 0.25)
        value = term.sums([0])[0].item()
    assert apart[0] > 0
    assert value == pytest.approx(apart[0] + 0.25 * apart[1], rel=1e-4)


def test_picked_latents_fall_silent_on_forget_text_and_the_rest_stays(
    toy_model: Any, toy_data: FitData, toy_sae: TopKSAE
) -> None:
    options = {"steps": 60, "learning_rate": 0.01, "batch": 12}
    arm = build({"kind": "crisp", "features": 3, "retain_share": 0.5, "lift": 1.0, "training": options})
    arm.fit(toy_model, toy_data, seed=1)
    examples, silenced = parts(toy_model, toy_data, toy_sae)
    rows = list(range(1, 12))
    before = float(SilenceTerm(toy_model, examples, silenced, 0.0).sums(rows)[0].sum())
    with arm.applied(toy_model) as changed:
        after = float(SilenceTerm(changed, examples, silenced, 0.0).sums(rows)[0].sum())
    assert before > 0
    assert after < 0.3 * before
    assert arm.history is not None
    assert arm.history["retain_loss"].iloc[-1] < arm.history["retain_loss"].max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": 0}, "at least 1 feature"),
        ({"picker": "best"}, "picker 'best'"),
        ({"retain_share": 1.0}, "retain_share must be between 0 and 1"),
    ],
)
def test_what_has_no_meaning_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build({"kind": "crisp", **options})


def test_without_an_autoencoder_the_message_names_the_stage(toy_model: Any, toy_data: FitData) -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match="Run the sae stage"):
        build({"kind": "crisp"}).fit(toy_model, replace(toy_data, sae=None), seed=1)
