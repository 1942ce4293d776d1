"""Trains the classifier of `mmie.language.latin` and counts its confusions.

Needs the training build of fastText, which the project itself does not install: `envs/lid.yaml`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmie.errors import InputError
from mmie.io import seed_from, sha256_file
from mmie.language.latin import LABELS, words_of
from mmie.language.latin_corpus import Example

# A few hundred thousand lines: character n-grams carry it, and pruning to the most useful ones plus
# product quantisation brings it under two megabytes.
SETTINGS: dict[str, Any] = {
    "dim": 16, "minn": 2, "maxn": 4, "bucket": 300_000, "minCount": 5, "epoch": 6, "lr": 0.15,
    "wordNgrams": 1, "loss": "softmax", "thread": 1, "seed": 1,
}  # fmt: skip
CUTOFF = 95_000
PER_LABEL = 160_000


def write_lines(examples: Iterable[Example], file: Path, *, seed: int = 0) -> dict[str, int]:
    """Write shuffled fastText lines, at most `PER_LABEL` a label; returns the lines of each label."""
    by_label: dict[str, list[str]] = {label: [] for label in LABELS}
    for example in examples:
        words = words_of(example.text)
        if words:
            by_label[example.label].append(f"__label__{example.label} {words}\n")
    generator = random.Random(seed_from("lid", "lines", seed))
    lines = []
    for label, own in by_label.items():
        if not own:
            raise InputError(f"language classifier: no training text for {label!r}. Check the packages.")
        lines += generator.sample(own, min(len(own), PER_LABEL))
    generator.shuffle(lines)
    file.write_text("".join(lines), encoding="utf-8")
    return dict(sorted(Counter(line.split(" ", 1)[0].removeprefix("__label__") for line in lines).items()))


def train(lines: Path, model: Path) -> dict[str, object]:
    """Train, prune and quantise; returns the settings and hashes that the model card records."""
    try:
        from fasttext import train_supervised
    except ImportError as error:
        raise InputError(
            f"the installed fasttext cannot train ({error}). Use the environment envs/lid.yaml."
        ) from error
    classifier = train_supervised(input=str(lines), verbose=0, **SETTINGS)
    classifier.quantize(input=str(lines), cutoff=CUTOFF, retrain=True, qnorm=True, qout=False, thread=1)
    classifier.save_model(str(model))
    return {
        "settings": SETTINGS, "cutoff": CUTOFF, "lines_sha256": sha256_file(lines),
        "model_sha256": sha256_file(model), "model_bytes": model.stat().st_size,
    }  # fmt: skip
