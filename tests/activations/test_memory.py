"""What a run keeps in memory must not depend on how much it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")
LAYERS, WIDTH, WORDS = 16, 64, 3
FEW, MANY = 1_000, 10_000


@pytest.mark.skipif(not STATUS.exists(), reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_by_the_activations_of_ten_times_the_items() -> None:
    """Token rows of the many are 123 MB, sentence means 41 MB: neither may stay. 13 to 20 MB were seen."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, check=True, capture_output=True, text=True
    )
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert peaks["rows"] == MANY * WORDS
    assert peaks["many"] - peaks["few"] < 36, f"MB: {peaks}"


def measure() -> None:
    """Peak memory of this process in MB after few items, and after ten times as many."""
    import pandas as pd
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from mmie.activations.extract import ExtractionOptions, extract_language

    torch.set_num_threads(1)
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{at}" for at in range(60))]
    raw = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    shape = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **shape, **heads)).eval()
    rows = pd.DataFrame({"example_id": [f"e{at}" for at in range(MANY)], "split": "fit", "answer": "w3"})
    rows["prompt"] = [f"w{at % 60} w{at % 59}" for at in range(MANY)]
    found = {}
    for name, count in (("few", FEW), ("many", MANY)):
        with tempfile.TemporaryDirectory() as folder:
            options = ExtractionOptions(token_budget=1024, identity={"model": "random"})
            report = extract_language(model, tokenizer, rows.head(count), Path(folder) / "xx", options)
        found[name] = _peak_megabytes()
    print(json.dumps({**found, "rows": report["rows"]}))


def _peak_megabytes() -> float:
    # getrusage would count the process that started this one.
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    measure()
