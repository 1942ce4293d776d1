"""How much memory a training job needs, before it runs. Light: needs no torch.

Every count comes from the model's own files, never from its name.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmie.errors import InputError
from mmie.io import read_json

HIDDEN_PER_BLOCK, INNER_PER_BLOCK = 10.4, 4.0
"""Values that a block keeps for the backward pass, in widths of the stream and of its feed-forward part, a
token. Measured with LoRA on all linear layers of a gated block with fused attention."""
LOGIT_COPIES = 3
"""Float32 copies of the logits beside the activations at the peak of a step, measured: early in the backward
pass there are more of them, but the activations of the last block are then free again."""
CONTEXT = 700 * 2**20
"""Interpreter and libraries, measured on a CPU."""
WORKSPACE_SHARE = 0.05
"""Kernels' scratch space and fragmentation, of everything that is not weights."""
MARGIN = 1.25
"""A job asks for this times the plan, which is within a quarter of what was measured."""
CACHE_LIMIT = 512 * 2**20
"""Most bytes that a cached reference may take."""
AFTER_PROJECTION = (
    "logit_scale", "logits_scaling", "lm_head_multiplier", "final_logit_softcapping", "logits_soft_cap",
)  # fmt: skip
"""Keys of `config.json` of models that do more than project final states, whose distributions are kept."""
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers of a Llama-like block."""


@dataclass(frozen=True)
class Shape:
    """What a step's memory depends on."""

    parameters: int
    """Of the base model."""
    trained: int
    """Of the adapter."""
    rows: int
    """In memory at once; a triple counts as three."""
    tokens: int
    """Of the longest row."""
    answer_tokens: int
    """Answer tokens of all these rows: where logits are computed."""
    width: int
    """Of the residual stream."""
    inner: int
    """Of the feed-forward part."""
    blocks: int
    vocabulary: int
    weight_bytes: int = 4
    """Bytes of a base weight, and of an activation."""
    reference: int = 0
    """Bytes of a cached reference, see `cache_bytes`."""

    @classmethod
    def of(
        cls,
        config: Mapping[str, Any],
        parameters: int,
        trained: int,
        rows: int,
        tokens: int,
        answer_tokens: int,
        *,
        weight_bytes: int = 4,
    ) -> Shape:
        """From a model's `config.json` and counts.

        Raises:
            InputError: the configuration lacks a size.
        """
        names = {
            "width": ("hidden_size", "n_embd"),
            "inner": ("intermediate_size", "n_inner", "ffn_dim"),
            "blocks": ("num_hidden_layers", "n_layer"),
            "vocabulary": ("vocab_size",),
        }
        sizes: dict[str, int] = {}
        for size, keys in names.items():
            found = [config[key] for key in keys if config.get(key)]
            if not found and size == "inner":
                found = [4 * sizes["width"]]
            if not found:
                raise InputError(f"config.json: no {keys[0]}. Set the memory of the job by hand.")
            sizes[size] = int(found[0])
        return cls(parameters, trained, rows, tokens, answer_tokens, **sizes, weight_bytes=weight_bytes)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of each part at the peak of a step."""

    weights: int
    adapter: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    reference: int
    workspace: int

    @property
    def total(self) -> int:
        """All parts, bytes."""
        return sum(self.terms().values())

    def terms(self) -> dict[str, int]:
        """Bytes by part."""
        return asdict(self)


def plan_memory(shape: Shape) -> MemoryPlan:
    """Estimate the peak of one training step on one device.

    A full fine-tuning is planned with `trained` = `parameters`; then the adapter's term is 0, because the
    trained tensors are the weights.
    """
    adapter = 0 if shape.trained == shape.parameters else 4 * shape.trained
    values = HIDDEN_PER_BLOCK * shape.width + INNER_PER_BLOCK * shape.inner
    activations = round(shape.rows * shape.tokens * shape.blocks * values * shape.weight_bytes)
    logits = LOGIT_COPIES * 4 * shape.answer_tokens * shape.vocabulary
    return MemoryPlan(
        weights=shape.parameters * shape.weight_bytes,
        adapter=adapter,
        gradients=4 * shape.trained,
        optimiser=8 * shape.trained,
        activations=activations,
        logits=logits,
        reference=shape.reference,
        workspace=round(WORKSPACE_SHARE * (activations + logits)),
    )


def cache_bytes(tokens: int, vocabulary: int, top: int | None, width: int | None = None) -> int:
    """Bytes of a cached reference: float32 states, log-probabilities, or int32 ids and those of few tokens.

    Args:
        tokens: answer tokens of the rows.
        vocabulary: entries.
        top: tokens kept at each position, the rest in one number; None for all.
        width: of the final states, where they are kept for distributions of all tokens.
    """
    if top is not None:
        return tokens * 4 * (2 * min(top, vocabulary) + 1)
    return tokens * 4 * (width or vocabulary)


def check_budget(shape: Shape, budget: int) -> MemoryPlan:
    """Refuse a batch in advance that does not fit.

    Args:
        shape: of the step.
        budget: bytes.

    Raises:
        InputError: says how many rows would fit.
    """
    plan = plan_memory(shape)
    if plan.total <= budget:
        return plan
    a_row = (plan.activations + plan.logits + plan.workspace) / shape.rows
    fixed = plan.total - a_row * shape.rows
    fit = int((budget - fixed) / a_row)
    remedy = f"Set micro_batch to {fit} or less" if fit >= 1 else "Not even one row fits: use a smaller model"
    raise InputError(
        f"training: {shape.rows} rows of {shape.tokens} tokens need about {plan.total / 2**20:.0f} MiB, "
        f"{budget / 2**20:.0f} MiB are there. {remedy}."
    )


def count_parameters(folder: str | Path) -> int:
    """Exact number of parameters of a safetensors model, from the headers of its files alone."""
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no safetensors file to count parameters in. Run the base stage first.")
    total = 0
    for file in files:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            size = 1
            for extent in entry["shape"] if name != "__metadata__" else [0]:
                size *= extent
            total += size
    return total


def lora_parameters(config: Mapping[str, Any], rank: int, layers: int) -> int:
    """Parameters of adapters on all seven linear layers of that many Llama-like blocks.

    Args:
        config: the model's `config.json`.
        rank: of every adapter.
        layers: adapted blocks.
    """
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    keys = head * config.get("num_key_value_heads", heads)
    queries = head * heads
    pairs = [(width, queries), (width, keys), (width, keys), (queries, width)]
    pairs += [(width, inner), (width, inner), (inner, width)]
    return layers * rank * sum(one + other for one, other in pairs)


def job_megabytes(folder: str | Path, **sizes: int) -> int:
    """Memory to ask of a cluster for one training job on a CPU, MB.

    Args:
        folder: of the base model, with config.json and safetensors files.
        sizes: `trained`, `rows` of a micro-batch, `tokens` of the longest row, `answer_tokens` of the rows
            and, for a cached reference, its bytes `reference`.
    """
    config = read_json(Path(folder) / "config.json")
    reference = sizes.pop("reference", 0)
    shape = replace(Shape.of(config, count_parameters(folder), **sizes), reference=reference)
    return round((MARGIN * plan_memory(shape).total + CONTEXT) / 1e6)


def arm_megabytes(folder: str | Path, arm: Mapping[str, Any], *, longest: int, rows: int) -> int | None:
    """Memory to ask for the job of an arm on a CPU, MB; None where no plan was measured.

    Planned are LoRA on the seven linear layers of Llama-like blocks, and LoReFT. Rows are taken to be as
    long as the longest and to be answers throughout, adapters to be in every block: the job takes less.

    Args:
        folder: of the base model; one that is not local is not planned.
        arm: config block of the arm.
        longest: tokens of the longest row.
        rows: of the retain set.
    """
    file, training = Path(folder) / "config.json", arm.get("training", {})
    if not file.is_file() or arm["kind"] not in ("lora", "reft") or arm.get("dora"):
        return None
    config = read_json(file)
    needed = {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"}
    if needed - set(config) or not set(arm.get("targets", [])) <= set(LINEAR):
        return None
    blocks, vocabulary = config["num_hidden_layers"], config["vocab_size"]
    if arm["kind"] == "lora":
        trained = lora_parameters(config, arm["rank"], blocks)
    else:
        trained = blocks * arm["rank"] * (3 * config["hidden_size"] + 1)
    at_once = max(training["forget_batch"], training["retain_batch"])
    at_once = min(at_once, training["micro_batch"] or at_once)
    reference = 0
    if training["reference"] == "cached":
        projects = all(config.get(name) in (None, 1) for name in AFTER_PROJECTION)
        width = config["hidden_size"] if projects else None
        reference = cache_bytes(rows * longest, vocabulary, training["reference_top"], width)
    return job_megabytes(
        folder, trained=trained, rows=at_once, tokens=longest, answer_tokens=at_once * longest,
        reference=min(reference, CACHE_LIMIT),
    )  # fmt: skip
