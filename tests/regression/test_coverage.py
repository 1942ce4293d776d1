"""Every known failure has a test or is listed as open, and the list only shrinks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


def _load() -> ModuleType:
    path = Path(__file__).with_name("coverage.py")
    spec = importlib.util.spec_from_file_location("regression_coverage", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


coverage = _load()


def test_no_test_carries_an_unknown_id():
    shown = coverage.shown_ids()
    assert {name: shown[name] for name in sorted(set(shown) - coverage.known_ids())} == {}


def test_every_known_failure_is_shown_or_open():
    missing = coverage.known_ids() - set(coverage.shown_ids()) - coverage.open_ids()
    assert sorted(missing) == [], "these ids lost their tests, or ids.txt grew without them"


def test_the_list_of_open_ids_shrinks_with_every_new_test():
    done = sorted(coverage.open_ids() & set(coverage.shown_ids()))
    assert done == [], "run `python tests/regression/coverage.py` to take these off open.txt"


def test_the_lists_are_sorted_and_without_repetitions():
    for name in ("ids.txt", "open.txt"):
        lines = Path(__file__).with_name(name).read_text(encoding="utf-8").split("\n")[:-1]
        assert lines == sorted(set(lines)), name
    assert len(coverage.known_ids()) == 288
    assert coverage.open_ids() <= coverage.known_ids()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("@pytest.mark.regression('DAT-01', 'DAT-02')\ndef test_a(): ...", {"DAT-01", "DAT-02"}),
        ("pytestmark = pytest.mark.regression('DAT-01')", {"DAT-01"}),
        ("class TestA:\n @pytest.mark.regression('DAT-01')\n def test_a(self): ...", {"DAT-01"}),
        (
            "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.regression('DAT-01'))])\n"
            "def test_a(x): ...",
            {"DAT-01"},
        ),
        ("@pytest.mark.skip\n@pytest.mark.regression('DAT-01')\ndef test_a(): ...", set()),
        ("@pytest.mark.regression('DAT-01')\ndef helper(): ...", set()),
        ("text = \"pytest.mark.regression('DAT-01')\"", set()),
    ],
)
def test_a_mark_counts_only_on_a_test_that_runs(tmp_path, source, shown):
    (tmp_path / "test_it.py").write_text(source)
    assert set(coverage.shown_ids(tmp_path)) == shown
