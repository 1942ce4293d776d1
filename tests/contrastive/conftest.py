from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mmie.data.triples import Triple


@pytest.fixture
def make_triples() -> Callable[..., list[Triple]]:
    """Triples of toy words, each prompt and answer of another length."""

    def make(count: int = 6, **fields: Any) -> list[Triple]:
        triples = []
        for number in range(count):
            words = [f"w{4 + (7 * number + place) % 60}" for place in range(14)]
            triple = Triple(
                triple_id=f"t{number}", template_id=f"q{number}", forget_id=f"fact{number}",
                family="role_play", lang_a="en", lang_p="en", lang_x="xx", script_a="Latn", script_p="Latn",
                script_x="Latn", system="", anchor=" ".join(words[: 2 + number % 3]),
                counterfactual=" ".join(words[3 : 5 + number % 2]),
                adversarial=" ".join(words[6 : 7 + number % 4]), anchor_response=words[10],
                adversarial_response=" ".join(words[11 : 12 + number % 3]), cf_kind="paraphrase",
                cf_response=words[10], context="", file="triples.jsonl", line=number + 1, split="fit",
                cell="fit",
            )  # fmt: skip
            triples.append(replace(triple, **fields))
        return triples

    return make
