from __future__ import annotations

import gc
import importlib.util
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.errors import InputError
from mmie.models.hooks import edit
from mmie.training import loop
from mmie.training.loop import train
from mmie.training.memory import (
    Shape,
    arm_megabytes,
    check_budget,
    count_parameters,
    job_megabytes,
    lora_parameters,
    plan_memory,
)
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings

ROOT = Path(__file__).parents[2]
NANO = ROOT / "data/nano"
SHAPE = Shape(
    parameters=1000, trained=100, rows=2, tokens=5, answer_tokens=6, width=10, inner=20, blocks=4,
    vocabulary=50,
)  # fmt: skip


def with_rows(rows: int) -> Shape:
    """Three answer tokens a row."""
    return replace(SHAPE, rows=rows, answer_tokens=3 * rows)


@pytest.mark.regression("MEM-08")
def test_every_term_has_the_value_computed_by_hand() -> None:
    plan = plan_memory(SHAPE)
    assert plan.terms() == {
        "weights": 4000,
        "adapter": 400,
        "gradients": 400,
        "optimiser": 800,
        # 2 rows, 5 tokens, 4 blocks, (10.4 * 10 + 4 * 20) values of 4 bytes.
        "activations": 29440,
        # 3 copies of 6 * 50 float32.
        "logits": 3600,
        "reference": 0,
        "workspace": 1652,
    }
    assert plan.total == 4000 + 400 + 400 + 800 + 29440 + 3600 + 1652


@pytest.mark.regression("MEM-07")
def test_parameters_are_counted_whatever_the_model_is_called(tmp_path: Path, toy_model: Any) -> None:
    toy_model.save_pretrained(tmp_path / "a-7b-model-that-is-not")
    assert count_parameters(tmp_path / "a-7b-model-that-is-not") == toy_model.num_parameters()
    with pytest.raises(InputError, match="no safetensors file"):
        count_parameters(tmp_path)


def test_adapters_are_counted_exactly(toy_model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = toy_model.config.to_dict()
    wrapped = get_peft_model(toy_model, LoraConfig(r=3, target_modules=targets))
    assert lora_parameters(config, rank=3, layers=2) == wrapped.get_nb_trainable_parameters()[0]


@pytest.mark.regression("MEM-09")
@given(rows=st.integers(1, 60), tokens=st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_what_a_step_holds_is_linear_in_its_rows_and_grows_with_everything(rows: int, tokens: int) -> None:
    one = replace(with_rows(rows), tokens=tokens)
    fixed = plan_memory(replace(with_rows(0), tokens=tokens)).total
    tripled = plan_memory(replace(with_rows(3 * rows), tokens=tokens)).total - fixed
    assert tripled == pytest.approx(3 * (plan_memory(one).total - fixed), abs=6)
    for name, value in asdict(one).items():
        assert plan_memory(replace(one, **{name: value + 1})).total >= plan_memory(one).total


@pytest.mark.regression("MEM-09")
def test_a_batch_above_the_budget_is_refused_in_advance_and_the_remedy_fits() -> None:
    budget = plan_memory(with_rows(7)).total
    assert check_budget(with_rows(7), budget).total == budget
    with pytest.raises(InputError, match="Set micro_batch to 7 or less"):
        check_budget(with_rows(21), budget)
    with pytest.raises(InputError, match="Not even one row fits"):
        check_budget(SHAPE, 100)


def test_a_configuration_without_a_size_is_refused() -> None:
    with pytest.raises(InputError, match="no vocab_size"):
        Shape.of({"hidden_size": 8, "num_hidden_layers": 2}, 10, 1, 1, 1, 1)


def test_the_memory_of_a_job_is_at_hand_without_loading_a_model() -> None:
    asked = job_megabytes(NANO, trained=80_000, rows=32, tokens=30, answer_tokens=32 * 9)
    assert 700 < asked < 1000


LORA = {
    "kind": "lora", "rank": 8, "dora": False, "targets": ["q_proj", "v_proj"],
    "training": {
        "forget_batch": 32, "retain_batch": 16, "micro_batch": None, "reference": "adapter_off",
        "reference_top": None,
    },
}  # fmt: skip


def test_the_job_of_an_arm_asks_for_more_than_one_was_measured_to_take() -> None:
    """671 MB: largest resident set of the LoRA jobs of the default experiment, rows of up to 35 tokens."""
    asked = arm_megabytes(NANO, LORA, longest=35, rows=3872)
    assert asked is not None and 671 < asked < 1500
    longer = arm_megabytes(NANO, LORA, longest=200, rows=3872)
    smaller = arm_megabytes(NANO, _changed(micro_batch=4), longest=200, rows=3872)
    assert longer is not None and smaller is not None and asked < longer and smaller < longer
    cached = arm_megabytes(NANO, _changed(reference="cached"), longest=35, rows=3872)
    assert cached is not None and cached - asked == pytest.approx(1.25 * 3872 * 35 * 4 * 128 / 1e6, abs=1)
    # 3872 rows of 3500 tokens would be 7 GB: the loop refuses more than 512 MiB.
    capped = arm_megabytes(NANO, _changed(reference="cached"), longest=3500, rows=3872)
    uncached = arm_megabytes(NANO, LORA, longest=3500, rows=3872)
    assert capped is not None and uncached is not None
    assert capped - uncached == pytest.approx(1.25 * 512 * 2**20 / 1e6, abs=1)
    lumped = arm_megabytes(NANO, _changed(reference="cached", reference_top=64), longest=35, rows=3872)
    assert lumped is not None and lumped - asked == pytest.approx(1.25 * 3872 * 35 * 516 / 1e6, abs=1)


@pytest.mark.parametrize(("scale", "numbers"), [(1.0, 128), (0.25, 4096)])
def test_distributions_are_planned_where_logits_are_scaled(
    tmp_path: Path, scale: float, numbers: int
) -> None:
    shutil.copytree(NANO, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "logit_scale": scale}))
    asked = arm_megabytes(tmp_path, LORA, longest=10, rows=100)
    cached = arm_megabytes(tmp_path, _changed(reference="cached"), longest=10, rows=100)
    assert asked is not None and cached is not None
    assert cached - asked == pytest.approx(1.25 * 1000 * 4 * numbers / 1e6, abs=1)


