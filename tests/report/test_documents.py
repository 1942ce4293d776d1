"""What stands in the documents is true of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/report.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    file = ROOT / document
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (file.parent / target).exists(), target


def test_the_readme_is_short_and_names_every_rule_file() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    stages = {file.name for file in (ROOT / "rules").glob("*.smk")} - {
        "inputs.smk",
        "on_request.smk",
        "atlas.smk",
    }
    assert set(re.findall(r"rules/(\w+\.smk)", text)) == stages


@pytest.mark.regression("REP-08")
def test_every_fix_in_the_changelog_names_a_test_that_shows_it() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    marks = {
        row
        for file in (ROOT / "tests").rglob("test_*.py")
        for found in re.findall(r"mark\.regression\(([^)]*)\)", file.read_text(encoding="utf-8"))
        for row in re.findall(r"[A-Z]{3}-\d+", found)
    }
    for part in re.findall(r"^### Fixed\n(.*?)(?=^##|\Z)", text, flags=re.M | re.S):
        for entry in re.findall(r"^- (.*?)(?=^- |\Z)", part, flags=re.M | re.S):
            assert set(re.findall(r"[A-Z]{3}-\d+", entry)) & marks, entry
