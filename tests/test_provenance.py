"""Editing a module re-runs the scripts that reach it, also through late imports, and no others."""

from __future__ import annotations

from mmie import provenance


def test_late_and_indirect_imports_are_followed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("def late():\n    from mmie.io import write_json\n")
    assert provenance.code_files(script) == ["mmie/__init__.py", "mmie/errors.py", "mmie/io.py"]


def test_modules_imported_from_a_package_are_found(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from mmie import provenance\n")
    assert "mmie/provenance.py" in provenance.code_files(script)


def test_other_packages_are_left_alone(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import numpy\nfrom json import loads\n")
    assert provenance.code_files(script) == []
