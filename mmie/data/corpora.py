"""All languages against each other, before any model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmie.data.composition import composition, forget_share
from mmie.data.options import DEFAULT_OPTIONS, DataOptions
from mmie.data.overlap import overlaps
from mmie.data.pairing import parallel_counts, unchanged_rows
from mmie.data.phrases import Row
from mmie.data.problems import Problem, raise_problems
from mmie.data.splits import assign_splits, leaks
from mmie.data.written_form import native_script, reads_as_romanised

if TYPE_CHECKING:
    import pandas as pd

# Splits that a role cannot do without: arms are fitted on FIT, chosen on DEV, scored on TEST.
NEEDED = {"forget": ("fit", "dev", "test"), "retain": ("fit", "dev", "test"), "neighbours": ("dev", "test")}
_PROBING = ("mixed", "adversarial")


def check_corpora(
    frames: Mapping[str, pd.DataFrame],
    forget: Sequence[str],
    retain: Sequence[str],
    neighbours: Sequence[str],
    options: DataOptions = DEFAULT_OPTIONS,
    *,
    declared_tests: int = 1,
) -> dict[str, Any]:
    """Check what only shows when all languages lie side by side.

    Args:
        frames: cleaned rows by language.
        forget, retain, neighbours: languages of each role.
        options: of the data stage.
        declared_tests: tests in the primary family; with too few clusters none of them could ever be
            significant, and the design is refused (least p of the sign-flip test: 2 / 2^clusters).

    Returns:
        The report: parallel rows, overlap matrix, composition, test clusters, provenance.

    Raises:
        InputError: an empty or missing set, a group or text in two splits, an undeclared overlap, a
            romanised set that is not romanised, too few clusters; one line a problem.
    """
    roles = {"forget": list(forget), "retain": list(retain), "neighbours": list(neighbours)}
    problems: list[Problem | str] = _missing(frames, roles)
    raise_problems(problems)
    sets = _sets(frames, roles)
    rows = [row for part in sets.values() for row in part]
    problems += _thin(frames, roles, options, declared_tests)
    problems += assign_splits(rows, options)[1]
    problems += leaks(rows).values()
    shared = overlaps(sets, options.declared_overlaps)
    problems += shared.undeclared
    problems += _unromanised(frames)
    problems += _blunt_probes(frames, forget, options)
    raise_problems(problems)
    natural = sum(row["provenance"] == "natural" for row in rows)
    return {
        "roles": roles,
        "parallel": parallel_counts(frames),
        "overlap": shared.matrix,
        "declared_overlaps": list(options.declared_overlaps),
        "composition": {language: composition(frame) for language, frame in sorted(frames.items())},
        "declared_tests": declared_tests,
        "groups": {language: _groups(frame) for language, frame in sorted(frames.items())},
        "natural_rows": natural,
        "no_natural_rows": natural == 0,
        "remarks": [] if natural else [
            "No row is marked as natural text: what is measured holds for generated text only."
        ],
    }  # fmt: skip


def _rows(frame: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _sets(frames: Mapping[str, pd.DataFrame], roles: Mapping[str, Sequence[str]]) -> dict[str, list[Row]]:
    """Rows by role and split, such as `forget/fit`."""
    sets: dict[str, list[Row]] = {}
    for role, languages in roles.items():
        for language in languages:
            for row in _rows(frames[language]):
                sets.setdefault(f"{role}/{row['split']}", []).append(row)
    return sets


def _missing(frames: Mapping[str, pd.DataFrame], roles: Mapping[str, Sequence[str]]) -> list[Problem | str]:
    return [
        f"{role}: {language!r} has no checked corpus. Add it under data.corpora."
        for role, languages in roles.items()
        for language in languages
        if language not in frames
    ]


def _thin(
    frames: Mapping[str, pd.DataFrame],
    roles: Mapping[str, Sequence[str]],
    options: DataOptions,
    declared_tests: int,
) -> list[str]:
    """Sets that are empty or have too few clusters to show anything."""
    found = []
    for role, languages in roles.items():
        for language in languages:
            groups = _groups(frames[language])
            where = ", ".join(sorted(frames[language]["file"].unique())) or language
            counted = ", ".join(f"{split} {number}" for split, number in sorted(groups.items())) or "none"
            for split in NEEDED[role]:
                if not groups.get(split):
                    found.append(
                        f"{where}: no direct row of {language} ({role}) is in split {split!r} "
                        f"(groups: {counted}). Add groups, or change data.fit_share and data.dev_share."
                    )
            clusters = groups.get("test", 0)
            if role == "forget" and clusters and 2.0 ** (1 - clusters) > 0.05 / declared_tests:
                found.append(
                    f"{where}: {clusters} test groups of {language} cannot show anything at 5 % with "
                    f"{declared_tests} declared tests (least p {2.0 ** (1 - clusters):.3g}). Add groups."
                )
    return found


def _groups(frame: pd.DataFrame) -> dict[str, int]:
    """Number of groups with direct rows in each split."""
    direct = frame[frame["kind"] == "direct"]
    return {str(split): int(number) for split, number in direct.groupby("split")["group"].nunique().items()}


def _unromanised(frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """Romanised languages with rows that are the very text of their source."""
    found = []
    for language, frame in frames.items():
        source = language.split("_")[0]
        if not native_script(language) or source not in frames:
            continue
        if not set(frame["example_id"]) & set(frames[source]["example_id"]):
            continue
        same = unchanged_rows(frames[source], frame, names=(source, language))
        if len(same):
            first = same.iloc[0]
            found.append(
                f"{first['file_right']}:{first['line_right']}: {len(same)} rows of {language} equal "
                f"{source}: nobody romanised them. Convert them again."
            )
    return found


def _blunt_probes(
    frames: Mapping[str, pd.DataFrame], forget: Sequence[str], options: DataOptions
) -> list[str]:
    """Sets of mixed or adversarial prompts that hold too little of the forget language."""
    found = []
    for language in forget:
        frame = frames[language]
        for kind in _PROBING:
            prompts = frame["prompt"][frame["kind"] == kind].tolist()
            if not prompts:
                continue
            share = _forget_language_share(prompts, language, str(frame["script"].iloc[0]))
            if share < options.composition_minimum:
                found.append(
                    f"{frame['file'].iloc[0]}: {share:.1%} of the {kind} prompts of {language} are in it, "
                    f"at least {options.composition_minimum:.1%} must be. Add prompts in the language, "
                    "or change data.composition_minimum."
                )
    return found


def _forget_language_share(prompts: Sequence[str], language: str, script: str) -> float:
    verdicts = [reads_as_romanised(prompt, language) for prompt in prompts] if native_script(language) else []
    if not verdicts or verdicts[0] is None:
        return forget_share(prompts, script)
    return sum(map(bool, verdicts)) / len(verdicts)
