"""One way to run and judge every trainer: same rows, same order, one thread, CPU time, one FVU.

Imports nothing of MMIE, so that it runs in a peer's environment.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Settings:
    """What every trainer is told."""

    width: int
    latents: int
    k: int
    batch: int
    steps: int
    rate: float
    """Factor on the trainer's own default learning rate."""
    variant: str
    mean: Tensor
    """Mean of all rows, [width]; only some trainers want it."""
    variance: float
    seed: int
    rows: np.ndarray
    """All rows, [rows, width]; only some trainers start from some of them."""

    @property
    def warmup(self) -> int:
        """Steps of linear warm-up: a twentieth. Defaults of 1,000 steps exceed short runs."""
        return max(1, self.steps // 20)

    @property
    def decay(self) -> int:
        """Steps of linear decay at the end, for trainers that have one: a fifth."""
        return self.steps // 5


@dataclass(frozen=True)
class Coder:
    """A TopK autoencoder: relu of the k largest of w_enc (x - b_dec) + b_enc, decoded by rows."""

    w_enc: Tensor
    b_enc: Tensor
    w_dec: Tensor
    b_dec: Tensor


Train = Callable[[Iterator[Tensor], Settings], Coder]


@torch.no_grad()
def quality(coder: Coder, held_out: Tensor, k: int) -> dict[str, float]:
    """FVU, L0 and share of latents that never fire, on rows that no trainer saw."""
    error = 0.0
    counts = torch.zeros(len(coder.b_enc))
    firing = 0
    for x in held_out.split(1024):
        u = torch.addmm(coder.b_enc, x - coder.b_dec, coder.w_enc.T)
        values, indices = u.topk(k, dim=-1)
        values = values.relu()
        codes = torch.zeros_like(u).scatter_(1, indices, values)
        error += float((x - codes @ coder.w_dec - coder.b_dec).double().square().sum())
        counts += (codes > 0).sum(0)
        firing += int((values > 0).sum())
    total = float((held_out - held_out.mean(0)).double().square().sum())
    return {
        "fvu": error / total,
        "l0": firing / len(held_out),
        "dead": float((counts == 0).float().mean()),
    }


def main(train: Train) -> None:
    """Run a trainer as the command line says and print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    for name in ("latents", "k", "batch", "steps", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--variant", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = np.load(options.rows, mmap_mode="r")
    sample = torch.from_numpy(np.array(rows[: min(len(rows), 65_536)]))
    settings = Settings(
        rows.shape[1], options.latents, options.k, options.batch, options.steps, options.rate,
        options.variant, sample.mean(0), float(sample.var(0, correction=0).sum()), options.seed, rows,
    )  # fmt: skip
    del sample

    def batches() -> Iterator[Tensor]:
        at = 0
        while True:
            if at + options.batch > len(rows):
                at = 0
            yield torch.from_numpy(np.array(rows[at : at + options.batch]))
            at += options.batch

    # Lazy imports and first-call set-up are no part of training.
    train(batches(), replace(settings, steps=8))
    torch.manual_seed(options.seed)
    cpu, wall = time.process_time(), time.perf_counter()
    coder = train(batches(), settings)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    held_out = torch.from_numpy(np.load(options.held_out))
    found = quality(coder, held_out, options.k)
    tokens = options.steps * options.batch
    print(json.dumps({"cpu_s": cpu, "wall_s": wall, "tokens": tokens, "peak_mib": peak, **found}))
