"""Figures show what the tables say, all of it, and the same bytes every time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest

from mmie.errors import InputError
from mmie.report.figures import draw_figures
from mmie.report.figures.curves import _apart
from mmie.report.figures.transfer import nothing_to_forget
from mmie.report.inputs import ReportInputs
from mmie.report.palette import looks
from mmie.report.svg import STYLE, Scale, Svg, inlined, ticks

NAMES = {
    "leak", "states", "transfer", "scripts", "attack", "attacks", "rewrites", "kept", "layers", "dose",
    "sweep",
}  # fmt: skip


def test_every_figure_is_well_formed_svg_and_drawn_twice_the_same(synthetic: ReportInputs) -> None:
    first, second = draw_figures(synthetic), draw_figures(synthetic)
    assert set(first) == NAMES
    assert first == second
    for svg in first.values():
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"


def test_row_order_of_the_tables_does_not_change_a_figure(synthetic: ReportInputs) -> None:
    def turned(table: pd.DataFrame) -> pd.DataFrame:
        return table.iloc[::-1].reset_index(drop=True)

    extras = {
        name: turned(value) if isinstance(value, pd.DataFrame) else value
        for name, value in synthetic.extras.items()
    }
    other = replace(
        synthetic, metrics=turned(synthetic.metrics), tests=turned(synthetic.tests), extras=extras
    )
    assert draw_figures(other) == draw_figures(synthetic)


@pytest.mark.regression("REP-15")
def test_an_arm_with_rows_is_drawn_and_an_absent_one_that_was_asked_for_raises(
    synthetic: ReportInputs,
) -> None:
    figures = draw_figures(synthetic)
    for name in ("leak", "states", "transfer", "attack", "kept"):
        for arm in synthetic.arms:
            assert f">{arm}</text>" in figures[name], (name, arm)
    for name in ("attacks", "rewrites"):
        for arm in synthetic.studied:
            assert f">{arm}</text>" in figures[name], (name, arm)
    with pytest.raises(InputError, match="reft-gone"):
        draw_figures(synthetic, arms=["base", "reft-gone"])


@pytest.mark.regression("REP-13")
def test_axes_hold_all_values_and_a_value_outside_is_an_error() -> None:
    for low, high in ((0.0, 0.93), (-0.17, 0.02), (3.1, 3.2), (-95.0, 0.0), (0.0, 0.0)):
        marks = ticks(low, high)
        assert marks[0] <= low and marks[-1] >= high
    scale = Scale(0.0, 1.0, 100.0, 200.0)
    assert scale(0.25) == 125.0
    with pytest.raises(ValueError, match="outside"):
        scale(1.01)


@pytest.mark.regression("REP-13")
def test_late_values_of_an_attack_are_inside_the_plot(synthetic: ReportInputs) -> None:
    svg = draw_figures(synthetic)["attack"]
    height = float(re.search(r'viewBox="0 0 \d+ ([\d.]+)"', svg).group(1))  # type: ignore[union-attr]
    for path in re.findall(r'd="M([^"]+)"', svg):
        for _, y in (point.split() for point in path.split("L") if "m" not in point and "l" not in point):
            assert 0 <= float(y) <= height


def test_leak_figure_prints_the_estimates_of_the_table(synthetic: ReportInputs) -> None:
    svg = draw_figures(synthetic)["leak"]
    for arm in synthetic.arms:
        row = synthetic.metric(arm, "hi", "test", "leak")
        assert row is not None
        assert f">{100 * row['estimate']:.0f} %</text>" in svg


def test_states_add_up_to_whole_bars(synthetic: ReportInputs) -> None:
    svg = draw_figures(synthetic)["states"]
    widths: dict[tuple[str, float], float] = {}
    for x, y, width in re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="15"', svg):
        panel = str(int((float(x) - 117) // 294))
        widths[panel, float(y)] = widths.get((panel, float(y)), 0.0) + float(width) + 1
    assert len(widths) == 6 * len(synthetic.arms)
    assert max(widths.values()) - min(widths.values()) < 1.5


def test_not_measured_is_written_and_not_drawn_as_zero(synthetic: ReportInputs) -> None:
    metrics = synthetic.metrics.copy()
    mine = (metrics["arm"] == "lora-npo") & (metrics["metric"] == "leak")
    metrics.loc[mine, ["estimate", "ci_low", "ci_high"]] = float("nan")
    svg = draw_figures(replace(synthetic, metrics=metrics))["leak"]
    assert ">n/m</text>" in svg
    assert "nan" not in svg.lower()


def test_languages_without_anything_to_forget_are_named_and_not_in_the_matrix(
    synthetic: ReportInputs,
) -> None:
    assert nothing_to_forget(synthetic) == ["en", "bn", "ur", "pa"]


def test_known_arms_are_neutral_and_never_share_the_look_of_an_arm_under_study() -> None:
    look = looks(["a", "b", "c"], ["base", "oracle", "broken", "random"])
    assert len(set(look.values())) == 7
    assert all(look[arm][0].startswith("known") for arm in ("base", "oracle", "broken", "random"))


def test_labels_at_one_height_are_moved_apart_in_order() -> None:
    placed = _apart([100.0, 100.0, 101.0, 200.0], 284.0)
    assert placed == sorted(placed)
    assert min(b - a for a, b in pairwise(placed)) > 13.9


def test_text_in_a_figure_is_escaped_and_a_page_takes_it_without_its_style() -> None:
    drawing = Svg("x", 100, 'a "b" <c>')
    drawing.text(0, 10, "</text><script>alert(1)</script>")
    svg = drawing.render(20)
    ET.fromstring(svg)
    assert "<script" not in svg
    assert STYLE in svg and STYLE not in inlined(svg)
    with pytest.raises(ValueError, match="no place"):
        drawing.line(float("nan"), 0, 1, 1)
