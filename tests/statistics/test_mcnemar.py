import pytest

from mmie.statistics.mcnemar import mcnemar


@pytest.mark.parametrize(
    ("gained", "lost", "expected"),
    [(1, 9, 22 / 1024), (0, 5, 0.0625), (0, 6, 0.03125), (0, 0, 1.0), (4, 4, 1.0)],
)
def test_closed_forms(gained: int, lost: int, expected: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(expected)
    assert mcnemar(lost, gained) == pytest.approx(expected)
