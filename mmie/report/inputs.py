"""What the report is made of, read from an experiment's folder and checked before anything is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mmie.configuration import read_configuration
from mmie.errors import InputError
from mmie.io import read_json, read_parquet
from mmie.report import stage_files
from mmie.report.costs import arm_costs, stage_costs

METRIC_COLUMNS = (
    "arm", "language", "split", "metric", "estimate", "ci_low", "ci_high", "n_seeds", "n_items", "status",
    "reason",
)  # fmt: skip
TEST_COLUMNS = (
    "family", "arm", "gate", "language", "cell", "metric", "statistic", "estimate", "ci_low", "ci_high",
    "threshold", "detectable", "p", "q", "status", "calibration", "reason",
)  # fmt: skip
SAMPLE_COLUMNS = (
    "arm",
    "seed",
    "language",
    "example_id",
    "prompt",
    "reference",
    "generation",
    "answer_state",
)
EXTRA_TABLES = {
    "power": ("gate", "language", "n_clusters", "items_per_cluster", "detectable", "least_p"),
    "dropped": ("arm", "gate", "language", "metric", "n_dropped", "n_items"),
    "per_seed": ("arm", "seed", "language", "split", "metric", "estimate"),
    "answer_states": ("arm", "language", "split", "state", "rate"),
    "transfer": ("arm", "language", "form", "split", "metric", "estimate", "ci_low", "ci_high", "reason"),
    "scripts": ("fitted", "tested", "arm", "language", "estimate", "ci_low", "ci_high", "reason"),
    "attack_curves": ("attack", "arm", "language", "step", "metric", "estimate"),
    "robustness": (
        "attack", "arm", "language", "metric", "gating", "before", "after", "transfer", "transfer_low",
        "transfer_high", "transfer_reason", "recovery", "recovery_low", "recovery_high", "area",
    ),
    "membership": (
        "arm", "language", "metric", "auc", "auc_low", "auc_high", "gap", "gap_low", "gap_high",
        "over_unlearned", "priv_leak", "reason",
    ),
    "identification": ("arm", "language", "script", "n", "abstained", "raw", "corrected"),
    "contrasts": (
        "gate", "language", "arm", "other", "estimate", "ci_low", "ci_high", "q", "divergence",
        "divergence_other", "matched",
    ),
    "families": ("family", "declared", "finite", "missing", "rejected"),
}  # fmt: skip
LAYER_COLUMNS = ("layer", "component", "language_a", "language_b", "excess")
REFERENCE = "oracle_reference"
CALIBRATION = ("base", "oracle", "broken")


@dataclass(frozen=True)
class ReportInputs:
    """Everything a report shows.

    Attributes:
        config: the resolved configuration.
        gates: content of gates.json.
        metrics, tests: tables of the summary.
        extras: tables and dictionaries of extras.json; tables as DataFrames.
        samples: a few evaluation rows an arm and language, see `choose_samples`.
        layers: scores of every layer; empty when layers were not scored.
        selected: content of selected.json.
        causal: content of layers/causal.json: selected layers beside other choices.
        judged: content of judge/agreement.json, if a judge was asked.
        sae: quality of the autoencoders, by "layer{L}".
        data: content of data/report.json.
        environment: the manifest of the summary: versions, hardware, hashes.
        stage_costs, arm_costs: see `mmie.report.costs`.
        depth, rewrites, steering, contexts, doses, sweeps: see `mmie.report.stage_files`.
        reliability: measured errors of language identification, by language.
        picks: content of features/picks.json: latents by picker, and what clamping them did.
    """

    config: Mapping[str, Any]
    gates: Mapping[str, Any]
    metrics: pd.DataFrame
    tests: pd.DataFrame
    extras: Mapping[str, Any]
    samples: pd.DataFrame
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    selected: Mapping[str, Any] = field(default_factory=dict)
    sae: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    stage_costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    arm_costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    depth: pd.DataFrame = field(default_factory=pd.DataFrame)
    rewrites: pd.DataFrame = field(default_factory=pd.DataFrame)
    steering: pd.DataFrame = field(default_factory=pd.DataFrame)
    contexts: pd.DataFrame = field(default_factory=pd.DataFrame)
    doses: pd.DataFrame = field(default_factory=pd.DataFrame)
    sweeps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    reliability: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    picks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    causal: Mapping[str, Any] = field(default_factory=dict)
    judged: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the tables: a key that the report needs and a result lacks is an error, never a gap.

        Raises:
            InputError: a missing table, column or key, named.
        """
        for key in ("experiment", "arms", "calibration"):
            if key not in self.gates:
                raise InputError(f"summary/gates.json: {key!r} is missing. Run the aggregation again.")
        _need(self.metrics, METRIC_COLUMNS, "summary/metrics.parquet")
        _need(self.tests, TEST_COLUMNS, "summary/tests.parquet")
        _need(self.samples, SAMPLE_COLUMNS, "eval")
        for name, columns in EXTRA_TABLES.items():
            if name not in self.extras:
                raise InputError(f"summary/extras.json: {name!r} is missing. Run the aggregation again.")
            _need(self.table(name), columns, f"summary/extras.json, {name}")
        if len(self.layers):
            _need(self.layers, LAYER_COLUMNS, "layers/scores.parquet")

    def table(self, name: str) -> pd.DataFrame:
        """A table of the extras; empty with its columns when it has no rows."""
        content = self.extras[name]
        table = content if isinstance(content, pd.DataFrame) else pd.DataFrame(list(content))
        if table.empty:
            return pd.DataFrame(columns=list(EXTRA_TABLES.get(name, ())))
        return table

    @cached_property
    def roles(self) -> dict[str, list[str]]:
        """Languages of "forget", "retain", "neighbours", "kept" and so on."""
        return read_configuration(self.config).roles

    @cached_property
    def languages(self) -> list[str]:
        """Forget languages, then protected ones, then neighbours."""
        return [*self.roles["forget"], *self.roles["kept"]]

    @cached_property
    def known(self) -> list[str]:
        """Arms whose verdict is known beforehand, in a fixed order; they have rows."""
        marked = [arm for arm, entry in self.gates["arms"].items() if entry.get("calibration")]
        controls = sorted(set(marked) - set(CALIBRATION))
        return [arm for arm in (*CALIBRATION, *controls) if arm in self.gates["arms"]]

    @cached_property
    def studied(self) -> list[str]:
        """Arms under study that have rows, in the order of the configuration."""
        arms = [arm for arm in self.gates["arms"] if arm not in self.known]
        order = list(self.config.get("arms", {}))
        return sorted(arms, key=lambda arm: (order.index(arm) if arm in order else len(order), arm))

    @cached_property
    def arms(self) -> list[str]:
        """Arms under study, then known ones."""
        return [*self.studied, *self.known]

    @cached_property
    def reference(self) -> str:
        """The oracle that scores are normalised by; the judged one where there is no other."""
        return REFERENCE if REFERENCE in set(self.metrics["arm"]) else "oracle"

    @cached_property
    def not_run(self) -> list[str]:
        """Configured arms without any row."""
        return [arm for arm in self.config.get("arms", {}) if arm not in self.gates["arms"]]

    def kind(self, arm: str) -> str:
        """Kind of an arm as configured; empty when it is not."""
        return str(self.config.get("arms", {}).get(arm, {}).get("kind", ""))

    def metric(self, arm: str, language: str, split: str, metric: str) -> dict[str, Any] | None:
        """One row of the metrics; None when there is none. A failed one has a reason and no estimate."""
        return self._levels.get((arm, language, split, metric))

    @cached_property
    def _levels(self) -> dict[tuple[str, str, str, str], dict[str, Any]]:
        keys = ["arm", "language", "split", "metric"]
        nothing = dict.fromkeys(("estimate", "ci_low", "ci_high"), float("nan"))
        rows: list[dict[Any, Any]] = [
            row if row["status"] == "measured" else {**row, **nothing}
            for row in self.metrics.to_dict("records")
        ]
        return {tuple(str(row[key]) for key in keys): row for row in rows}  # type: ignore[misc]

    def seeds(self, arm: str, language: str, split: str, metric: str) -> list[float]:
        """The score of every seed, in order of seeds."""
        return self._seeds.get((arm, language, split, metric), [])

    @cached_property
    def _seeds(self) -> dict[tuple[str, ...], list[float]]:
        found: dict[tuple[str, ...], list[float]] = {}
        table = self.table("per_seed")
        rows = table.sort_values("seed", kind="stable").to_dict("records")
        for row in rows:
            key = tuple(str(row[name]) for name in ("arm", "language", "split", "metric"))
            value = row["estimate"]
            found.setdefault(key, []).append(float("nan") if value is None else float(value))
        return found


