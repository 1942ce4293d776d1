import math

import pytest
import torch

from mmie.evaluation.forced import likelihood
from mmie.evaluation.truth import questions_of, truth_scores


def test_wrong_answers_are_other_facts_of_the_same_relation_and_the_same_for_every_arm(facts) -> None:
    pool = facts(count=8)
    pool.loc[pool["fact_id"] == "fact7", "relation"] = "city"
    questions = questions_of(pool, ["fact0", "fact1"], 3)
    own = pool[pool["fact_id"] == "fact0"]
    prompt, (right, *wrong) = questions["fact0"]
    assert prompt == own[own["template_split"] == "held_out"]["prompt"].item()
    assert right == own["answer"].iloc[0]
    assert len(set(wrong)) == 3 and right not in wrong
    assert not set(wrong) & set(pool[pool["relation"] == "city"]["answer"])
    assert questions_of(pool.sample(frac=1, random_state=5), ["fact0", "fact1"], 3) == questions


def test_scores_equal_the_probabilities_of_rows_made_by_hand(toy_model, toy_tokenizer, facts) -> None:
    pool = facts()
    rows = pool[pool["template_split"] == "trained"].reset_index(drop=True)
    scores = truth_scores(toy_model, toy_tokenizer, rows, pool, batch_size=5)
    prompt, answers = questions_of(pool, ["fact0"], 3)["fact0"]
    by_hand = rows.iloc[[0] * 4].assign(prompt=prompt, answer=answers)
    right, *wrong = likelihood(toy_model, toy_tokenizer, by_hand, batch_size=2)["answer_probability"]
    ratio = (wrong[0] * wrong[1] * wrong[2]) ** (1 / 3) / right
    assert scores["paraphrase_probability"][0] == pytest.approx(right, rel=1e-5)
    assert scores["truth_ratio"][0] == pytest.approx(ratio, rel=1e-5)
    assert scores["truth_preference"][0] == pytest.approx(1 / (1 + ratio), rel=1e-5)


def test_only_test_facts_in_a_trained_wording_are_measured(toy_model, toy_tokenizer, facts) -> None:
    pool = facts()
    scores = truth_scores(toy_model, toy_tokenizer, pool, pool, batch_size=8)
    measured = [not math.isnan(value) for value in scores["paraphrase_probability"]]
    wanted = (pool["split"] == "test") & (pool["template_split"] == "trained")
    assert measured == wanted.tolist()


def test_fact_without_another_wording_has_no_paraphrase_and_costs_no_pass(
    toy_model, toy_tokenizer, facts
) -> None:
    rows = facts().query("template_split == 'trained'").reset_index(drop=True)

    def refuse(*_: object) -> None:
        raise AssertionError("the model ran")

    toy_model.register_forward_pre_hook(refuse)
    scores = truth_scores(toy_model, toy_tokenizer, rows, rows, batch_size=8)
    assert all(math.isnan(value) for values in scores.values() for value in values)
    assert torch.is_grad_enabled()
