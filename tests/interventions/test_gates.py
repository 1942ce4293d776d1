from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmie.activations.extract import extract_language
from mmie.activations.storage import load_rows
from mmie.errors import InputError
from mmie.interventions import FitData, build
from mmie.interventions.gate_fitting import stream_scores, text_scores
from mmie.interventions.gates import (
    Detector,
    Gate,
    State,
    calibrate,
    conformal_threshold,
    levels,
    opened,
    token_log_odds,
)
from mmie.interventions.sae_clamp import Clamp
from mmie.models.generation import generate_greedy
from mmie.models.hooks import Pass, capture, edit
from mmie.models.prompts import encode_all


def level_of(detector: Detector, scores: list[float], keep: list[int] | None = None) -> list[float]:
    row = torch.tensor([scores])
    mask = torch.ones_like(row, dtype=torch.bool) if keep is None else torch.tensor([keep]).bool()
    level, _ = levels(detector, State.fresh(1, detector.window, row.device), row, mask)
    return [round(value, 5) for value in level[0].tolist()]


def test_the_mean_counts_a_short_text_as_a_window_long() -> None:
    assert level_of(Detector("mean", 4), [1, 0, 1, 1, 1]) == [0.25, 0.25, 0.5, 0.75, 0.8]


def test_the_window_forgets_and_the_mean_does_not() -> None:
    assert level_of(Detector("window", 2), [1, 1, 0, 0, 1]) == [0.5, 1.0, 0.5, 0.0, 0.5]


def test_tokens_that_do_not_count_leave_every_statistic_where_it_was() -> None:
    scores, keep = [1.0, 9.0, 0.0, 9.0, 1.0], [1, 0, 1, 0, 1]
    assert level_of(Detector("window", 2), scores, keep) == [0.5, 0.5, 0.5, 0.5, 0.5]
    assert level_of(Detector("mean", 2), scores, keep) == [0.5, 0.5, 0.5, 0.5, 0.66667]
    assert level_of(Detector("cusum", drift=0.25), scores, keep) == [0.75, 0.75, 0.5, 0.5, 1.25]


def test_cusum_by_hand() -> None:
    # C = max(0, C + s - 0.5)
    assert level_of(Detector("cusum", drift=0.5), [1, 1, 0, 0, 0, 1]) == [0.5, 1.0, 0.5, 0.0, 0.0, 0.5]


def test_an_open_gate_closes_only_at_the_lower_threshold() -> None:
    detector = Detector("window", 1, high=0.8, low=0.3)
    level = torch.tensor([[0.5, 0.9, 0.5, 0.3, 0.5, 0.9]])
    assert opened(detector, torch.tensor([False]), level).tolist() == [[0, 1, 1, 0, 0, 1]]
    assert opened(detector, torch.tensor([True]), level).tolist() == [[1, 1, 1, 0, 0, 1]]


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["mean", "window", "cusum"]),
    st.lists(st.floats(0, 1, width=32), min_size=2, max_size=9),
    st.integers(1, 5),
    st.integers(0, 3),
    st.data(),
)
def test_token_by_token_equals_the_whole_text_and_padding_changes_nothing(
    statistic: str, scores: list[float], window: int, pads: int, data: st.DataObject
) -> None:
    detector = Detector(statistic, window, drift=0.4, high=0.31, low=0.12)
    whole = Gate(detector)
    whole.begin(Pass(0, None))
    expected = whole(torch.tensor([scores]), torch.ones(1, len(scores)).bool())[0].tolist()
    cut = data.draw(st.integers(1, len(scores)))
    parts, gate, past = [], Gate(detector), 0
    for part in ([0.9] * pads + scores[:cut], *([score] for score in scores[cut:])):
        keep = torch.ones(1, len(part)).bool()
        if past == 0:
            keep[0, :pads] = False
        gate.begin(Pass(past, None))
        parts += gate(torch.tensor([part]), keep)[0].tolist()
        past += len(part)
    assert parts[pads:] == expected
    assert not any(parts[:pads])


@settings(max_examples=30, deadline=None)
@given(st.integers(19, 60), st.floats(0.05, 0.5), st.integers(0, 1000))
def test_few_benign_items_exceed_the_conformal_threshold(count: int, rate: float, seed: int) -> None:
    benign = torch.rand(count, generator=torch.Generator().manual_seed(seed))
    threshold = conformal_threshold(benign, rate)
    assert float((benign > threshold.__float__()).double().mean()) <= rate
    assert threshold in benign.double().tolist()


def test_too_few_benign_items_cannot_calibrate() -> None:
    assert conformal_threshold(torch.arange(19.0), 0.05) == 18.0
    with pytest.raises(InputError, match=r"18 benign items.*at least 19 are needed"):
        conformal_threshold(torch.arange(18.0), 0.05)


