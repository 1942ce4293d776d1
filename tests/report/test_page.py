"""The page says what the results say, shows foreign text safely, and fetches nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.io import write_json, write_parquet
from mmie.report.costs import arm_costs, stage_costs
from mmie.report.inputs import ReportInputs, choose_samples, read_inputs
from mmie.report.page import build_report

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Outline(HTMLParser):
    """Collects tags and text; complains about tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)


def outline(page: str) -> Outline:
    parser = Outline()
    parser.feed(page)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def page(synthetic: ReportInputs) -> str:
    return build_report(synthetic)


def test_the_page_is_one_well_nested_small_file_without_scripts_or_addresses(page: str) -> None:
    found = outline(page)
    assert len(page) < 1_000_000
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "img", "base", "form"}
    for _, attributes in found.tags:
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "url(" not in page and "@import" not in page
    assert set(re.findall(r"https?://[^\"' <]+", page)) <= {"http://www.w3.org/2000/svg"}


def test_sections_come_in_the_order_of_the_question(page: str) -> None:
    order = "read leak states transfer attack gates kept language membership depth cost layers sae samples"
    order += " data statistics limits made"
    assert re.findall(r'<section id="(\w+)"', page) == order.split()
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_same_results_same_bytes(synthetic: ReportInputs, page: str) -> None:
    assert build_report(synthetic) == page


def test_verdicts_and_calibration_stand_above_everything(synthetic: ReportInputs, page: str) -> None:
    top = page[: page.index('id="read"')]
    assert "Calibration holds." in top
    for arm in synthetic.studied:
        decision = synthetic.gates["arms"][arm]["decision"]
        chip = rf'<span class="chip \w+">{decision}</span></div>\s*<div>\s*'
        assert re.search(rf'{chip}<p class="said"><span class="name">{arm}<', top)


def test_an_uncalibrated_run_says_so_first(synthetic: ReportInputs) -> None:
    check = {"held": False, "expected": "PROCEED", "found": "STOP for utility_loss"}
    reasons = ["oracle should PROCEED: STOP for x"]
    calibration = {"calibrated": False, "reasons": reasons, "checks": {"oracle": check}}
    page = build_report(replace(synthetic, gates={**synthetic.gates, "calibration": calibration}))
    assert "Uncalibrated." in page and "Calibration holds" not in page
    assert "oracle should PROCEED" in page


def with_generation(inputs: ReportInputs, text: str) -> ReportInputs:
    return replace(inputs, samples=inputs.samples.assign(generation=text))


@pytest.mark.parametrize("text", [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</span></dd></dl><h1>x",
    "{{ 7 * 7 }}", "&lt;b&gt;",
])  # fmt: skip
def test_text_that_a_model_wrote_stays_text(synthetic: ReportInputs, text: str) -> None:
    found = outline(build_report(with_generation(synthetic, text)))
    assert text in found.words
    assert not {"script", "img"} & {tag for tag, _ in found.tags}


def test_right_to_left_text_is_isolated_and_tagged_with_its_language(synthetic: ReportInputs) -> None:
    hostile = "\u202eہندی\u202c <b>"
    found = outline(build_report(with_generation(synthetic, hostile)))
    assert hostile in found.words
    urdu = [attributes for tag, attributes in found.tags if tag == "dd" and attributes.get("lang") == "ur"]
    assert urdu and all(attributes["dir"] == "auto" for attributes in urdu)
    romanised = [attributes for tag, attributes in found.tags if attributes.get("lang") == "hi-Latn"]
    assert romanised


@pytest.mark.regression("REP-06")
def test_nan_never_reaches_the_page(synthetic: ReportInputs) -> None:
    metrics = synthetic.metrics.assign(ci_low=float("nan"), ci_high=float("inf"))
    tests = synthetic.tests.assign(p=float("nan"), q=None)
    page = build_report(replace(synthetic, metrics=metrics, tests=tests))
    said = " ".join(outline(page).words)
    assert not re.search(r"\b(nan|inf|None|NaT)\b", said)