def test_the_edit_of_the_stream_has_a_plan_and_what_was_never_measured_has_none() -> None:
    reft = {"kind": "reft", "rank": 16, "training": LORA["training"]}
    assert arm_megabytes(NANO, reft, longest=35, rows=10) is not None
    none = [
        {"kind": "leace"}, {**reft, "kind": "full"}, {**LORA, "dora": True}, {**LORA, "targets": ["c_attn"]},
    ]  # fmt: skip
    assert [arm_megabytes(NANO, arm, longest=35, rows=10) for arm in none] == [None] * 4
    assert arm_megabytes("Qwen/Qwen2.5-0.5B", LORA, longest=35, rows=10) is None


def _changed(**training: Any) -> dict[str, Any]:
    return {**LORA, "training": {**LORA["training"], **training}}


@pytest.mark.parametrize("rows", [8, 24])
def test_the_plan_is_within_a_quarter_of_the_measured_peak(rows: int) -> None:
    """On the shipped model, NPO and KL on LoRA adapters; the profiler counts the bytes of all tensors."""
    source = ROOT / "bench/training.py"
    spec = importlib.util.spec_from_file_location("bench_training", source)
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    steps, kept, shape = bench.build_steps(rows)
    for name in ("mmie", "plain"):
        steps[name]()
    measured = bench.peak_bytes(steps["mmie"]) + kept["mmie"]
    assert plan_memory(shape).total == pytest.approx(measured, rel=0.25)
    plain = bench.peak_bytes(steps["plain"]) + kept["plain"]
    assert measured <= 1.15 * plain
    assert shape.parameters == count_parameters(NANO)
    config = json.loads((NANO / "config.json").read_text())
    assert shape.trained == lora_parameters(config, rank=8, layers=4)


@pytest.mark.regression("MEM-10")
def test_no_tensor_outlives_its_step(
    toy_model: Any, shift: Any, toy_sets: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at the start of every step, over three epochs of three steps."""
    counts: list[int] = []
    original = loop.take_step

    def counting(*given: Any) -> Any:
        gc.collect()
        counts.append(sum(isinstance(item, torch.Tensor) for item in gc.get_objects()))
        return original(*given)

    monkeypatch.setattr(loop, "take_step", counting)
    options = TrainingSettings(steps=None, epochs=3, forget_batch=4, retain_batch=4, learning_rate=0.05)
    with edit(toy_model, {0: shift}):
        train(toy_model, {"v": shift.vector}, toy_sets, options, seed=1)
    assert len(counts) == 9
    assert len(set(counts[3:])) == 1


@pytest.mark.regression("TRN-34")
def test_each_seed_and_each_configuration_has_a_checkpoint_folder_of_its_own(
    tmp_path: Path, toy_model: Any, shift: Any, toy_sets: TrainingSets
) -> None:
    options = TrainingSettings(
        steps=2, forget_batch=4, retain_batch=4, checkpoint_every=2, learning_rate=0.05
    )
    for identity in ({"seed": 1, "beta": 0.1}, {"seed": 2, "beta": 0.1}, {"seed": 1, "beta": 0.2}):
        torch.nn.init.zeros_(shift.vector)
        with edit(toy_model, {0: shift}):
            more = {"checkpoints": tmp_path, "identity": identity}
            train(toy_model, {"v": shift.vector}, toy_sets, options, seed=1, **more)
    assert len(list(tmp_path.glob("*/step-00000002/parameters.safetensors"))) == 3