def test_calibration_opens_on_forget_text_and_on_few_items_of_each_benign_language() -> None:
    generator = torch.Generator().manual_seed(0)

    def items(rate: float) -> list[Tensor]:
        return [(torch.rand(12, generator=generator) < rate).float() for _ in range(200)]

    for statistic in ("mean", "window", "cusum"):
        detector, opens = calibrate(
            statistic, {"hi": items(0.7)}, {"en": items(0.05), "bn": items(0.1)}, window=8, rate=0.05
        )
        assert opens["hi"] > 0.9
        assert opens["en"] <= 0.05 and opens["bn"] <= 0.05
        assert detector.low < detector.high


def decisions(detector: Detector, scores: list[float], *, steps: bool) -> list[bool]:
    """Where a gate is open over one text, read at once or token by token."""
    gate, found = Gate(detector), []
    parts = [[score] for score in scores] if steps else [scores]
    for past, part in enumerate(parts):
        gate.begin(Pass(past, None))
        found += gate(torch.tensor([part]), torch.ones(1, len(part)).bool())[0].tolist()
    return found


@pytest.mark.regression("SAE-12")
@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize(("statistic", "open_for"), [("window", 8), ("cusum", 1)])
def test_a_gate_that_benign_text_never_moves_opens_on_one_firing_and_closes_again(
    statistic: str, open_for: int, steps: bool
) -> None:
    # CUSUM's drift is half-way between 1 and 0, so its level is 0.5 at the firing token and 0 at the next.
    silent, firing = [torch.zeros(12)] * 40, [torch.ones(12)] * 40
    detector, opens = calibrate(statistic, {"hi": firing}, {"en": silent}, window=8, rate=0.05)
    assert (detector.high, detector.low) == (0.0, 0.0)
    assert opens == {"hi": 1.0, "en": 0.0}
    text = [0.0, 0.0, 1.0, *[0.0] * 20]
    assert decisions(detector, text, steps=steps) == [2 <= at < 2 + open_for for at in range(len(text))]
    assert not any(decisions(detector, [0.0] * 20, steps=steps))


def test_token_log_odds_by_hand() -> None:
    # Add-one: forget 4/6, 1/6, 1/6 and benign 1/6, 1/6, 4/6.
    odds = token_log_odds(torch.tensor([3.0, 0, 0]), torch.tensor([0.0, 0, 3]))
    assert odds.tolist() == pytest.approx([math.log(4), 0, -math.log(4)])


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(["mean", "window", "cusum"]),
    st.lists(st.tuples(st.integers(0, 1), st.booleans()), min_size=2, max_size=12),
    st.integers(1, 5),
    st.data(),
)
def test_a_text_with_tokens_that_do_not_count_is_decided_like_the_text_without_them(
    statistic: str, tokens: list[tuple[int, bool]], window: int, data: st.DataObject
) -> None:
    # Quarters are exact in binary: no two orders of summation differ.
    detector = Detector(statistic, window, drift=0.25, high=0.25, low=0.125)
    expected = decisions(detector, [float(score) for score, counts in tokens if counts] or [0.0], steps=False)
    gate, found, past = Gate(detector), [], 0
    cut = data.draw(st.integers(1, len(tokens)))
    for part in (tokens[:cut], *([token] for token in tokens[cut:])):
        gate.begin(Pass(past, None))
        keep = torch.tensor([[counts for _, counts in part]])
        found += gate(torch.tensor([[float(score) for score, _ in part]]), keep)[0].tolist()
        past += len(part)
    assert [where for where, (_, counts) in zip(found, tokens, strict=True) if counts] == expected[
        : sum(counts for _, counts in tokens)
    ]
    assert not any(where for where, (_, counts) in zip(found, tokens, strict=True) if not counts)


# ------------------------------------------------------------------------------- in a model


class Always:
    """An autoencoder stub whose only latent fires on every token."""

    latents = 1

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.new_ones(*x.shape[:-1], 1), torch.zeros(*x.shape[:-1], 1, dtype=torch.long)


def gated_edit(ids_that_trip: list[int]) -> tuple[Clamp, Gate]:
    odds = torch.zeros(64)
    odds[ids_that_trip] = 1.0
    gate = Gate(Detector("cusum", high=0.5, low=0.0), odds)
    sae: Any = Always()
    direction = torch.ones(1, 16)
    return Clamp(sae, torch.tensor([0]), direction, torch.tensor([0.5]), math.inf, gate), gate


