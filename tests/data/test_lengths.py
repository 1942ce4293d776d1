"""What a length limit cuts off is known before anything is cut."""

from __future__ import annotations

import pytest

from mmie.data.lengths import truncation_report
from mmie.errors import InputError


@pytest.mark.regression("DAT-19")
def test_a_text_of_300_tokens_at_256_is_truncated_and_refused():
    with pytest.raises(InputError, match=r"hi.*100.0%.*256.*44 tokens"):
        truncation_report([300], [900], 256, name="forget hi")
    found = truncation_report([300], [900], 256, name="forget hi", truncated_limit=1.0)
    assert (found.truncated_share, found.lost_tokens, found.longest) == (1.0, 44, 300)
    assert found.tokens_per_character == pytest.approx(1 / 3)


def test_a_text_at_the_limit_is_whole():
    found = truncation_report([256, 10], [256, 10], 256, name="retain en")
    assert (found.truncated_share, found.lost_tokens) == (0.0, 0)


def test_no_texts_are_an_error():
    with pytest.raises(InputError):
        truncation_report([], [], 256, name="retain en")
