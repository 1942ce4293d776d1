import numpy as np
import pandas as pd
import pytest

from mmie.activations.probes import ProbeTask, probe
from mmie.depth.cost import model_cost
from mmie.depth.measure import MEASURES, WHOLE_MODEL, DepthOptions, measure_depth
from mmie.depth.summary import representation_changed
from mmie.interventions import FitData, assert_restored, build


@pytest.fixture
def items(toy_rows) -> pd.DataFrame:
    right = toy_rows("xx", 12).assign(right=True)
    return pd.concat([right, right.assign(right=False, answer=np.roll(right["answer"], 3))])


@pytest.fixture
def nothing(toy_model):
    arm = build({"kind": "none"})
    arm.fit(toy_model, FitData(), seed=0)
    return arm


def test_every_measure_has_a_value_at_every_layer(toy_model, toy_tokenizer, items, nothing) -> None:
    with assert_restored(toy_model):
        table = measure_depth(toy_model, toy_tokenizer, nothing, items, DepthOptions(draws=2))
    layers = table[table["layer"] != WHOLE_MODEL]
    assert set(map(tuple, layers[["layer", "measure"]].to_numpy())) == {
        (layer, name) for layer in (0, 1) for name in MEASURES
    }
    assert np.isfinite(table["value"]).all()


@pytest.mark.regression("EVA-17")
def test_zero_noise_gives_zero_effect_at_every_layer_and_draw(
    toy_model, toy_tokenizer, items, nothing
) -> None:
    table = measure_depth(toy_model, toy_tokenizer, nothing, items, DepthOptions(draws=3, noise=0.0))
    effects = table[table["measure"].isin(["perturbation_effect", "perturbation_sd"])]
    assert len(effects) == 4 and (effects["value"] == 0.0).all()


def test_base_patched_into_itself_keeps_its_probability(toy_model, toy_tokenizer, items, nothing) -> None:
    table = measure_depth(toy_model, toy_tokenizer, nothing, items, DepthOptions(draws=1))
    of = {name: part.set_index("layer")["value"] for name, part in table.groupby("measure")}
    assert of["patched_log_p"][0] == of["patched_log_p"][1] == pytest.approx(of["lens_log_p"][1], abs=1e-6)


def test_two_measurements_are_equal(toy_model, toy_tokenizer, items, nothing) -> None:
    first, again = (
        measure_depth(toy_model, toy_tokenizer, nothing, items, DepthOptions(draws=2)) for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.regression("EVA-13")
def test_working_probe_is_no_change_and_an_erased_signal_is() -> None:
    rng = np.random.default_rng(7)
    positive = np.arange(200) % 2 == 0
    task = ProbeTask(positive=positive, group=np.arange(200) // 2, kind=np.arange(200) % 40)
    noise = rng.normal(size=(200, 8))
    signal = noise + np.outer(np.where(positive, 3.0, -3.0), np.eye(8)[0])

    def selectivity(vectors: np.ndarray) -> dict[int, float]:
        return {0: probe(vectors, task, np.random.default_rng(1)).selectivity}

    base = selectivity(signal)
    assert base[0] > 0.3
    assert not representation_changed(base, selectivity(signal))
    # A rotation moves everything and removes nothing; a random direction removes next to nothing.
    rotation, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    assert not representation_changed(base, selectivity(signal @ rotation))
    random = rotation[:, 0] - rotation[0, 0] * np.eye(8)[0]
    random /= np.linalg.norm(random)
    assert not representation_changed(base, selectivity(signal - np.outer(signal @ random, random)))
    assert representation_changed(base, selectivity(signal * (np.eye(8)[0] == 0)))


@pytest.mark.regression("EVA-31")
def test_cost_of_doing_nothing_is_no_changed_parameter_and_a_time(
    toy_model, toy_tokenizer, items, nothing
) -> None:
    change, seconds = model_cost(toy_model, toy_tokenizer, nothing, items["prompt"].tolist(), batch=4)
    assert (change.changed, change.added) == (0, 0)
    assert seconds > 0