@pytest.mark.regression("REP-03")
def test_an_empty_result_has_no_numbers(empty: ReportInputs) -> None:
    page = build_report(empty)
    for section in ("states", "kept", "transfer", "sae", "samples"):
        part = page[page.index(f'<section id="{section}"') :]
        part = part[: part.index("</section>")] + "</section>"
        without_svg = re.sub(r"<svg.*?</svg>", "", part, flags=re.S)
        shown = " ".join(outline(without_svg).words)
        assert not re.search(r"\d\.\d|\d %", shown), section


@pytest.mark.regression("REP-17")
def test_an_arm_without_rows_is_listed_as_not_run_and_has_no_numbers(synthetic: ReportInputs) -> None:
    config = {**synthetic.config, "arms": {**synthetic.config["arms"], "ghost": {"kind": "lora"}}}
    page = build_report(replace(synthetic, config=config))
    card = page[page.index(">ghost<") : page.index("</li>", page.index(">ghost<"))]
    assert "NOT RUN" in page and "No results." in card
    assert not re.search(r"\d", re.sub(r"<[^>]+>", "", card))


@pytest.mark.regression("REP-07")
def test_nothing_is_promised_that_was_not_measured(page: str) -> None:
    said = " ".join(outline(page).words).lower()
    for claim in ("success probability", "grade", "crash risk", "estimated time", "confidence score"):
        assert claim not in said


@pytest.mark.regression("REP-04")
def test_numbers_of_the_gate_tables_are_those_of_the_gates(synthetic: ReportInputs) -> None:
    sentinel = 0.7313
    arms = {**synthetic.gates["arms"]}
    gates = {**arms["lora-npo"]["gates"]}
    gates["forget"] = {
        **gates["forget"],
        "estimate": sentinel,
        "p": 0.0371,
        "q": None,
        "status": "not_measured",
    }
    arms["lora-npo"] = {**arms["lora-npo"], "gates": gates}
    page = build_report(replace(synthetic, gates={**synthetic.gates, "arms": arms}))
    row = page[page.index("<summary>lora-npo") :]
    row = re.sub(
        r"<[^>]+>", " ", row[row.index("<tr><th scope") : row.index("</tr>", row.index("<tr><th scope"))]
    )
    for shown in ("0.73", "0.037", "n/m", "not measured"):
        assert shown in row


@pytest.mark.regression("REP-02")
def test_a_removed_key_raises_and_names_it(synthetic: ReportInputs) -> None:
    with pytest.raises(InputError, match="ci_low"):
        replace(synthetic, metrics=synthetic.metrics.drop(columns="ci_low"))
    with pytest.raises(InputError, match="answer_states"):
        replace(
            synthetic,
            extras={name: value for name, value in synthetic.extras.items() if name != "answer_states"},
        )
    with pytest.raises(InputError, match="calibration"):
        replace(synthetic, gates={"experiment": "x", "arms": {}})


