"""Memory and time of a training step: what forgetting with a reference costs beside plain fine-tuning.

    python bench/training.py --rows 32 --repeat 20

Ways to take the same step on the same LoRA adapters of `data/nano`, in one run:

- `plain`: fine-tuning on the answers of one batch, nothing else;
- `mmie`: NPO on one batch with stored reference log-likelihoods, KL on another with the adapter off;
- `cached`: the same with the final states of all retain rows computed beforehand (`reference: cached`);
- `top 64`: the same with their 64 most likely tokens (`reference_top: 64`);
- `two models`: the same two terms with a copy of the model as reference, which reads both batches in
  every step, logits at every position, as trainers commonly do.

Memory is the peak of the bytes held in tensors during a step, weights included, from PyTorch's profiler;
time is CPU time, the median of alternating repeats. Filling the cache is timed apart and spread over the
steps of a run of the default experiment.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import kl_div, logsigmoid
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmie.training.batches import Examples  # noqa: E402
from mmie.training.cached_reference import cached_reference  # noqa: E402
from mmie.training.memory import Shape, plan_memory  # noqa: E402
from mmie.training.reference import answer_sums  # noqa: E402
from mmie.training.sets import TrainingSets  # noqa: E402
from mmie.training.settings import TrainingSettings  # noqa: E402
from mmie.training.terms import ForgetTerm, RetainTerm, accumulate  # noqa: E402

RETAIN_ROWS, STEPS = 1936, 150
"""Retain rows and steps of a LoRA arm of the default experiment."""
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def peak_bytes(step: Callable[[], None]) -> int:
    """Most bytes that tensors held at once during a step, beyond those held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]")
    held = highest = 0
    for _, change in changes:
        held += change
        highest = max(highest, held)
    return highest


def examples_of(tokenizer: Any, language: str, count: int) -> Examples:
    """The first direct rows of an Atlas corpus."""
    lines = (ROOT / f"data/atlas/{language}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "direct"][:count]
    return Examples.from_rows(pd.DataFrame(rows), tokenizer)


def adapted(model: nn.Module) -> tuple[nn.Module, list[nn.Parameter]]:
    """LoRA of rank 8 on every linear layer of the blocks."""
    torch.manual_seed(0)
    wrapped = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS))
    return wrapped.eval(), [value for value in wrapped.parameters() if value.requires_grad]


def two_model_loss(model: nn.Module, reference: nn.Module, sets: TrainingSets, term: str) -> Tensor:
    """NPO or KL with a second model, logits at every position."""
    batch = (sets.forget if term == "forget" else sets.retain).batch(range(len(sets.forget)))
    log_p = model(**batch.inputs(), use_cache=False).logits[:, :-1].log_softmax(-1)
    with torch.no_grad():
        log_p0 = reference(**batch.inputs(), use_cache=False).logits[:, :-1].log_softmax(-1)
    targets, mask = batch.input_ids[:, 1:, None], batch.answer_mask[:, 1:]
    if term == "retain":
        divergence = kl_div(log_p, log_p0, log_target=True, reduction="none").sum(-1)
        return (divergence * mask).sum() / mask.sum()
    nll, nll0 = ((-values.gather(-1, targets).squeeze(-1) * mask).sum(-1) for values in (log_p, log_p0))
    return (-20.0 * logsigmoid(0.1 * (nll - nll0))).mean()


def build_steps(rows: int) -> tuple[dict[str, Callable[[], None]], dict[str, int], Shape]:
    """The steps, the bytes that each keeps between steps, and the shape of their largest batch."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data/nano")
    base = AutoModelForCausalLM.from_pretrained(ROOT / "data/nano").eval()
    reference = copy.deepcopy(base)
    forget, retain = examples_of(tokenizer, "hi", rows), examples_of(tokenizer, "en", rows)
    sets = TrainingSets(forget, answer_sums(base, forget), retain)
    model, parameters = adapted(base)
    optimiser = torch.optim.AdamW(parameters, lr=1e-4)
    settings = TrainingSettings()
    everything = examples_of(tokenizer, "en", RETAIN_ROWS)
    caches = {
        name: cached_reference(model, everything, range(len(everything)), top)
        for name, top in {"cached": None, "top 64": 64}.items()
    }
    forget_term = ForgetTerm(model, sets, settings)
    plain_term = RetainTerm(model, forget, TrainingSettings(retain_objective="nll"))

    def plain() -> None:
        optimiser.zero_grad()
        accumulate(plain_term, range(rows), weight=1.0, size=None, where="bench")
        optimiser.step()

    def ours(retain_term: RetainTerm) -> Callable[[], None]:
        def step() -> None:
            optimiser.zero_grad()
            for term in (forget_term, retain_term):
                accumulate(term, range(rows), weight=1.0, size=None, where="bench")
            optimiser.step()

        return step

    def two_models() -> None:
        optimiser.zero_grad()
        for term in ("forget", "retain"):
            two_model_loss(model, reference, sets, term).backward()
        optimiser.step()

    weights = sum(value.numel() * value.element_size() for value in reference.parameters())
    trained = sum(value.numel() for value in parameters)
    kept = weights + 12 * trained
    widest = max(forget.batch(range(rows)).input_ids.shape[1], retain.batch(range(rows)).input_ids.shape[1])
    answers = max(sum(forget.answer_lengths), sum(retain.answer_lengths))
    shape = Shape.of(reference.config.to_dict(), reference.num_parameters(), trained, rows, widest, answers)
    return (
        {
            "plain": plain,
            "mmie": ours(RetainTerm(model, retain, settings)),
            **{name: ours(RetainTerm(model, everything, settings, cache)) for name, cache in caches.items()},
            "two models": two_models,
        },
        {
            "plain": kept,
            "mmie": kept,
            **{name: kept + cache.bytes for name, cache in caches.items()},
            "two models": kept + weights,
        },
        shape,
    )


def filling() -> float:
    """CPU seconds to fill the cache of the default experiment."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data/nano")
    model, _ = adapted(AutoModelForCausalLM.from_pretrained(ROOT / "data/nano"))
    everything = examples_of(tokenizer, "en", RETAIN_ROWS)
    start = time.process_time()
    cached_reference(model, everything, range(len(everything)), None)
    return time.process_time() - start


def main() -> None:
    """Print the table, the ratios and the plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=32, help="items of each batch")
    parser.add_argument("--repeat", type=int, default=20, help="timed repeats")
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps, kept, shape = build_steps(options.rows)
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(options.repeat):
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    time_of = {name: statistics.median(values) for name, values in seconds.items()}
    memory_of = {name: peak_bytes(step) + kept[name] for name, step in steps.items()}
    for name in steps:
        print(f"{name:<11} {time_of[name] * 1e3:8.1f} ms  {memory_of[name] / 2**20:8.1f} MiB")
    for name in ("mmie", "cached", "top 64"):
        print(f"memory, {name} / plain: {memory_of[name] / memory_of['plain']:.2f}")
        print(f"time, {name} / two models: {time_of[name] / time_of['two models']:.2f}")
    share = filling() / STEPS
    print(f"filling the cache, a step: {share * 1e3:.1f} ms")
    print(f"time with it, cached / two models: {(time_of['cached'] + share) / time_of['two models']:.2f}")
    plan = plan_memory(shape)
    print(f"planned / measured memory: {plan.total / memory_of['mmie']:.2f}")
    for term, amount in plan.terms().items():
        print(f"    {term:<12} {amount / 2**20:8.1f} MiB")


if __name__ == "__main__":
    main()
