"""The attacks that only read a model, one after the other on one loaded model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
from torch import nn

from mmie.attacks.detach import detach
from mmie.attacks.quantise import ROUNDING, Precision, quantise
from mmie.attacks.rewrite import Material, rewrite
from mmie.attacks.rows import scored_rows
from mmie.attacks.scoring import Probability, Score
from mmie.attacks.steer import steer
from mmie.interventions.interface import Intervention

ATTACKS = ("int8", "int4", "rewrite", "steer", "detach")


@dataclass(frozen=True)
class Target:
    """What is attacked, and how it is scored."""

    model: nn.Module
    tokenizer: Any
    intervention: Intervention
    score: Score
    probability: Probability
    seed: int
    batch_size: int = 64


def attacked(
    target: Target,
    options: Mapping[str, Any],
    corpus: Mapping[str, pd.DataFrame],
    references: pd.DataFrame,
    *,
    forget: Sequence[str],
    retain: Sequence[str],
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Run every configured attack.

    Args:
        target: what is attacked.
        options: the section `attacks` of the configuration, with `items` and the wanted attacks.
        corpus: cleaned rows of the forget and retain languages.
        references: accepted answers of every fact.
        forget: forget languages.
        retain: retain languages.

    Yields:
        Name of a table and the table: of every attack, and of `rewrite_variants` and `steer_random`.
    """
    frames = [corpus[language] for language in forget]
    rows = scored_rows(frames, options["items"])
    shared = (target.model, target.intervention)
    for name in (name for name in ATTACKS if options.get(name) is not None):
        if name in ROUNDING:
            precision = cast(Precision, name)
            yield name, quantise(*shared, rows, precision=precision, score=target.score)
        elif name == "detach":
            yield name, detach(*shared, rows, score=target.score)
        elif name == "rewrite":
            settings = dict(options[name])
            variants, items = settings.pop("variants"), settings.pop("items")
            material = Material(corpus, retain, references, target.tokenizer, **settings)
            asked = scored_rows(frames, items)
            means, every = rewrite(*shared, asked, material, variants=variants, score=target.score)
            yield name, means
            yield "rewrite_variants", every
        else:
            yield from _steered(target, options[name], frames, rows)


def _steered(
    target: Target, options: Mapping[str, Any], frames: list[pd.DataFrame], rows: pd.DataFrame
) -> Iterator[tuple[str, pd.DataFrame]]:
    attack, control = steer(
        target.model,
        target.tokenizer,
        target.intervention,
        scored_rows(frames, options["dev_items"], "dev"),
        rows,
        strengths=options["strengths"],
        layers=options["layers"],
        batch_size=target.batch_size,
        seed=target.seed,
        score=target.score,
        probability=target.probability,
    )
    yield "steer", attack
    yield "steer_random", control
