"""All scores of a row together, on a real model on the CPU."""

import math
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import mmie.evaluation.table as table_module
from mmie.data.references import accepted_answers
from mmie.data.validation import validate_language
from mmie.evaluation import (
    COLUMNS,
    SCORES,
    Decoding,
    Extras,
    base_distribution,
    choose_prompts,
    evaluate,
    likelihood,
)
from mmie.interventions import FitData, build
from mmie.language.identify import Identifier
from mmie.metrics.confusion import fit_lexicon
from mmie.metrics.outcome import mean_outcome
from mmie.metrics.registry import REGISTRY
from mmie.training.forward import batch_nll

ROOT = Path(__file__).resolve().parents[2]
IDENTIFIER = Identifier({"en": "Latn", "hi": "Deva"}, [], least_words=99)
SHORT = Decoding(max_new_tokens=6, batch_size=4)


def references(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["fact_id", "language", "answer"]]


def full(model, tokenizer, rows, **options) -> pd.DataFrame:
    extras = Extras(
        pool=rows,
        base=base_distribution(model, tokenizer, rows, batch_size=SHORT.batch_size),
        lexicon={"en": {"w4"}},
        **options,
    )
    return evaluate(model, tokenizer, rows, references(rows), IDENTIFIER, decoding=SHORT, extras=extras)


@pytest.mark.regression("EVA-21")
def test_every_score_runs_on_the_cpu_in_float32_and_stays_in_its_range(
    toy_model, toy_tokenizer, facts
) -> None:
    table = full(toy_model, toy_tokenizer, facts())
    assert list(table.columns) == list(COLUMNS)
    assert {parameter.dtype for parameter in toy_model.parameters()} == {torch.float32}
    # Needs a second language in Latin script, which this experiment lacks.
    absent = {"word_pass", "lid_onset_script_blind"}
    for name in SCORES:
        values = table[name].dropna()
        assert len(values) or name in absent, name
        low, high = REGISTRY[name].low, REGISTRY[name].high
        assert low is None or (values >= low - 1e-6).all(), name
        assert high is None or (values <= high + 1e-6).all(), name