def read_inputs(results: str | Path, config: Mapping[str, Any]) -> ReportInputs:
    """Read the folder of an experiment.

    Args:
        results: `results/{experiment}`.
        config: the resolved configuration.

    Raises:
        InputError: a file, table or column is missing.
    """
    root = Path(results)
    summary = root / "summary"
    files = sorted((root / "eval").glob("*/seed*/*.parquet"))
    if not files:
        raise InputError(f"{root / 'eval'}: no evaluations. Run the evaluation first.")
    scores = root / "layers" / "scores.parquet"
    gates = read_json(summary / "gates.json")
    known = [arm for arm, entry in gates["arms"].items() if entry.get("calibration")]
    return ReportInputs(
        config=config,
        gates=gates,
        metrics=read_parquet(summary / "metrics.parquet"),
        tests=read_parquet(summary / "tests.parquet"),
        extras=read_json(summary / "extras.json"),
        samples=choose_samples(pd.concat([_evaluation(file) for file in files], ignore_index=True)),
        layers=_scored_layers(scores),
        selected=stage_files.read_optional(root / "layers" / "selected.json"),
        sae=stage_files.read_optional(root / "sae" / "quality.json"),
        data=read_json(root / "data" / "report.json"),
        environment=read_json(summary / "manifest.json"),
        stage_costs=stage_costs(root),
        arm_costs=arm_costs(root),
        depth=stage_files.read_depth(root, oracle=REFERENCE, calibration=known),
        rewrites=stage_files.read_rewrites(root),
        steering=stage_files.read_steering(root),
        contexts=stage_files.read_contexts(root),
        doses=stage_files.read_doses(root),
        sweeps=stage_files.read_sweeps(root),
        reliability=stage_files.read_optional(root / "language" / "reliability.json"),
        picks=stage_files.read_optional(root / "features" / "picks.json"),
        causal=stage_files.read_optional(root / "layers" / "causal.json"),
        judged=stage_files.read_optional(root / "judge" / "agreement.json"),
    )