def changed_positions(model: Any, ids: list[int], trip: list[int]) -> list[bool]:
    clamp, gate = gated_edit(trip)
    batch = torch.tensor([ids])
    with torch.no_grad(), capture(model, [1]) as plain:
        model(input_ids=batch)
    with torch.no_grad(), edit(model, {1: clamp}, on_pass=gate.begin), capture(model, [1]) as seen:
        model(input_ids=batch)
    found: list[bool] = (plain.hidden[1] != seen.hidden[1]).any(-1)[0].tolist()
    return found


@pytest.mark.regression("SAE-12")
def test_a_prompt_that_trips_the_gate_is_edited_before_the_first_generated_token(toy_model: Any) -> None:
    # The last prompt position decides the first generated token; it is edited.
    assert changed_positions(toy_model, [1, 5, 9, 6], trip=[9]) == [False, False, True, True]
    assert changed_positions(toy_model, [1, 5, 9, 6], trip=[40]) == [False] * 4


@pytest.mark.regression("SAE-12")
def test_text_that_turns_at_generated_token_three_is_edited_from_token_four(toy_model: Any) -> None:
    """The model is driven token by token; generated tokens 1 to 5 are 20, 21, 9, 22, 23, and 9 trips."""
    from transformers import DynamicCache

    clamp, gate = gated_edit([9])
    cache, logits = DynamicCache(config=toy_model.config), {}
    steps = [[1, 5, 6], [20], [21], [9], [22]]
    for name, edits in (("plain", None), ("gated", clamp)):
        cache, found, length = DynamicCache(config=toy_model.config), [], 0
        context = edit(toy_model, {1: edits or (lambda h, keep: h)}, on_pass=gate.begin)
        with torch.no_grad(), context:
            for step in steps:
                length += len(step)
                output = toy_model(
                    input_ids=torch.tensor([step]),
                    attention_mask=torch.ones(1, length, dtype=torch.long),
                    past_key_values=cache,
                    use_cache=True,
                )
                found.append(output.logits[0, -1])
        logits[name] = found
    same = [torch.equal(a, b) for a, b in zip(logits["plain"], logits["gated"], strict=True)]
    # Entry i decides generated token i + 1.
    assert same == [True, True, True, False, False]


@pytest.mark.regression("SAE-11")
@pytest.mark.parametrize("gate", ["dsg", "window", "cusum", "language"])
def test_likelihood_after_gated_generation_is_that_before(
    gate: str, toy_model: Any, toy_data: FitData, fitted: Any
) -> None:
    from mmie.training.reference import reference_log_likelihoods

    arm, rows = fitted("sae_clamp", gate=gate), toy_data.retain
    assert rows is not None
    plain = reference_log_likelihoods(toy_model, toy_data.tokenizer, rows)["nll_sum"].tolist()

    def nll(model: Any) -> list[float]:
        return reference_log_likelihoods(model, toy_data.tokenizer, rows)["nll_sum"].tolist()

    with arm.applied(toy_model) as changed:
        before = nll(changed)
        generate_greedy(changed, toy_data.tokenizer, ["w5 w6", "w9"], max_new_tokens=5, batch_size=2)
        assert nll(changed) == before
    assert nll(toy_model) == plain


@pytest.mark.regression("SAE-11")
def test_a_cache_of_another_request_is_refused_and_close_forgets() -> None:
    gate = Gate(Detector("mean", high=0.5, low=0.1))
    scores, keep = torch.ones(2, 1), torch.ones(2, 1).bool()
    gate.begin(Pass(3, None))
    with pytest.raises(InputError, match="3 cached tokens of another request"):
        gate(scores, keep)
    gate.begin(Pass(0, None))
    gate(scores, keep)
    gate.begin(Pass(1, None))
    with pytest.raises(InputError, match="another request"):
        gate(torch.ones(3, 1), torch.ones(3, 1).bool())
    gate.close()
    with pytest.raises(InputError, match="another request"):
        gate(scores, keep)


@pytest.mark.parametrize("gate", ["dsg", "cusum", "language"])
def test_a_gated_arm_edits_no_more_than_a_static_one(gate: str, toy_model: Any, fitted: Any) -> None:
    ids = torch.arange(1, 29)[None]
    hidden = {}
    for name in ("static", gate):
        with (
            torch.no_grad(),
            fitted("sae_clamp", gate=name).applied(toy_model),
            capture(toy_model, [1]) as seen,
        ):
            toy_model(input_ids=ids)
        hidden[name] = seen.hidden[1]
    with torch.no_grad(), capture(toy_model, [1]) as seen:
        toy_model(input_ids=ids)
    touched = {name: (value != seen.hidden[1]).any(-1) for name, value in hidden.items()}
    assert bool(touched["static"].any())
    assert not bool((touched[gate] & ~touched["static"]).any())


