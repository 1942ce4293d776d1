"""The nano models: small Llamas that know the Atlas, and oracles that never read one of its languages."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mmie.errors import InputError
from mmie.io import atomic_directory, read_json, seed_from, stable_hash, write_json
from mmie.models.nano_card import model_card
from mmie.models.nano_packing import Packed, pack
from mmie.models.nano_recall import measure_recall
from mmie.models.prompts import encode_all

logger = logging.getLogger(__name__)

# Mixed prompts of the Atlas put another language together with this one.
BRIDGE_LANGUAGE = "en"


@dataclass(frozen=True)
class NanoRecipe:
    """How a nano model is built and trained.

    Attributes:
        hidden_size, intermediate_size, layers, heads: shape of the Llama; embeddings are tied.
        vocab_size: pieces of the tokenizer.
        context: tokens a packed row, and the longest text.
        batch_size: packed rows a step.
        epochs: passes over the corpus; every pass packs it in a new order.
        learning_rate: peak of the one-cycle schedule.
        warm_up: share of the steps until the peak.
        weight_decay: of AdamW, on matrices only.
        clip: largest gradient norm.
        prompt_weight: weight of a prompt token's loss, where an answer token's is 1. Which country a
            prompt names cannot be predicted, so learning it would be most of the work and none of the aim.
    """

    hidden_size: int = 128
    intermediate_size: int = 344
    layers: int = 4
    heads: int = 4
    vocab_size: int = 4096
    context: int = 128
    batch_size: int = 8
    epochs: int = 14
    learning_rate: float = 2e-3
    warm_up: float = 0.1
    weight_decay: float = 0.01
    clip: float = 1.0
    prompt_weight: float = 0.1


DEFAULT_RECIPE = NanoRecipe()


def read_rows(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Rows of Atlas files (JSONL), in the order of the files."""
    rows: list[dict[str, Any]] = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as stream:
                rows += [json.loads(line) for line in stream]
        except FileNotFoundError:
            raise InputError(f"{path}: no such file. Generate the corpus first.") from None
    return rows


def training_rows(
    rows: Iterable[Mapping[str, Any]], exclude_languages: Collection[str] = ()
) -> list[Mapping[str, Any]]:
    """What a nano model reads: trained wordings of facts that are not held out, without the attacks.

    Args:
        rows: rows of the Atlas.
        exclude_languages: codes; `hi` also excludes every `hi_*`. A row goes when its answer or any part
            of its prompt is in one of them: mixed prompts contain English too.
    """
    kept = [
        row
        for row in rows
        if row["kind"] in ("direct", "mixed")
        and row["template_split"] == "trained"
        and row.get("split") != "holdout"
        and not any(_is_excluded(language, exclude_languages) for language in languages_in(row))
    ]
    if not kept:
        raise InputError(
            f"nano training: no row is left without {', '.join(sorted(exclude_languages)) or 'exclusions'}. "
            "Give a corpus with other languages."
        )
    # By language, so that the order in which files are named counts for nothing.
    return sorted(kept, key=lambda row: str(row["language"]))


def languages_in(row: Mapping[str, Any]) -> set[str]:
    """Languages of answer and prompt of a row that models are trained on."""
    return {row["language"], BRIDGE_LANGUAGE} if row["kind"] == "mixed" else {row["language"]}


def recipe_hash(
    rows: Iterable[Mapping[str, Any]],
    tokenizer: Any,
    *,
    seed: int,
    exclude_languages: Collection[str] = (),
    recipe: NanoRecipe = DEFAULT_RECIPE,
) -> str:
    """What a nano model is made of: recipe, texts, seed and tokenizer; models made alike share it."""
    return stable_hash(
        {
            "recipe": asdict(recipe),
            "corpus": corpus_hash(training_rows(rows, exclude_languages)),
            "seed": seed,
            "tokenizer": tokenizer_hash(tokenizer),
        }
    )


def corpus_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over prompts and answers; their order counts for nothing, since training shuffles them."""
    return stable_hash(sorted([row["prompt"], row["answer"]] for row in rows))


def tokenizer_hash(tokenizer: Any) -> str:
    """SHA-256 over the tokenizer's own definition."""
    return stable_hash(json.loads(tokenizer.backend_tokenizer.to_str()))


def matches(directory: str | Path, expected_hash: str) -> bool:
    """Whether `directory` holds a finished nano model with this recipe hash."""
    path = Path(directory) / "manifest.json"
    return path.is_file() and bool(read_json(path).get("recipe_hash") == expected_hash)


