import pytest

from mmie.errors import InputError
from mmie.metrics.entailment import Entailment, symmetric_entailment


def test_agreement_by_hand() -> None:
    sure, likely = Entailment(1.0, 0.0, 0.0), Entailment(0.8, 0.1, 0.1)
    assert symmetric_entailment(sure, sure) == 1.0
    assert symmetric_entailment(likely, likely) == pytest.approx(0.648)
    assert symmetric_entailment(sure, Entailment(0.0, 1.0, 0.0)) == 0.0
    assert symmetric_entailment(sure, likely) == symmetric_entailment(likely, sure)


def test_numbers_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(InputError, match="label map"):
        Entailment(0.8, 0.8, 0.1)
