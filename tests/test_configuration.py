"""The configuration is typed once, and its errors name the key, the value and the nearest known key."""

from __future__ import annotations

import pytest
import yaml

from mmie import schema
from mmie.configuration import DEFAULT_FILE, Configuration, read_configuration
from mmie.errors import InputError

ROOT = DEFAULT_FILE.parent.parent


def default() -> dict:
    return yaml.safe_load(DEFAULT_FILE.read_text())


def test_forget_means_every_script_of_the_language():
    assert read_configuration(default()).forget_languages == ["hi", "hi_Latn"]


def test_another_forget_language_is_one_changed_value():
    configuration = read_configuration({**default(), "forget": "pa"})
    assert configuration.forget_languages == ["pa"]
    assert "hi" in configuration.neighbour_languages
    assert configuration.roles["forget_other_scripts"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forgett": "hi"}, r"forgett: unknown key. Did you mean 'forget'\?"),
        ({"seeds": "one"}, r"seeds: .*list.*'one'"),
        ({"forget": "fr"}, "forget: 'fr' has no corpus"),
        ({"retain": ["hi"]}, "retain: 'hi' is also a forget language"),
        ({"neighbours": ["xx"]}, "neighbours: 'xx' has no corpus"),
        ({"negatives": ["en"]}, "negatives: 'en' is no neighbour. Name it in neighbours"),
        ({"negatives": ["pa"], "neighbours": ["ur"]}, "negatives: 'pa' is no neighbour"),
        ({"activations": {"layers": [1, 1]}}, "activations.layers: .*a block comes twice. Name each once"),
        (
            {"activations": {"layers": [2, 1]}, "arms": {"cut": {"kind": "leace", "layers": [3]}}},
            r"arms.cut.layers: \[3\] is not in activations.layers \[1, 2\]. Add blocks there",
        ),
        (
            {"activations": {"layers": [1]}, "arms": {"cut": {"kind": "leace", "layers": "all"}}},
            r"arms.cut.layers: 'all' is not in activations.layers \[1\]. null reads all",
        ),
        (
            {
                "activations": {"layers": [1]},
                "arms": {"cut": {"kind": "leace"}},
                "sweep": {"arms": {"cut": {"grid": {"layers": [[1], [3]]}}}},
            },
            r"sweep.arms.cut.layers: \[3\] is not in activations.layers \[1\]",
        ),
        ({"activations": {"layers": [1]}, "layers": {"top": 2}}, r"\[1\] are fewer than layers.top 2"),
        ({"statistics": {"resamples": 10}}, r"statistics.resamples: .*1000.*\(got 10\)"),
        ({"arms": {"x": {"kind": "lora", "rnk": 4}}}, "rnk: unknown key. Did you mean 'rank'"),
        ({"experiment": "../away"}, "experiment: .*pattern"),
        ({"layers": {"weights": {"ckaa": 1}}}, "weights.ckaa: unknown key. Did you mean 'cka'"),
        ({"layers": {"weights": {"cka": -1}}}, r"weights.cka: .*greater than or equal to 0 \(got -1\)"),
        ({"layers": {"weights": {"similarity": 0, "selectivity": 0}}}, "layers: .*both 0"),
        (
            {"layers": {"method": "shared", "weights": {"cka": 0, "procrustes": 0, "anc": 0}}},
            "cka, procrustes and anc are all 0",
        ),
        ({"layers": {"pairs": 20}}, "layers.pairs: 20 pairs decide nothing: give at least 50, or 0"),
        ({"model": {"oracle": {"reference_seed": 2, "arm_seed": 2}}}, "must differ"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(change, message):
    with pytest.raises(InputError, match=message):
        read_configuration({**default(), **change}, "my.yaml")


def test_every_problem_has_its_own_line_and_names_the_file():
    with pytest.raises(InputError) as caught:
        read_configuration({**default(), "forgett": 1, "seeds": "one"}, "my.yaml")
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("my.yaml: ") for line in lines)


def test_arms_that_need_no_activations_may_lie_in_blocks_that_are_not_read():
    arms = {"adapter": {"kind": "reft", "layers": [3]}, "cut": {"kind": "leace", "layers": [1]}}
    configuration = read_configuration({**default(), "activations": {"layers": [2, 1]}, "arms": arms})
    assert configuration.activations.layers == [1, 2]
    assert configuration.arms["adapter"].layers == [3]


def test_negatives_are_neighbours_and_stay_measured():
    assert read_configuration(default()).negative_languages == ["ur", "pa"]
    assert read_configuration({**default(), "negatives": []}).negative_languages == []
    configuration = read_configuration({**default(), "negatives": "ur"})
    assert configuration.negative_languages == ["ur"]
    assert configuration.neighbour_languages == ["ur", "pa"]


def test_null_removes_an_arm_and_a_corpus():
    raw = default()
    raw["arms"]["lora-npo"] = None
    raw["data"]["corpora"]["ur"] = None
    configuration = read_configuration(raw)
    assert "lora-npo" not in configuration.arms
    assert configuration.neighbour_languages == ["pa"]


def test_every_key_has_a_sentence():
    for section in schema.sections(Configuration):
        for name, field in section.model_fields.items():
            if name not in {"kind", "languages", "test"}:
                assert field.description, f"{section.__name__}.{name}"


@pytest.mark.regression("REP-09")
def test_schema_and_page_are_up_to_date():
    assert (ROOT / "config" / "schema.yaml").read_text() == schema.schema_yaml(), "run `make schema`"
    assert (ROOT / "docs" / "configuration.md").read_text() == schema.documentation(), "run `make schema`"
