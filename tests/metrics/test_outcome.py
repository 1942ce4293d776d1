import ast
import math
from pathlib import Path

import pytest

from mmie.metrics.likelihood import perplexity
from mmie.metrics.outcome import Outcome, attempt, mean_outcome

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [*(ROOT / "mmie").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]


def broken(value: float) -> float:
    raise ZeroDivisionError(f"nothing to divide {value} by")


def test_mean_has_a_status() -> None:
    assert mean_outcome("leak", [0.0, 1.0]) == Outcome("leak", 0.5, "measured")
    assert mean_outcome("leak", []).status == "not_measured"


@pytest.mark.regression("EVA-10")
def test_one_value_that_is_not_finite_fails_the_mean_with_counts() -> None:
    for wrong in (math.nan, math.inf):
        found = mean_outcome("nll_sum", [1.0, wrong, 2.0])
        assert (found.status, found.reason) == ("failed", "1 of 3 values are not finite")
        assert math.isnan(found.value)


@pytest.mark.regression("EVA-10")
def test_perplexity_of_a_loss_that_is_not_a_number_is_not_a_number() -> None:
    import torch

    nll = torch.tensor([[1.0, math.nan]])
    assert math.isnan(perplexity(nll, torch.ones(1, 2, dtype=torch.bool)))


@pytest.mark.regression("EVA-20")
def test_raising_metric_fails_the_run_or_appears_as_failed() -> None:
    with pytest.raises(RuntimeError, match="metric 'chrf' failed: ZeroDivisionError: nothing"):
        attempt("chrf", broken, 1.0)
    found = attempt("chrf", broken, 1.0, allowed=["chrf"])
    assert found.status == "failed" and "ZeroDivisionError" in found.reason
    assert attempt("sum", sum, [1, 2]) == 3


@pytest.mark.regression("EVA-20")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_handler_is_bare_or_empty(path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: bare except"
            broad = ast.unparse(node.type) in ("Exception", "BaseException")
            empty = all(isinstance(line, ast.Pass | ast.Continue) for line in node.body)
            assert not (broad and empty), f"line {node.lineno}: swallowed exception"


@pytest.mark.regression("EVA-23")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_result_is_written_down_as_a_number(path) -> None:
    """Names that promise a measured value must not be assigned numbers."""
    words = ("baseline", "attack_rate", "expected_rate", "published", "base_value", "oracle_value")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if any(word in ast.unparse(target).lower() for word in words):
                numbers = [
                    leaf.value
                    for leaf in ast.walk(node.value)
                    if isinstance(leaf, ast.Constant) and type(leaf.value) in (int, float)
                ]
                assert not numbers, f"line {node.lineno}: {ast.unparse(target)} = {numbers}"
