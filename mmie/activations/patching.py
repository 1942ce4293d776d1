"""What the state at the last prompt token carries: states of matched prompts, patched across languages.

One declared position of the prompt pass is overwritten. What that does by itself is told by the controls:
the item's own state, the state of an unrelated item, the same patch at another layer, and random patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mmie.activations.causal import CausalOptions, answer_nll, beyond_chance, encode_items, random_unit
from mmie.io import seed_from
from mmie.models.blocks import input_device
from mmie.models.hooks import capture, edit
from mmie.models.prompts import Encoded, collate, encode_all, padding_id
from mmie.training.forward import batch_nll

BATCH = 64
COLUMNS = ("prompt", "answer", "other_prompt", "other_answer", "source_prompt", "unrelated_prompt")


def match_pairs(
    rows: pd.DataFrame, forget: Sequence[str], retain: Sequence[str], count: int, seed: int = 0
) -> pd.DataFrame:
    """Pairs of direct DEV questions of one template whose answers differ; each fact is asked at most once.

    Languages take turns. Nothing is paired where languages have no `example_id` in common, or a template
    fewer than three answers.

    Args:
        rows: of the data stage, all languages.
        forget: languages of the patched prompt (B).
        retain: languages of the prompt that the state comes from (A).
        count: the most pairs.
        seed: decides facts and partners.

    Returns:
        One row a pair: `prompt`, `answer` (item i in B), `other_prompt`, `other_answer` (item j in B),
        `source_prompt` (item j in A), `unrelated_prompt` (a third item of the template in A).
    """
    known = rows[(rows["split"] == "dev") & (rows["kind"] == "direct")]
    known = known[known["template_split"] == "trained"]
    joined = [_joined(known, target, source) for source in retain for target in forget]
    rng = np.random.default_rng(seed_from("matched pairs", seed))
    facts = rng.permutation(sorted({fact for table in joined for fact in table["fact_id"]}))
    pairs: list[dict[str, str]] = []
    for fact in facts:
        if len(pairs) >= count:
            break
        turn = len(pairs) % len(joined)
        for table in (*joined[turn:], *joined[:turn]):
            own = table[table["fact_id"] == fact]
            pair = _pair(own.iloc[int(rng.integers(len(own)))], table, rng) if len(own) else None
            if pair:
                pairs.append(pair)
                break
    return pd.DataFrame(pairs, columns=list(COLUMNS))


def patching_effect(
    model: nn.Module,
    tokenizer: Any,
    pairs: pd.DataFrame,
    layer: int,
    *,
    options: CausalOptions,
    other_layer: int | None = None,
) -> pd.DataFrame:
    """Share of the way from one answer to the other that the source's state alone takes the model.

    The outcome of a pair is m = log p(answer j) - log p(answer i), in nats. The source's state, read at the
    last prompt token of item j in language A, is put in the place of the target's, item i in language B:

        effect = mean(m_patched - m_target) / mean(m_source - m_target),

    where m_source is the outcome after the prompt of j in B. 0: the patch does nothing; 1: as much as asking
    the other question.

    Controls: `self` (the target's own state; 0 up to rounding), `unrelated` (a third item's state),
    `other_layer` (the source's state at that layer, put there) and `control` (the target's state moved in a
    random direction as far as the patch moves it).

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        pairs: of `match_pairs`.
        layer: whose output is patched.
        options: sizes and seed.
        other_layer: None for no such control.

    Returns:
        One row an edit: `layer` (where it was made), `edit` ("patch" or a control), `draw`, `effect` with
        `low` and `high` (95 % interval over pairs; all NaN where the denominator's interval includes 0),
        `nats` (mean of m_patched - m_target), `denominator`, `denominator_low` and `denominator_high`
        (nats), `items`.

    Raises:
        InputError: fewer pairs than `options.minimum_items`.

    Source: Zhang and Nanda 2023 (arXiv 2309.16042); across languages: arXiv 2411.08745.
    """
    places = [layer] if other_layer is None else [layer, other_layer]
    target, source, unrelated = (
        _last_prompt_states(model, tokenizer, pairs[name].tolist(), places)
        for name in ("prompt", "source_prompt", "unrelated_prompt")
    )
    answers = _Answers(model, tokenizer, pairs, options)
    base = answers.contrast()
    asked = _Answers(model, tokenizer, pairs.assign(prompt=pairs["other_prompt"]), options).contrast()
    edits = [
        ("patch", 0, layer, source[layer]),
        ("self", 0, layer, target[layer]),
        ("unrelated", 0, layer, unrelated[layer]),
    ]
    if other_layer is not None:
        edits.append(("other_layer", 0, other_layer, source[other_layer]))
    size = (source[layer] - target[layer]).norm(dim=-1, keepdim=True)
    for draw in range(options.controls):
        unit = random_unit(target[layer].shape[1], "patch control", options.seed, layer, draw)
        edits.append(("control", draw, layer, target[layer] + size * unit))
    rises = [
        (name, draw, place, (answers.contrast(place, states) - base).numpy())
        for name, draw, place, states in edits
    ]
    return _table(rises, (asked - base).numpy(), options)


def patch_layers(
    model: nn.Module,
    tokenizer: Any,
    pairs: pd.DataFrame,
    layers: Sequence[int],
    other_layers: Sequence[int],
    options: CausalOptions,
) -> dict[str, Any]:
    """Patch every layer in turn, for `causal.json`.

    Args:
        model: the base model.
        tokenizer: its tokenizer.
        pairs: of `match_pairs`.
        layers: the selected ones.
        other_layers: a random choice of as many; empty where there is none.
        options: sizes and seed.

    Returns:
        `pairs`; with too few of them `reason`; else `denominator` (mean of m_source - m_target, nats, with
        its interval) and `layers`: the row of the patch in `patching_effect`, those of its `controls`, the
        `largest_random` effect, and whether the patch is `beyond_random`: above the 95th percentile.
    """
    if pairs.empty:
        return {"pairs": 0, "reason": "layers.pairs is 0, or no questions of two languages match"}
    if len(pairs) < options.minimum_items:
        return {
            "pairs": len(pairs),
            "reason": f"at least {options.minimum_items} matched pairs of DEV questions are needed",
        }
    tables = {}
    for at, layer in enumerate(sorted(layers)):
        # A random choice may share layers with the selected one.
        elsewhere = other_layers[at] if other_layers and other_layers[at] not in layers else None
        tables[layer] = patching_effect(
            model, tokenizer, pairs, layer, options=options, other_layer=elsewhere
        )
    first = next(iter(tables.values())).iloc[0]
    denominator = [float(first[f"denominator{end}"]) for end in ("", "_low", "_high")]
    return {
        "pairs": len(pairs),
        "denominator": dict(zip(("nats", "low", "high"), denominator, strict=True)),
        "layers": {str(layer): _described(table) for layer, table in tables.items()},
    }


def _described(table: pd.DataFrame) -> dict[str, Any]:
    edits: dict[str, dict[str, Any]] = {
        row["edit"]: {name: row[name] for name in ("layer", "effect", "low", "high", "nats")}
        for row in table[table["edit"] != "control"].to_dict("records")
    }
    random = table.loc[table["edit"] == "control", "effect"]
    return {
        **edits.pop("patch"),
        "controls": edits,
        "largest_random": float(random.max()),
        "beyond_random": beyond_chance(table) > 0 if random.notna().all() else None,
    }


def _joined(known: pd.DataFrame, target: str, source: str) -> pd.DataFrame:
    """Questions that both languages have, with the prompt in the source's beside."""
    asked = known.loc[known["language"] == source, ["example_id", "prompt"]]
    return (
        known[known["language"] == target]
        .merge(asked.rename(columns={"prompt": "source_prompt"}), on="example_id")
        .sort_values("example_id", ignore_index=True)
    )


def _pair(item: pd.Series, table: pd.DataFrame, rng: np.random.Generator) -> dict[str, str] | None:
    """The item with two others of its template; None where the template has too few answers."""
    others = table[(table["template_id"] == item["template_id"]) & (table["answer"] != item["answer"])]
    if others["answer"].nunique() < 2:
        return None
    other = others.iloc[int(rng.integers(len(others)))]
    third = others[others["answer"] != other["answer"]]
    unrelated = third.iloc[int(rng.integers(len(third)))]
    found = (item["prompt"], item["answer"], other["prompt"], other["answer"], other["source_prompt"],
             unrelated["source_prompt"])  # fmt: skip
    return dict(zip(COLUMNS, found, strict=True))


class _Answers:
    """Both answers of every pair after the target's prompt."""

    def __init__(self, model: nn.Module, tokenizer: Any, pairs: pd.DataFrame, options: CausalOptions) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.own = encode_items(tokenizer, pairs, options)
        self.other = encode_items(tokenizer, pairs.assign(answer=pairs["other_answer"]), options)

    def contrast(self, layer: int | None = None, states: Tensor | None = None) -> Tensor:
        """log p(other answer) - log p(own answer) of each pair, nats, with `states` patched at `layer`."""
        own, other = (
            answer_nll(self.model, self.tokenizer, encoded)
            if layer is None or states is None
            else _patched_nll(self.model, self.tokenizer, encoded, layer, states)
            for encoded in (self.own, self.other)
        )
        return own - other


@torch.no_grad()
def _last_prompt_states(
    model: nn.Module, tokenizer: Any, prompts: Sequence[str], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Output of each block at the last prompt token, [prompts, width] fp32 on the CPU."""
    device = input_device(model)
    states: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    encoded = encode_all(tokenizer, prompts, [None] * len(prompts))
    for start in range(0, len(encoded), BATCH):
        batch = collate(encoded[start : start + BATCH], padding_id(tokenizer), side="left").to(device)
        with capture(model, layers) as seen:
            model(**batch.inputs(), use_cache=False)
        for layer in states:
            states[layer].append(seen.hidden[layer][:, -1].float().cpu())
    return {layer: torch.cat(parts) for layer, parts in states.items()}


@torch.no_grad()
def _patched_nll(
    model: nn.Module, tokenizer: Any, encoded: Sequence[Encoded], layer: int, patch: Tensor
) -> Tensor:
    """NLL of each answer with the last prompt token's state replaced by a row of `patch`."""
    sums = []
    for start in range(0, len(encoded), BATCH):
        batch = collate(encoded[start : start + BATCH], padding_id(tokenizer), side="left")
        place = batch.answer_mask.int().argmax(1) - 1
        here = functional.one_hot(place, batch.input_ids.shape[1]).bool()
        rows = patch[start : start + BATCH]

        def put(hidden: Tensor, keep: Tensor, here: Tensor = here, rows: Tensor = rows) -> Tensor:
            new = rows[:, None].to(hidden).expand_as(hidden)
            return torch.where(here.to(hidden.device)[..., None], new, hidden)

        with edit(model, {layer: put}):
            sums.append(batch_nll(model, batch)[0].double().cpu())
    return torch.cat(sums)


def _table(
    rises: Sequence[tuple[str, int, int, NDArray[np.float64]]],
    spans: NDArray[np.float64],
    options: CausalOptions,
) -> pd.DataFrame:
    rng = np.random.default_rng(seed_from("causal interval", options.seed))
    draws = rng.integers(len(spans), size=(options.resamples, len(spans)))
    drawn = spans[draws].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    defined = bool(low > 0 or high < 0)
    rows = []
    for name, draw, layer, rise in rises:
        ends = np.quantile(rise[draws].mean(1) / drawn, [0.025, 0.975]) if defined else (np.nan, np.nan)
        rows.append(
            {
                "layer": layer,
                "edit": name,
                "draw": draw,
                "effect": float(rise.mean() / spans.mean()) if defined else np.nan,
                "low": float(ends[0]),
                "high": float(ends[1]),
                "nats": float(rise.mean()),
                "denominator": float(spans.mean()),
                "denominator_low": float(low),
                "denominator_high": float(high),
                "items": len(spans),
            }
        )
    return pd.DataFrame(rows)
