"""How close a training step of a TopK autoencoder comes to the dense encode, which bounds it.

    OMP_NUM_THREADS=1 python bench/sae_limit.py --width 512 --expansion 16
    python bench/sae_limit.py --device cuda --width 1536 --expansion 16 --batch 8192   # Qwen2.5-1.5B

A step must multiply rows [batch, width] by the encoder [width, latents] once: 2 x batch x width x latents
operations. Prints the rate of that product alone in float32 and bfloat16 (the machine's limit), the step's
tokens per second, the share of the limit that the step reaches, and where its time goes. On a CPU times are
CPU-seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mmie.sae.options import SaeOptions
from mmie.sae.topk import TopKSAE
from mmie.sae.trainer import Trainer


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Median time of a call: CPU time on a CPU, wall time up to the last kernel on a GPU."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    times = []
    for _ in range(repeats + 2):
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return statistics.median(times[2:])


def parts(trainer: Trainer, x: Tensor, rows: int) -> str:
    """The operators that take most of a step's own time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if x.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as seen:
        trainer.step(x, 1)
    own = "self_device_time_total" if x.device.type == "cuda" else "self_cpu_time_total"
    events = sorted(seen.key_averages(), key=lambda event: -getattr(event, own))
    total = sum(getattr(event, own) for event in events)
    lines = [f"  {getattr(event, own) / total:6.1%}  {event.key}" for event in events[:rows]]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--expansion", type=int, default=16)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--encoder", choices=("auto", "float32"), default="auto")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    latents = options.width * options.expansion
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(options.batch, options.width, generator=generator).to(options.device)
    sae = TopKSAE(options.width, latents, options.k)
    sae.initialise(torch.zeros(options.width), generator)
    sae.to(options.device)
    sizes = SaeOptions(k=options.k, learning_rate=1e-3, encoder=options.encoder)
    trainer = Trainer(sae, sizes, float(options.width), steps=10_000, budget=10_000 * options.batch)
    operations = 2 * options.batch * options.width * latents
    limits = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = x.to(dtype), sae.w_enc.detach().to(dtype).T
        product = torch.empty(options.batch, latents, dtype=dtype, device=options.device)
        limits[dtype] = seconds(
            lambda a=a, b=b, out=product: torch.mm(a, b, out=out), options.device, options.repeats
        )
        print(f"product alone, {dtype}: {operations / limits[dtype] / 1e12:.3f} TFLOP/s")
    step = seconds(lambda: trainer.step(x, 1), options.device, options.repeats)
    print(f"step: {options.batch / step:,.0f} tokens/s, screened: {trainer.screen is not None}")
    for dtype, limit in limits.items():
        print(f"share of the {dtype} product's rate: {limit / step:.0%}")
    print(parts(trainer, x, 12))


if __name__ == "__main__":
    main()