@pytest.mark.regression("REP-02")
def test_a_real_small_result_survives_the_way_through_files(
    synthetic: ReportInputs, stage_rows: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    summary = tmp_path / "summary"
    write_parquet(summary / "metrics.parquet", synthetic.metrics)
    write_parquet(summary / "tests.parquet", synthetic.tests)
    write_json(summary / "gates.json", synthetic.gates)
    write_json(summary / "manifest.json", synthetic.environment)
    write_json(summary / "extras.json", {
        name: value.to_dict("records") if isinstance(value, pd.DataFrame) else value
        for name, value in synthetic.extras.items()
    })  # fmt: skip
    for (arm, seed, language), rows in synthetic.samples.groupby(["arm", "seed", "language"]):
        write_parquet(tmp_path / f"eval/{arm}/seed{seed}/{language}.parquet", rows)
    write_parquet(tmp_path / "layers/scores.parquet", synthetic.layers)
    write_json(tmp_path / "layers/selected.json", synthetic.selected)
    write_json(tmp_path / "sae/quality.json", synthetic.sae)
    write_json(tmp_path / "data/report.json", synthetic.data)
    for folder, table in stage_rows.items():
        for (arm, seed), rows in table.groupby(["arm", "seed"]):
            write_parquet(tmp_path / folder / str(arm) / f"seed{seed}.parquet", rows)
    write_parquet(tmp_path / "features/contexts.parquet", synthetic.contexts)
    write_json(tmp_path / "features/picks.json", synthetic.picks)
    write_json(tmp_path / "language/reliability.json", synthetic.reliability)
    for arm, swept in synthetic.sweeps.items():
        write_json(tmp_path / f"sweep/{arm}/chosen.json", swept["choice"])
        write_parquet(tmp_path / f"sweep/{arm}/trials.parquet", swept["trials"])
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "layers.tsv").write_text("s\tcpu_time\tmax_rss\n12.0\t11.0\t300.5\n")
    write_json(
        tmp_path / "arms/lora-npo/seed1/manifest.json",
        {"cost": {"wall_seconds": 31.0, "peak_memory_mb": 690.0}},
    )
    write_json(tmp_path / "arms/lora-npo/seed1/intervention.json", {"fitted": {"layers": [0, 1]}})
    write_json(tmp_path / "layers/causal.json", synthetic.causal)
    found = read_inputs(tmp_path, synthetic.config)
    costs = {"stage_costs": stage_costs(tmp_path), "arm_costs": arm_costs(tmp_path)}
    page = build_report(found)
    assert page == build_report(replace(synthetic, **costs))
    assert "What does an arm cost?" in page
    assert "Cost of the stages" in page
    (summary / "tests.parquet").unlink()
    with pytest.raises(InputError, match=r"tests\.parquet"):
        read_inputs(tmp_path, synthetic.config)


def test_samples_are_the_same_prompts_for_every_arm_and_ignore_what_was_answered(
    synthetic: ReportInputs,
) -> None:
    prompts = synthetic.samples.groupby(["language", "arm"])["example_id"].agg(tuple)
    assert prompts.groupby("language").nunique().eq(1).all()
    changed = synthetic.samples.assign(generation="x", answer_state="refusal")
    assert list(choose_samples(changed)["example_id"]) == list(
        choose_samples(synthetic.samples)["example_id"]
    )
    # Two relations take turns: no relation gets all the places.
    relations = (
        synthetic.samples.drop_duplicates(["language", "example_id"])
        .groupby("language")["relation"]
        .nunique()
    )
    assert relations.eq(2).all()


def test_generated_text_is_declared(page: str, synthetic: ReportInputs) -> None:
    assert "All text is generated" in page
    assert "1,234 in 60" in page
    mixed = {"languages": {"hi": {"provenance": {"generated": 3, "natural": 1}}}}
    assert "All text is generated" not in build_report(replace(synthetic, data=mixed))


def test_a_run_without_an_oracle_says_so_and_invents_none(synthetic: ReportInputs) -> None:
    def without(table: pd.DataFrame) -> pd.DataFrame:
        return table[~table["arm"].isin(["oracle", "oracle_reference"])]

    arms = {arm: entry for arm, entry in synthetic.gates["arms"].items() if arm != "oracle"}
    extras = {
        name: without(value) if isinstance(value, pd.DataFrame) and "arm" in value else value
        for name, value in synthetic.extras.items()
    }
    alone = replace(
        synthetic,
        config={
            **synthetic.config,
            "arms": {arm: entry for arm, entry in synthetic.config["arms"].items() if arm != "oracle"},
        },
        gates={**synthetic.gates, "arms": arms},
        metrics=without(synthetic.metrics),
        tests=without(synthetic.tests),
        samples=without(synthetic.samples),
        extras=extras,
    )
    page = build_report(alone)
    assert "no oracle was trained for this run" in page
    card = page[
        page.index('<table class="leaks">') : page.index("</table>", page.index('<table class="leaks">'))
    ]
    assert "n/m" in card
