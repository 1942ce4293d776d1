"""The report: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmie.report import tables, words
from mmie.report.figures import draw_figures
from mmie.report.figures.transfer import nothing_to_forget
from mmie.report.inputs import REFERENCE, ReportInputs
from mmie.report.palette import variables
from mmie.report.svg import RULES, inlined


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
    splits, sizes = tables.sizes(inputs)
    forget = [words.language(code) for code in inputs.roles["forget"]]
    return {
        "experiment": inputs.gates["experiment"],
        "forget": forget,
        "forget_short": forget[0] if forget else "",
        "model": inputs.config.get("model", {}).get("base", ""),
        "has_oracle": bool({REFERENCE, "oracle"} & set(inputs.metrics["arm"])),
        "verdicts": tables.verdicts(inputs),
        "calibration": tables.calibration(inputs),
        "arms": inputs.arms,
        "studied": inputs.studied,
        "gates": tables.gate_matrix(inputs),
        "details": tables.gate_details(inputs),
        "levels": tables.level_tables(inputs),
        "level_names": tables.LEVEL_NAMES,
        "nothing": [words.language(code) for code in nothing_to_forget(inputs)],
        "selected": inputs.selected,
        "sae": tables.sae_table(inputs),
        "samples": tables.samples(inputs),
        "splits": splits,
        "sizes": sizes,
        "data": tables.flattened(inputs.data),
        "generated": _all_generated(inputs.data),
        "checklist": tables.checklist(inputs),
        "environment": tables.flattened(inputs.environment),
        "config": tables.flattened(inputs.config),
        "arm_costs": tables.arm_costs(inputs),
        "stage_costs": tables.stage_costs(inputs),
        "kinds": {arm: words.KINDS.get(inputs.kind(arm), inputs.kind(arm)) for arm in inputs.arms},
        "w": words,
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
