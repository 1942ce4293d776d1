"""Generating the Atlas: same bytes every time, true counts, no invented names."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmie.data.atlas import configuration as configuration_module
from mmie.data.atlas.configuration import load_configuration, load_pack
from mmie.data.atlas.facts import collect_facts
from mmie.data.atlas.generate import generate
from mmie.data.atlas.names import name, written_in
from mmie.errors import InputError

Row = dict[str, Any]


@pytest.fixture(scope="session")
def regenerated(atlas_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atlas")
    generate(atlas_folder / "atlas.yaml", folder)
    return folder


def test_the_committed_files_are_what_the_generator_writes(atlas_folder: Path, regenerated: Path) -> None:
    for path in sorted(regenerated.rglob("*.*")):
        assert path.read_bytes() == (atlas_folder / path.relative_to(regenerated)).read_bytes(), path.name


@pytest.mark.regression("DAT-33")
def test_the_numbers_of_the_data_card_equal_a_recount(
    atlas_folder: Path, atlas: dict[str, list[Row]]
) -> None:
    card = (atlas_folder / "README.md").read_text(encoding="utf-8")
    for language, rows in atlas.items():
        cells = re.search(rf"^\| {language} \| (.*) \|$", card, re.MULTILINE)
        assert cells is not None
        triples = atlas_folder / "triples" / f"{language}.jsonl"
        expected = [
            rows[0]["script"],
            len({row["fact_id"] for row in rows}),
            len({row["group"] for row in rows}),
            *(sum(row["kind"] == kind for row in rows) for kind in ("direct", "mixed", "adversarial")),
            sum("split" in row for row in rows),
            len(triples.read_text(encoding="utf-8").splitlines()) if triples.exists() else 0,
        ]
        assert cells.group(1).split(" | ") == list(map(str, expected))


def test_a_language_is_added_by_one_file_and_one_line(
    atlas_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path / "templates"
    shutil.copytree(configuration_module.TEMPLATES, templates)
    # Marathi shares the script and, for this test, the wordings of Hindi.
    shutil.copy(templates / "hi.yaml", templates / "mr.yaml")
    monkeypatch.setattr(configuration_module, "TEMPLATES", templates)
    monkeypatch.setattr(configuration_module.load_pack, "__defaults__", (templates,))
    content = yaml.safe_load((atlas_folder / "atlas.yaml").read_text(encoding="utf-8"))
    content["languages"]["mr"] = {}
    content["base_languages"].append("mr")
    path = tmp_path / "atlas.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    generate(path, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "mr.jsonl").open(encoding="utf-8")]
    assert len({row["fact_id"] for row in rows}) > 100
    assert {row["language"] for row in rows} == {"mr"}


@pytest.mark.parametrize(
    ("text", "script", "expected"),
    [
        ("भारत", "Deva", True),
        ("CFA फ़्रैंक", "Deva", False),
        ("INR", "Beng", False),
        ("St. Lucia", "Latn", True),
        ("Myanmar (Burma)", "Latn", False),
        ("-", "Latn", False),
    ],
)
def test_a_name_is_written_in_its_script_alone(text: str, script: str, expected: bool) -> None:
    assert written_in(text, script) is expected


def test_what_the_cldr_does_not_translate_has_no_name() -> None:
    assert name("currency", "INR", "hi", "Deva") == "भारतीय रुपया"
    assert name("currency", "XYZ", "hi", "Deva") is None
    assert name("city", "Asia/Kolkata", "en", "Latn") == "Kolkata"


def test_no_answer_is_shared_by_more_facts_than_the_limit() -> None:
    limits = {"currency": 2, "official_language": 2, "city": 2, "script": 2}
    facts = collect_facts({"en": "Latn", "hi": "Deva"}, limits)
    counts: dict[tuple[str, str], int] = {}
    for fact in facts:
        key = (fact.relation, fact.object_code)
        counts[key] = counts.get(key, 0) + 1
    assert max(counts.values()) == 2


def write(path: Path, content: object) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_an_unknown_key_of_the_configuration_is_named(atlas_folder: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((atlas_folder / "atlas.yaml").read_text(encoding="utf-8"))
    with pytest.raises(InputError, match="unknown key 'langauges'"):
        load_configuration(write(tmp_path / "atlas.yaml", {**content, "langauges": {}}))


def test_a_language_without_a_template_file_is_an_error(atlas_folder: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((atlas_folder / "atlas.yaml").read_text(encoding="utf-8"))
    content["languages"]["xx"] = {}
    with pytest.raises(InputError, match=r"xx\.yaml: no such file"):
        load_configuration(write(tmp_path / "atlas.yaml", content))


def test_a_template_without_its_subject_is_an_error(tmp_path: Path) -> None:
    content = yaml.safe_load((configuration_module.TEMPLATES / "hi.yaml").read_text(encoding="utf-8"))
    content["relations"]["city"]["q1"] = {"trained": "किस देश में है?"}
    write(tmp_path / "hi.yaml", content)
    with pytest.raises(InputError, match=r"hi\.yaml: relations\.city\.q1"):
        load_pack("hi", tmp_path)