class Listening(Gate):
    """A gate that remembers the scores of the tokens that counted."""

    def __call__(self, scores: Tensor | None, keep: Tensor) -> Tensor:
        if self.log_odds is not None:
            assert self._ids is not None
            scores = self.log_odds[self._ids]
        assert scores is not None
        self.heard = scores[keep].tolist()
        return super().__call__(scores, keep)


@pytest.mark.parametrize("reads_text", [False, True])
def test_a_gate_is_calibrated_on_the_tokens_that_count_when_it_runs(
    reads_text: bool, tmp_path: Any, toy_model: Any, toy_tokenizer: Any, toy_rows: Any, toy_sae: Any
) -> None:
    rows = toy_rows("xx", count=20)
    # Unknown words are special tokens in the midst of a text.
    rows["prompt"] = [f"{prompt} unheard w9 unheard w50" for prompt in rows["prompt"]]
    extract_language(toy_model, toy_tokenizer, rows, tmp_path / "xx")
    chosen = torch.arange(0, 24, 3)
    norms = torch.cat([part for part, _ in load_rows(tmp_path, 1, ["xx"]).batches("xx", 99)]).norm(dim=1)
    gate = Listening(Detector("window", high=0.9, low=0.5), torch.randn(64) if reads_text else None)
    special = torch.tensor(toy_tokenizer.all_special_ids)
    # Half of all tokens count as sinks.
    clamp = Clamp(
        toy_sae, chosen, toy_sae.decoder_rows(chosen), torch.ones(8), float(norms.median()), gate, special
    )
    if gate.log_odds is not None:
        calibrated = text_scores(tmp_path, "xx", "fit", gate.log_odds)
    else:
        calibrated = stream_scores(tmp_path, 1, "xx", "fit", clamp.reads)
    encoded = encode_all(toy_tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
    heard = []
    for item in encoded:
        with torch.no_grad(), edit(toy_model, {1: clamp}, on_pass=clamp.begin):
            toy_model(input_ids=torch.tensor([item.ids]))
        heard.append(gate.heard)
    assert [scores.tolist() for scores in calibrated] == [scores for scores in heard if scores]
    assert sum(map(len, heard)) < sum(len(item.ids) - 4 for item in encoded) + reads_text


def test_special_tokens_in_a_text_are_never_edited(toy_model: Any, toy_data: FitData, fitted: Any) -> None:
    arm, ids = fitted("sae_clamp"), torch.tensor([[1, 5, 2, 9, 3, 12, 2, 20, 3, 7]])
    assert arm.fitted.facts["special_ids"] == sorted(toy_data.tokenizer.all_special_ids) == [0, 1, 2, 3]

    def touched() -> list[int]:
        with torch.no_grad(), capture(toy_model, [1]) as plain:
            toy_model(input_ids=ids)
        with torch.no_grad(), arm.applied(toy_model), capture(toy_model, [1]) as seen:
            toy_model(input_ids=ids)
        tokens: list[int] = ids[(plain.hidden[1] != seen.hidden[1]).any(-1)].tolist()
        return tokens

    assert touched() == [9, 7]
    arm.fitted.facts["special_ids"] += [9]
    assert touched() == [7]


def test_sinks_are_those_of_the_activation_stage(toy_activations: Any, fitted: Any) -> None:
    from mmie.io import read_json

    factor = read_json(toy_activations / "yy" / "extraction.json")["sink_factor"]
    assert fitted("sae_clamp").fitted.facts["layers"]["1"]["largest_norm"] == pytest.approx(factor * 0.1)


def test_the_rates_at_which_a_gate_opens_are_saved_with_the_arm(fitted: Any) -> None:
    facts = fitted("sae_clamp", gate="language", benign_rate=0.1).fitted.facts["layers"]["1"]["gate"]
    assert set(facts["opens"]) == {"xx", "xx_Latn", "yy", "zz"}
    assert facts["opens"]["yy"] <= 0.1 and facts["opens"]["zz"] <= 0.1


def test_gates_need_activations_and_a_name(toy_model: Any, toy_data: FitData) -> None:
    from dataclasses import replace

    with pytest.raises(InputError, match=r"gate 'dgs'.*static, dsg, window, cusum, language"):
        build({"kind": "sae_clamp", "gate": "dgs"})
    arm = build({"kind": "sae_clamp", "gate": "dsg", "features": 3})
    with pytest.raises(InputError, match="stored activations of the retain languages"):
        arm.fit(toy_model, replace(toy_data, activations=None), seed=1)
    with pytest.raises(InputError, match="gate 'dsg' needs forget languages"):
        arm.fit(toy_model, replace(toy_data, forget_languages=()), seed=1)