@pytest.mark.regression("EVA-20")
def test_score_that_raises_fails_the_evaluation_or_stands_there_as_failed(
    toy_model, toy_tokenizer, facts, monkeypatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such character")

    monkeypatch.setattr(table_module, "overlap_scores", broken)
    with pytest.raises(RuntimeError, match="metric 'overlap' failed: ValueError: no such character"):
        full(toy_model, toy_tokenizer, facts())
    table = full(toy_model, toy_tokenizer, facts(), allow_failed=["overlap"])
    assert table["chrf"].isna().all()
    assert table["missing_reason"].str.contains("chrf: failed: ValueError: no such character").all()
    assert table["leak"].notna().all()


@pytest.mark.regression("EVA-10")
def test_one_batch_of_nan_fails_its_scores_with_counts_and_leaves_the_others(
    toy_model, toy_tokenizer, facts
) -> None:
    rows = facts()
    calls = []

    def poison(_module, _arguments, output):
        calls.append(1)
        if len(calls) == 1:
            output.logits = output.logits * math.nan
        return output

    handle = toy_model.register_forward_hook(poison)
    scores = likelihood(toy_model, toy_tokenizer, rows, batch_size=4)
    handle.remove()
    for name in ("nll_sum", "exact_memorisation", "extraction_strength", "mia_min_k_plus_plus"):
        found = mean_outcome(name, scores[name])
        assert (found.status, found.reason) == ("failed", "4 of 16 values are not finite"), name


@pytest.mark.regression("EVA-10")
def test_row_without_a_finite_loss_says_why(toy_model, toy_tokenizer, facts) -> None:
    toy_model.lm_head.weight.data[9] = math.nan
    table = full(toy_model, toy_tokenizer, facts(), allow_failed=["kl"])
    assert table["answer_probability"].isna().all()
    assert table["missing_reason"].str.contains("answer_probability: the model's loss is not finite").all()


@pytest.mark.regression("EVA-18")
def test_likelihoods_of_a_prompt_arm_see_its_instruction(toy_model, toy_tokenizer, facts) -> None:
    rows = facts()
    arm = build({"kind": "prompt_only", "instruction": "w50 w51 w52"})
    arm.fit(toy_model, FitData(tokenizer=toy_tokenizer), seed=1)
    seen: list[torch.Tensor] = []

    def note(_module, _arguments, given) -> None:
        seen.append(given["input_ids"])

    plain = likelihood(toy_model, toy_tokenizer, rows, batch_size=8)
    handle = toy_model.model.register_forward_pre_hook(note, with_kwargs=True)
    with arm.applied(toy_model) as model:
        told = likelihood(model, toy_tokenizer, rows, batch_size=8)
        passes = len(seen)
        evaluate(model, toy_tokenizer, rows, references(rows), IDENTIFIER, decoding=SHORT)
    handle.remove()
    instruction = torch.tensor([50, 51, 52])
    wide = [ids for ids in seen if ids.shape[1] > 1]
    assert passes == 2 and len(wide) > 2
    for ids in wide:
        assert (ids.unfold(1, 3, 1) == instruction).all(-1).any(-1).all()
    assert plain["nll_sum"] != told["nll_sum"]


@pytest.mark.regression("EVA-26")
def test_training_and_evaluation_give_the_same_loss_to_the_same_rows(toy_model, toy_tokenizer, facts) -> None:
    from mmie.models.prompts import collate, encode_all, padding_id

    rows = facts()
    encoded = encode_all(toy_tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
    with torch.no_grad():
        trained, _ = batch_nll(toy_model, collate(encoded, padding_id(toy_tokenizer)))
    measured = likelihood(toy_model, toy_tokenizer, rows, batch_size=3)["nll_sum"]
    assert measured == pytest.approx(trained.tolist(), rel=1e-5)


@pytest.mark.regression("EVA-25")
def test_rows_of_the_data_stage_are_what_the_evaluation_reads(toy_model, toy_tokenizer, tmp_path) -> None:
    lines = (ROOT / "data" / "atlas" / "en.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    facts = sorted({line.split('"fact_id": "')[1].split('"')[0] for line in lines})[::9]
    kept = [line for line in lines if any(f'"fact_id": "{fact}"' in line for fact in facts)]
    (tmp_path / "en.jsonl").write_text("".join(kept), encoding="utf-8")
    pool, _ = validate_language([tmp_path / "en.jsonl"], "en")
    chosen = choose_prompts(pool, 4)
    table = evaluate(
        toy_model, toy_tokenizer, chosen, accepted_answers([pool]), IDENTIFIER,
        decoding=SHORT, extras=Extras(pool=pool, lexicon=fit_lexicon(pool)),
    )  # fmt: skip
    assert table["example_id"].tolist() == chosen["example_id"].tolist()
    tested = (table["kind"] == "direct") & (table["split"] == "test") & (table["template_split"] == "trained")
    assert tested.any()
    assert table.loc[tested, ["paraphrase_probability", "truth_ratio"]].notna().all(axis=None)


@pytest.mark.regression("EVA-25")
def test_commands_of_the_readme_can_be_parsed() -> None:
    from snakemake.cli import parse_args

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    snakemake ")]
    assert len(commands) >= 4
    for command in commands:
        assert parse_args(shlex.split(command)[1:])
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for target in re.findall(r"^    make (\S+)", text, re.MULTILINE):
        assert target in targets
    for first, script in pairwise(re.findall(r"[\w./]+", text)):
        if first == "python" and script.endswith(".py"):
            assert (ROOT / script).is_file(), script


@pytest.mark.regression("EVA-07")
@pytest.mark.workflow
def test_every_arm_generates_in_every_kept_language_too() -> None:
    """Read off the plan of the default experiment, in a folder of results that does not exist."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--nolock", "--config",
               "experiment=never-run"]  # fmt: skip
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    planned = set(
        re.findall(r"results/never-run/eval/([\w-]+)/seed\d+/(\w+)\.parquet", plan.stdout + plan.stderr)
    )
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    assert set(config["retain"]) < set(config["data"]["corpora"])
    for arm in (*config["arms"], "oracle_reference"):
        assert {language for name, language in planned if name == arm} == set(config["data"]["corpora"]), arm
