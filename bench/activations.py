"""What reading the residual stream costs, against the model's bare forward and other ways of reading it.

    python bench/activations.py                      # a random Llama of 12 blocks, width 512
    python bench/activations.py --model data/nano    # a model of your own

Every way runs in a process of its own, so that its peak memory is its own; batches are the same in all.
Ways: `bare` (decoder forward, nothing read), `mmie` (all blocks, written to disk), `mmie one block`
(a middle block, forward stopped there), `hidden_states` (decoder with output_hidden_states, masked and
copied, kept in memory), `causal_lm` (the same through the whole model with its head); where they are
installed, `nnsight` (a trace of the decoder) and `transformer_lens` (`run_with_cache` of a bridge to the
same model, which goes through its head and computes attention eagerly), masked and copied like the others:

    python -m pip install nnsight==0.8.1 transformer-lens==4.3.0

On a CPU, tokens per CPU-second are printed. `over model` is the peak above the process as it stood before
the first batch, with the model and the way's library loaded; what grows with the corpus shows in it only
where the corpus is several batches, so their number is printed too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

WAYS = ("bare", "mmie", "mmie one block", "hidden_states", "causal_lm")
PEERS = ("nnsight", "transformer_lens")


def main() -> None:
    """Measure every way and print a table, or one way when called by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", help="directory of a model; a random one by default")
    parser.add_argument("--items", type=int, default=128)
    parser.add_argument("--length", type=int, default=128, help="tokens of the longest item")
    parser.add_argument("--token-budget", type=int, default=1024, help="tokens of a batch, pads included")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options)))
        return
    there = [peer for peer in PEERS if importlib.util.find_spec(peer)]
    print("not installed, left out:", ", ".join(sorted({*PEERS} - {*there})) or "none")
    found: dict[str, list[dict[str, float]]] = {way: [] for way in (*WAYS, *there)}
    # Rounds are interleaved: a machine that slows down slows all ways down alike.
    for _ in range(options.rounds):
        for way in found:
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    report(found)


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Medians over rounds; the ratio is taken within a round, where conditions were most alike."""
    batches = int(found["bare"][0]["batches"])
    print(f"{batches} batches" + ("" if batches > 3 else ": too few to show what memory grows by"))
    print(f"{'way':16} {'tokens/s':>10} {'of bare':>8} {'range':>12} {'peak MB':>8} {'over model':>10}")
    for way, rounds in found.items():
        speed = statistics.median(entry["tokens_per_second"] for entry in rounds)
        ratios = [
            entry["tokens_per_second"] / bare["tokens_per_second"]
            for entry, bare in zip(rounds, found["bare"], strict=True)
        ]
        peak = statistics.median(entry["peak_mb"] for entry in rounds)
        over = statistics.median(entry["peak_mb"] - entry["loaded_mb"] for entry in rounds)
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(
            f"{way:16} {speed:10.0f} {statistics.median(ratios):8.2f} {spread:>12} {peak:8.0f} {over:10.0f}"
        )


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run one way once over all batches, after one batch to warm up."""
    import torch

    torch.set_num_threads(options.threads)
    model, tokenizer, rows = material(options)
    work = ways(model, tokenizer, rows, options)[options.way]
    if options.way in PEERS:
        importlib.import_module(options.way)
    # Before any batch: a warm-up that reads as the timed run does would hide what reading takes.
    loaded = resident_megabytes("VmRSS")
    # The peak of loading would hide it as well; 5 sets the peak back to what is resident now.
    Path("/proc/self/clear_refs").write_text("5")
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder) / "warm", rows.head(8))
        # On a CPU its seconds are counted, so that other jobs on the machine disturb less.
        clock = time.process_time if options.device == "cpu" else time.perf_counter
        start = clock()
        tokens = work(Path(folder) / "timed", rows)
        if options.device != "cpu":
            torch.cuda.synchronize()
        seconds = clock() - start
    peak = resident_megabytes("VmHWM")
    return {
        "tokens_per_second": tokens / seconds,
        "peak_mb": peak,
        "loaded_mb": loaded,
        "batches": len(list(batches(tokenizer, rows, options))),
    }


