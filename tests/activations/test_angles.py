from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmie.activations.angles import principal_angles
from mmie.errors import InputError


@pytest.mark.regression("ACT-24")
@settings(max_examples=30, deadline=None)
@given(st.floats(0, np.pi / 2), st.floats(0, np.pi / 2), st.integers(0, 1000))
def test_two_known_planes_give_their_angles(first: float, second: float, seed: int) -> None:
    """Plane y is plane x (axes 0, 1) turned by `first` towards axis 2 and by `second` towards axis 3."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    x_axes = np.eye(6)[:2]
    y_axes = np.array(
        [
            [np.cos(first), 0, np.sin(first), 0, 0, 0],
            [0, np.cos(second), 0, np.sin(second), 0, 0],
        ]
    )
    x = (rng.standard_normal((40, 2)) @ x_axes + 3) @ rotation
    y = (rng.standard_normal((25, 2)) @ y_axes - 1) @ rotation
    assert principal_angles(x, y, 2) == pytest.approx(sorted([first, second]), abs=1e-6)


@pytest.mark.regression("ACT-24")
def test_rows_in_another_order_span_the_same_space() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 3)) @ rng.standard_normal((3, 8))
    assert principal_angles(x, x[rng.permutation(50)], 3) == pytest.approx([0, 0, 0], abs=1e-7)


def test_more_directions_than_there_are_is_an_error() -> None:
    line = np.outer(np.arange(5.0), np.ones(4))
    with pytest.raises(InputError, match="vary in 1 directions"):
        principal_angles(line, line, 2)
    with pytest.raises(InputError, match="widths 4 and 3"):
        principal_angles(line, line[:, :3], 1)
