from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from mmie.sae.architectures import ARCHITECTURES, DESCRIPTIONS
from mmie.sae.options import SaeOptions
from mmie.sae.pickers import PICKERS
from mmie.stage_options import Sae

PAGE = (Path(__file__).parents[2] / "docs" / "sae.md").read_text(encoding="utf-8")


def documented(section: str) -> dict[str, str]:
    """Names and what is said of them, in the table between a section's marks."""
    found = re.search(rf"<!-- {section} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert found is not None, section
    rows = [line.strip("| ").split(" | ", 1) for line in found[1].splitlines()[2:]]
    return {name.strip("`"): text for name, text in rows}


@pytest.mark.regression("SAE-31")
def test_documented_pickers_and_architectures_are_the_registered_ones() -> None:
    assert documented("pickers") == PICKERS
    assert documented("architectures") == DESCRIPTIONS
    assert set(DESCRIPTIONS) == set(ARCHITECTURES)


def test_the_configuration_offers_every_architecture_and_reads_as_options() -> None:
    assert set(get_args(Sae.model_fields["architecture"].annotation)) == set(ARCHITECTURES)
    options = SaeOptions(**Sae().model_dump())
    assert options.architecture == "topk" and options.auxiliary_weight == 1 / 32