def _evaluation(file: Path) -> pd.DataFrame:
    table = read_parquet(file)
    return table.assign(arm=file.parents[1].name, seed=int(file.parent.name.removeprefix("seed")))


def choose_samples(evaluation: pd.DataFrame, per_language: int = 3) -> pd.DataFrame:
    """The same few TEST prompts for every arm: its first seed, one prompt a relation while they last.

    The choice depends on ids alone, never on what an arm answered.

    Args:
        evaluation: evaluation rows with `arm` and `seed`.
        per_language: prompts of each language.
    """
    _need(evaluation, SAMPLE_COLUMNS, "eval")
    rows = evaluation
    if "split" in rows and (rows["split"] == "test").any():
        rows = rows[rows["split"] == "test"]
    if "kind" in rows and (rows["kind"] == "direct").any():
        rows = rows[rows["kind"] == "direct"]
    if "template_split" in rows and (rows["template_split"] == "held_out").any():
        rows = rows[rows["template_split"] == "held_out"]
    chosen = []
    for _, of_language in rows.groupby("language", sort=True):
        prompts = of_language.drop_duplicates("example_id").sort_values("example_id", kind="stable")
        relation = prompts["relation"] if "relation" in prompts else prompts["example_id"]
        turn = prompts.groupby(relation, sort=True).cumcount()
        ids = prompts.assign(turn=turn).sort_values(["turn", "example_id"], kind="stable")["example_id"]
        kept = of_language[of_language["example_id"].isin(ids[:per_language])]
        first = kept.groupby("arm")["seed"].transform("min")
        chosen.append(kept[kept["seed"] == first])
    table = pd.concat(chosen) if chosen else rows
    return table.sort_values(["language", "example_id", "arm"], kind="stable", ignore_index=True)


def _need(table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
    for column in columns:
        if column not in table:
            raise InputError(f"{name}: column {column!r} is missing. Run the stage that writes it again.")


def _scored_layers(path: Path) -> pd.DataFrame:
    """Scores of the layers; empty where a fixed choice, such as the middle, looked at none."""
    table = read_parquet(path) if path.exists() else pd.DataFrame()
    return table if set(table.columns) - {"layer"} else pd.DataFrame()
