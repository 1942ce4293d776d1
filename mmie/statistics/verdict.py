"""PROCEED or STOP for every arm, and whether the run may say PROCEED at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmie.statistics.gate_table import Gate
from mmie.statistics.gates import Outcome
from mmie.statistics.measurement import Measurement
from mmie.statistics.options import Options
from mmie.statistics.permutation import least_p


@dataclass(frozen=True)
class Decision:
    """What an arm earned before the calibration of the run is looked at."""

    arm: str
    proceeds: bool
    codes: tuple[str, ...]
    reasons: tuple[str, ...]


def decide(
    arm: str, found: Mapping[str, Outcome], tests: Sequence[Measurement], options: Options
) -> Decision:
    """PROCEED if every required gate passes, all are measured, and the design has the power.

    Args:
        found: outcomes of the arm's applicable gates.
        tests: all measurements of the run.
    """
    failures = [
        (item.code, item.as_json()["reason"])
        for item in found.values()
        if item.gate.required and item.status != "passed"
    ]
    failures += _too_small(arm, found, tests, options)
    return Decision(
        arm,
        not failures,
        tuple(dict.fromkeys(code for code, _ in failures)),
        tuple(f"{code}: {text}" for code, text in failures),
    )


def _too_small(
    arm: str, found: Mapping[str, Outcome], tests: Sequence[Measurement], options: Options
) -> list[tuple[str, str]]:
    """Designs in which no test could be significant, and trained arms with too few seeds."""
    primary = [
        test for test in tests
        if test.arm == arm and test.gate in found and test.n_clusters > 0
        and found[test.gate].gate.family == "efficacy" and found[test.gate].gate.required
    ]  # fmt: skip
    problems = []
    if primary:
        smallest = min(test.n_clusters for test in primary)
        declared = sum(test.family == primary[0].family for test in tests)
        if least_p(smallest) > options.alpha / declared:
            problems.append((
                "underpowered",
                f"With {smallest} clusters the smallest possible p is {least_p(smallest):.2g}, "
                f"above {options.alpha:g} / {declared} tests.",
            ))  # fmt: skip
        seeds = min(test.n_seeds for test in primary)
        if arm in options.trained_arms and seeds < options.seed_floor:
            problems.append((
                "underpowered",
                f"{seeds} seed{'s' if seeds > 1 else ''}; a claim about a trained arm needs "
                f"{options.seed_floor}.",
            ))  # fmt: skip
    return problems


def calibrate(
    decisions: Mapping[str, Decision],
    found: Mapping[str, Mapping[str, Outcome]],
    tests: Sequence[Measurement],
    gates: Sequence[Gate],
    options: Options,
    permuted: Mapping[str, Any],
) -> dict[str, Any]:
    """Check the arms whose verdict is known beforehand, and the procedure on swapped labels.

    Returns:
        "calibrated" (bool), "checks" by arm with "held", "expected" and "found", the required
        gates that end alike for base, oracle and broken, "permuted_labels", and "reasons" in
        sentences.
    """
    checks = {
        options.base: _check_base(decisions, found, tests, options),
        options.oracle: _check(
            decisions, options.oracle, "PROCEED", lambda decision: decision.proceeds
        ),
        options.broken: _check(
            decisions, options.broken, "STOP for utility_loss, neighbour_loss or collapsed",
            lambda decision: _stops_for(decision, {"utility_loss", "neighbour_loss", "collapsed"}),
        ),
    }  # fmt: skip
    for control in options.controls:
        if control in decisions:
            checks[control] = _check(
                decisions, control,
                "STOP for no effect, too small an effect, or a loss",
                lambda decision: _stops_for(
                    decision,
                    {"no_effect", "below_threshold", "utility_loss", "neighbour_loss", "collapsed"},
                ),
            )  # fmt: skip
    constant = _not_separating(found, gates, options)
    reasons = [
        f"{arm} should {check['expected']}: {check['found']}"
        for arm, check in checks.items()
        if not check["held"]
    ]
    reasons += [f"gate {name} ends alike for base, oracle and broken" for name in constant]
    reasons += [
        f"{entry['proceeded']} of {permuted['swaps']} random swaps of {arm} and the base PROCEED"
        for arm, entry in permuted["arms"].items()
        if entry["rate"] > permuted["level"]
    ]
    return {
        "calibrated": not reasons,
        "checks": checks,
        "not_separating": constant,
        "permuted_labels": dict(permuted),
        "reasons": reasons,
    }


def final(decision: Decision, calibration: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The arm's decision in an experiment: no arm under study proceeds in an uncalibrated run."""
    codes, reasons = list(decision.codes), list(decision.reasons)
    if decision.arm not in options.calibration and not calibration["calibrated"]:
        codes.append("uncalibrated")
        reasons.append(f"uncalibrated: {'; '.join(calibration['reasons'])}.")
    return {
        "decision": "STOP" if codes else "PROCEED",
        "codes": codes,
        "reasons": reasons,
    }


def _check(decisions: Mapping[str, Decision], arm: str, expected: str, holds: Any) -> dict[str, Any]:
    if arm not in decisions:
        return {"held": False, "expected": expected, "found": "it was not run"}
    decision = decisions[arm]
    found = "PROCEED" if decision.proceeds else f"STOP for {', '.join(decision.codes)}"
    return {"held": bool(holds(decision)), "expected": expected, "found": found}


def _stops_for(decision: Decision, accepted: set[str]) -> bool:
    return bool(accepted & set(decision.codes))


def _check_base(
    decisions: Mapping[str, Decision],
    found: Mapping[str, Mapping[str, Outcome]],
    tests: Sequence[Measurement],
    options: Options,
) -> dict[str, Any]:
    check = _check(
        decisions, options.base,
        "STOP for no_effect, differ by exactly 0 and keep every preservation gate",
        lambda decision: _stops_for(decision, {"no_effect"}),
    )  # fmt: skip
    own = [test for test in tests if test.arm == options.base and test.status != "not_measured"]
    moved = [test for test in own if test.largest_difference != 0.0]
    claimed = [test for test in own if test.test == "sign_flip" and test.p != 1.0]
    failed = sorted(
        name for name, item in found.get(options.base, {}).items()
        if item.gate.family == "preservation" and item.gate.required and item.status != "passed"
    )  # fmt: skip
    if moved:
        check["found"] += f"; {moved[0].metric} in {moved[0].language} moved"
    if claimed:
        check["found"] += f"; p = {claimed[0].p:.3g} in {claimed[0].gate}"
    if failed:
        check["found"] += f"; fails {', '.join(failed)}"
    check["held"] = check["held"] and not (moved or claimed or failed)
    return check


def _not_separating(
    found: Mapping[str, Mapping[str, Outcome]], gates: Sequence[Gate], options: Options
) -> list[str]:
    """Required gates decided by construction: the same for base, oracle and broken."""
    arms = (options.base, options.oracle, options.broken)
    if any(arm not in found for arm in arms):
        return []
    return [
        gate.name
        for gate in gates
        if gate.required
        and all(gate.name in found[arm] for arm in arms)
        and len({found[arm][gate.name].status == "passed" for arm in arms}) == 1
    ]
