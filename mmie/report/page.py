"""The report: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmie.report import words
from mmie.report.figures import draw_figures
from mmie.report.figures.transfer import nothing_to_forget
from mmie.report.inputs import REFERENCE, ReportInputs
from mmie.report.palette import variables
from mmie.report.svg import RULES, inlined
from mmie.report.tables import attacks, gates, inside, record, scores, verdicts


def build_report(inputs: ReportInputs, figures: Mapping[str, str] | None = None) -> str:
    """Write the page.

    Every text is escaped, also what models generated; figures are inlined; nothing is fetched.

    Args:
        inputs: the results.
        figures: SVG by name; drawn here when they are not given.

    Returns:
        A whole HTML document.
    """
    drawn = draw_figures(inputs) if figures is None else figures
    environment = Environment(
        loader=PackageLoader("mmie.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheet = resources.files("mmie.report").joinpath("style.css").read_text(encoding="utf-8")
    page = environment.get_template("report.html.j2")
    return page.render(
        style=Markup(variables() + RULES + sheet),  # our own files, no result is in them
        figures={name: Markup(inlined(svg)) for name, svg in drawn.items()},  # texts are escaped inside
        **_content(inputs),
    )


def _content(inputs: ReportInputs) -> dict[str, Any]:
    splits, sizes = record.sizes(inputs)
    forget = [words.language(code) for code in inputs.roles["forget"]]
    return {
        "experiment": inputs.gates["experiment"],
        "forget": forget,
        "forget_short": forget[0] if forget else "",
        "model": inputs.config.get("model", {}).get("base", ""),
        "has_oracle": bool({REFERENCE, "oracle"} & set(inputs.metrics["arm"])),
        "arms": inputs.arms,
        "studied": inputs.studied,
        "kinds": {arm: words.KINDS.get(inputs.kind(arm), inputs.kind(arm)) for arm in inputs.arms},
        "verdicts": verdicts.verdicts(inputs),
        "calibration": verdicts.calibration(inputs),
        "nothing": [words.language(code) for code in nothing_to_forget(inputs)],
        **_evidence(inputs),
        **_inside(inputs),
        "splits": splits,
        "sizes": sizes,
        "data": record.flattened(inputs.data),
        "generated": _all_generated(inputs.data),
        "checklist": record.checklist(inputs),
        "sweeps": record.sweeps(inputs),
        "environment": record.flattened(inputs.environment),
        "config": record.flattened(inputs.config),
        "stage_costs": record.stage_costs(inputs),
        "w": words,
    }


def _evidence(inputs: ReportInputs) -> dict[str, Any]:
    """What the verdicts rest on."""
    return {
        "attack_numbers": attacks.attack_numbers(inputs),
        "steering": attacks.steering(inputs),
        "gates": gates.gate_matrix(inputs),
        "details": gates.gate_details(inputs),
        "levels": scores.level_tables(inputs),
        "level_names": scores.LEVEL_NAMES,
        "judged": scores.judged(inputs),
        "identifier": scores.identifier(inputs),
        "identification": scores.identification(inputs),
        "membership": scores.membership(inputs),
    }


def _inside(inputs: ReportInputs) -> dict[str, Any]:
    """What was found inside the models, what they cost, and what they wrote."""
    return {
        "depth": inside.depth(inputs),
        "depth_names": list(words.DEPTH.values()),
        "arm_costs": record.arm_costs(inputs),
        "selected": inputs.selected,
        "choices": inside.layer_choices(inputs),
        "patches": inside.patches(inputs),
        "sae": inside.sae_table(inputs),
        "latents": inside.latents(inputs),
        "samples": scores.samples(inputs),
    }


def _all_generated(data: Any) -> bool:
    """Whether the data report counts provenance and knows no other than generated text."""
    found: set[str] = set()

    def look(part: Any) -> None:
        if isinstance(part, Mapping):
            counts = part.get("provenance")
            if isinstance(counts, Mapping):
                found.update(str(name) for name, count in counts.items() if count)
            elif isinstance(counts, str):
                found.add(counts)
            for value in part.values():
                look(value)
        elif isinstance(part, (list, tuple)):
            for value in part:
                look(value)

    look(data)
    return found == {"generated"}