def resident_megabytes(what: str) -> float:
    """Memory of this process: `VmRSS` now, `VmHWM` at its peak. Linux alone says so."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024


def material(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Model, tokenizer, and rows of many lengths."""
    import pandas as pd
    import torch

    from mmie.models.loading import load_model

    root = Path(__file__).resolve().parent.parent
    model, tokenizer = load_model(options.model or root / "data/nano", device=options.device)
    if options.model is None:
        from transformers import LlamaConfig, LlamaForCausalLM

        torch.manual_seed(0)
        shape = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12}
        config = LlamaConfig(vocab_size=len(tokenizer), num_attention_heads=8, num_key_value_heads=8, **shape)
        model = LlamaForCausalLM(config).to(options.device).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    words = [word for word, at in sorted(tokenizer.get_vocab().items()) if word.isascii() and word.isalpha()]
    lengths = torch.randint(options.length // 4, options.length - 2, (options.items,), generator=generator)
    prompts = []
    for length in lengths.tolist():
        drawn = torch.randint(len(words), (length,), generator=generator)
        ids = [tokenizer.get_vocab()[words[at]] for at in drawn.tolist()]
        prompts.append(tokenizer.decode(ids))
    names = [f"item{at}" for at in range(options.items)]
    rows = pd.DataFrame({"example_id": names, "prompt": prompts, "answer": "x", "split": "fit"})
    return model, tokenizer, rows


def batches(tokenizer: Any, rows: Any, options: argparse.Namespace) -> Iterator[Any]:
    """Right-padded batches of similar lengths, the same for every way."""
    from mmie.activations.extract import length_buckets
    from mmie.models.prompts import collate, encode_all, padding_id

    encoded = encode_all(tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
    for indices in length_buckets([len(item.ids) for item in encoded], options.token_budget):
        yield collate([encoded[at] for at in indices], padding_id(tokenizer)).to(options.device)


def ways(model: Any, tokenizer: Any, rows: Any, options: argparse.Namespace) -> dict[str, Callable[..., int]]:
    """Each way as a function of a folder and rows that returns the tokens it read, pads included."""
    import torch

    from mmie.activations.extract import ExtractionOptions, extract_language
    from mmie.models.blocks import find_decoder

    decoder, blocks = find_decoder(model)

    def batches_of(some: Any) -> Iterator[Any]:
        return batches(tokenizer, some, options)

    def tokens(some: Any) -> int:
        return sum(batch.input_ids.numel() for batch in batches_of(some))

    @torch.inference_mode()
    def bare(_folder: Path, some: Any) -> int:
        for batch in batches_of(some):
            decoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), use_cache=False)
        return tokens(some)

    def mmie(layers: tuple[int, ...] | None) -> Callable[[Path, Any], int]:
        def read(folder: Path, some: Any) -> int:
            # The stage knows the model by the hashes of its files; without them every weight is hashed here.
            known = {"model": "of the benchmark"}
            chosen = ExtractionOptions(layers=layers, token_budget=options.token_budget, identity=known)
            extract_language(model, tokenizer, some, folder, chosen)
            return tokens(some)

        return read

    def stacked(module: Any) -> Callable[[Path, Any], int]:
        @torch.inference_mode()
        def read(_folder: Path, some: Any) -> int:
            kept = []
            for batch in batches_of(some):
                mask = batch.attention_mask
                output = module(
                    input_ids=batch.input_ids,
                    attention_mask=mask.long(),
                    use_cache=False,
                    output_hidden_states=True,
                )
                kept.append([state[mask].float().cpu() for state in output.hidden_states[1:]])
            return tokens(some)

        return read

    @torch.inference_mode()
    def traced(_folder: Path, some: Any) -> int:
        import nnsight

        wrapped, kept = nnsight.NNsight(decoder), []
        places = wrapped.get(blocks_path(decoder, blocks))
        for batch in batches_of(some):
            mask = batch.attention_mask
            with wrapped.trace(input_ids=batch.input_ids, attention_mask=mask.long(), use_cache=False):
                states = nnsight.save([block.output for block in places])
            kept.append([state[mask].float().cpu() for state in states])
        return tokens(some)

    @cache
    def bridge() -> Any:
        from transformer_lens.model_bridge import TransformerBridge

        name = options.model or str(Path(__file__).resolve().parent.parent / "data/nano")
        return TransformerBridge.boot_transformers(
            name, hf_model=model, tokenizer=tokenizer, device=options.device
        )

    @torch.inference_mode()
    def bridged(_folder: Path, some: Any) -> int:
        kept = []
        outputs = {f"blocks.{at}.hook_out" for at in range(len(blocks))}
        for batch in batches_of(some):
            mask = batch.attention_mask
            _, states = bridge().run_with_cache(
                batch.input_ids,
                attention_mask=mask.long(),
                names_filter=outputs.__contains__,
                return_type=None,
            )
            kept.append([states[place][mask].float().cpu() for place in sorted(outputs)])
        return tokens(some)

    return {
        "nnsight": traced,
        "transformer_lens": bridged,
        "bare": bare,
        "mmie": mmie(None),
        "mmie one block": mmie((len(blocks) // 2,)),
        "hidden_states": stacked(decoder),
        "causal_lm": stacked(model),
    }


def blocks_path(decoder: Any, blocks: Any) -> str:
    """Name of the list of blocks within the decoder."""
    return next(name for name, module in decoder.named_modules() if module is blocks)


if __name__ == "__main__":
    main()
