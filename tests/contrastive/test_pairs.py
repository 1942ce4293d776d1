"""Which triples may be trained on: requested facts, FIT texts, pairs of one meaning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mmie.contrastive.pairs import fit_triples, shuffled, with_benign
from mmie.data.triples import Triple, read_triples
from mmie.errors import InputError

ATLAS = Path("data/atlas")
Make = Callable[..., list[Triple]]


@pytest.fixture
def retain() -> pd.DataFrame:
    """Three FIT facts, the first two told in two languages, the third in two wordings of one."""
    rows = [
        ("capital/FR", "en", "Latn", "What is the capital of France?", "Paris"),
        ("capital/FR", "bn", "Beng", "ফ্রান্সের রাজধানী কী?", "প্যারিস"),
        ("capital/IT", "en", "Latn", "What is the capital of Italy?", "Rome"),
        ("capital/IT", "bn", "Beng", "ইতালির রাজধানী কী?", "রোম"),
        ("capital/ES", "en", "Latn", "What is the capital of Spain?", "Madrid"),
        ("capital/ES", "en", "Latn", "Name the capital of Spain.", "Madrid"),
    ]
    return pd.DataFrame(rows, columns=["fact_id", "language", "script", "prompt", "answer"])


def test_benign_pairs_are_two_fit_wordings_of_one_fact(make_triples: Make, retain: pd.DataFrame) -> None:
    paired = with_benign(make_triples(6), retain, "fit_rows")
    fact = dict(zip(retain["prompt"], retain["fact_id"], strict=True))
    answer = dict(zip(retain["prompt"], retain["answer"], strict=True))
    for triple in paired:
        assert fact[triple.anchor] == fact[triple.counterfactual]
        assert triple.anchor != triple.counterfactual
        assert triple.anchor_response == answer[triple.anchor]
        assert triple.cf_response == answer[triple.counterfactual]
        assert triple.cf_kind == ("paraphrase" if triple.lang_a == triple.lang_p else "translation")
    assert with_benign(make_triples(6), retain, "fit_rows") == paired


def test_an_attack_never_holds_the_answer_to_its_anchor(make_triples: Make, retain: pd.DataFrame) -> None:
    triples = make_triples(6, adversarial="Paris rome or madrid w5?")
    paired = with_benign([triples[0]], retain, "fit_rows")
    assert paired[0].anchor_response in ("প্যারিস", "রোম")


def test_pairs_about_facts_that_are_measured_are_left_out(make_triples: Make, retain: pd.DataFrame) -> None:
    given = make_triples(
        1,
        anchor="What is the capital of Spain?",
        counterfactual="Name the capital of Spain.",
        anchor_response="Madrid",
        cf_response="Madrid",
    )
    assert with_benign([*given, *make_triples(3)], retain, "as_given") == given
    with pytest.raises(InputError, match="no benign pair consists of FIT rows"):
        with_benign(make_triples(3), retain, "as_given")


def test_shuffling_gives_every_anchor_a_twin_of_another_triple(make_triples: Make) -> None:
    triples = make_triples(7)
    mixed = shuffled(triples, "counterfactual", seed=1)
    own = {(triple.anchor, triple.counterfactual) for triple in triples}
    assert not own & {(triple.anchor, triple.counterfactual) for triple in mixed}
    assert sorted(t.counterfactual for t in mixed) == sorted(t.counterfactual for t in triples)
    answers = {triple.counterfactual: triple.cf_response for triple in triples}
    assert all(answers[triple.counterfactual] == triple.cf_response for triple in mixed)
    assert [triple.adversarial for triple in mixed] == [triple.adversarial for triple in triples]
    attacks = shuffled(triples, "adversarial", seed=1)
    assert all(one.adversarial != two.adversarial for one, two in zip(attacks, triples, strict=True))
    assert shuffled(triples, None, seed=1) == triples


def test_shipped_triples_of_requested_facts_alone_are_fitted_on() -> None:
    files = [ATLAS / "triples/hi.jsonl", ATLAS / "triples/hi_Latn.jsonl"]
    facts = sorted({triple.forget_id for file in files for triple in read_triples(file).triples})
    requested = set(facts[::2])
    chosen = fit_triples(files, requested)
    assert chosen and {triple.forget_id for triple in chosen} <= requested
    trained = {triple.template_id for triple in chosen}
    others = {t.template_id for f in files for t in read_triples(f).triples} - trained
    assert others
    with pytest.raises(InputError):
        fit_triples(files, set())