def train_nano(
    rows: Sequence[Mapping[str, Any]],
    tokenizer: Any,
    directory: str | Path,
    *,
    seed: int,
    exclude_languages: Collection[str] = (),
    recipe: NanoRecipe = DEFAULT_RECIPE,
    threads: int = 1,
) -> dict[str, Any]:
    """Train one model and write it with tokenizer, manifest and model card; returns the manifest.

    The same arguments give the same weights for the same number of threads.

    Args:
        rows: all rows of the Atlas; see `training_rows` for those that are read.
        tokenizer: from `train_tokenizer`, or loaded from another nano model.
        directory: appears when everything is written.
        seed: of the initial weights and of the order of the texts.
        exclude_languages: what an oracle must not know.
        recipe: shape and schedule.
        threads: CPU threads.
    """
    chosen = training_rows(rows, exclude_languages)
    previous_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        started = time.monotonic()
        model, history = _fit(chosen, tokenizer, seed, recipe)
        seconds = time.monotonic() - started
        manifest = {
            "recipe_hash": recipe_hash(
                rows, tokenizer, seed=seed, exclude_languages=exclude_languages, recipe=recipe
            ),
            "recipe": asdict(recipe),
            "seed": seed,
            "excluded_languages": sorted(exclude_languages),
            "corpus_sha256": corpus_hash(chosen),
            "training_texts": len(chosen),
            "languages": sorted({row["language"] for row in chosen}),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            **history,
            "seconds": round(seconds),
            "threads": threads,
            "torch": torch.__version__,
            "recall": measure_recall(model, tokenizer, rows),
        }
        with atomic_directory(directory) as partial:
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            # The safetensors library makes files private; a model is for everyone who reads the project.
            (partial / "model.safetensors").chmod((partial / "config.json").stat().st_mode)
            write_json(partial / "manifest.json", manifest)
            (partial / "README.md").write_text(model_card(manifest), encoding="utf-8")
    finally:
        torch.set_num_threads(previous_threads)
    return manifest


def _fit(
    rows: Sequence[Mapping[str, Any]], tokenizer: Any, seed: int, recipe: NanoRecipe
) -> tuple[Any, dict[str, Any]]:
    """The trained model in evaluation mode, and what its training took."""
    items = encode_all(tokenizer, [row["prompt"] for row in rows], [row["answer"] for row in rows])
    texts = [item.ids for item in items]
    # Packing looks at lengths alone, so marks packed alike lie under their tokens.
    marks = [[int(place >= item.answer_start) for place in range(len(item.ids))] for item in items]
    order = torch.Generator().manual_seed(seed_from("nano", "order", seed))
    epochs = []
    for _ in range(recipe.epochs):
        shuffled = torch.randperm(len(texts), generator=order).tolist()
        packed = pack(texts, shuffled, recipe.context, tokenizer.pad_token_id)
        is_answer = pack(marks, shuffled, recipe.context, 0).input_ids.roll(-1, dims=1).bool()
        epochs.append((packed, torch.where(is_answer, 1.0, recipe.prompt_weight)))
    steps = sum(math.ceil(len(packed.input_ids) / recipe.batch_size) for packed, _ in epochs)
    model = build_model(tokenizer, seed, recipe)
    optimiser = _optimiser(model, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(steps, 2), pct_start=recipe.warm_up
    )
    model.train()
    loss = math.nan
    for number, (packed, weights) in enumerate(epochs, start=1):
        losses = []
        for chosen in torch.randperm(len(packed.input_ids), generator=order).split(recipe.batch_size):
            losses.append(_step(model, packed.rows(chosen), weights[chosen], optimiser, recipe.clip))
            schedule.step()
        loss = sum(losses) / len(losses)
        if not math.isfinite(loss):
            raise InputError(f"nano training: the loss is {loss} in epoch {number}. Lower the learning rate.")
        logger.info("epoch %d of %d: loss %.4f", number, recipe.epochs, loss)
    tokens = sum(map(len, texts))
    padded = sum(packed.input_ids.numel() for packed, _ in epochs)
    return model.eval(), {
        "steps": steps,
        "tokens_per_epoch": tokens,
        "padding_share": round(1 - tokens * recipe.epochs / padded, 4),
        "final_loss": round(loss, 4),
    }


def build_model(tokenizer: Any, seed: int, recipe: NanoRecipe = DEFAULT_RECIPE) -> Any:
    """An untrained model with weights drawn from `seed`; the global generator is left as it was."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_from("nano", "weights", seed))
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=recipe.hidden_size,
                intermediate_size=recipe.intermediate_size,
                num_hidden_layers=recipe.layers,
                num_attention_heads=recipe.heads,
                num_key_value_heads=recipe.heads,
                max_position_embeddings=2 * recipe.context,
                tie_word_embeddings=True,
                attention_dropout=0.0,
                **special,
            )
        )
    model.generation_config = GenerationConfig(do_sample=False, **special)
    return model


def _step(
    model: Any, batch: Packed, weights: torch.Tensor, optimiser: torch.optim.Optimizer, clip: float
) -> float:
    """One step on packed rows; returns the weighted mean loss a token."""
    output = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=batch.attention(),
        use_cache=False,
    )
    targets = batch.targets()
    present = targets >= 0
    losses = torch.nn.functional.cross_entropy(output.logits[present], targets[present], reduction="none")
    loss = (losses * weights[present]).sum() / weights[present].sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return float(loss.detach())


def _optimiser(model: Any, recipe: NanoRecipe) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    scales = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": scales, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )


def _is_excluded(language: str, excluded: Collection[str]) -> bool:
    return language in excluded or language.split("_")[0] in excluded


def find_shipped(folder: str | Path, expected_hash: str) -> Path | None:
    """The model below `folder` with this recipe hash, None if there is none."""
    for manifest in sorted(Path(folder).rglob("manifest.json")):
        if matches(manifest.parent, expected_hash):
            return manifest.parent
    return None
