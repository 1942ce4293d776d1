"""The rows of one language: read, cleaned, checked, split, sampled.

Whatever is wrong with a file's form is an error with file and line. Rows that are well formed and cannot
be used are left out, counted by reason and listed in the report; too many of them are an error as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmie.data.artefacts import KINDS, artefact_counts
from mmie.data.cleaning import Cleaned, Row, clean
from mmie.data.comparison import ids_hash
from mmie.data.duplicates import exact_duplicates, near_duplicates
from mmie.data.options import DEFAULT_OPTIONS, DataOptions
from mmie.data.problems import Problem, raise_problems
from mmie.data.records import Records, read_records
from mmie.data.splits import assign_splits, leaks, position
from mmie.data.summary import Limit, describe_rows, describe_splits
from mmie.data.written_form import likely_script, misplaced_rows, native_script, romanised_share
from mmie.io import sha256_file

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "example_id", "fact_id", "group", "template_id", "template_split", "relation", "kind", "language",
    "script", "split", "prompt", "answer", "aliases", "provenance", "file", "line",
)  # fmt: skip


def validate_language(
    files: Sequence[str | Path],
    language: str,
    options: DataOptions = DEFAULT_OPTIONS,
    *,
    script: str | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read, clean, check and split the corpus of one language.

    Args:
        files: JSONL files; their names carry no meaning.
        language: code of every row's language, such as `hi` or `hi_Latn`.
        options: of the data stage.
        script: ISO 15924 code; by default the one in the language code, else the usual one by CLDR.

    Returns:
        The kept rows with COLUMNS, sorted by id, and the report: counts, every rejected row with file,
        line and reason, artefact rates, limits, splits, hashes of the evaluation ids.

    Raises:
        InputError: malformed lines, leaks between declared splits, a limit that does not hold, or no
            row left; one line a problem.
    """
    script = script or likely_script(language)
    parts = [
        read_records(
            file, schema=options.row_schema, encoding=options.encoding, ignored_fields=options.ignored_fields
        )
        for file in files
    ]
    raise_problems([problem for part in parts for problem in part.problems])
    cleaned = clean([record for part in parts for record in part.rows], language, script, options)
    read = sum(len(part.rows) for part in parts)
    rows, rejected = _select(cleaned, language, script, options)
    if not rows:
        counts = Counter(problem.reason for problem in rejected)
        raise_problems([_nothing_left(files, language, read, counts), *rejected])
    limits = _limits(rows, rejected, read, language, options)
    failed: list[Problem | str] = [f"{', '.join(map(str, files))}: {text}" for limit in limits
                                   if (text := limit.complaint)]  # fmt: skip
    raise_problems([*failed, *(rejected if failed else [])])
    sampled = _sample(rows, options)
    report = {
        "language": language,
        "script": script,
        "files": [_file_report(part) for part in parts],
        "counts": {
            "read": read,
            "rejected": len(rejected),
            "sampled_out": len(rows) - len(sampled),
            "kept": len(sampled),
        },
        "rejected": dict(sorted(Counter(problem.reason for problem in rejected).items())),
        "rejects": [
            {"file": problem.file, "line": problem.line, "reason": problem.reason, "detail": problem.detail}
            for problem in sorted(rejected)
        ],
        "wrapping_residue": {name: cleaned.residue[name] for name in ("found", "repaired")},
        "limits": [limit.as_dict() for limit in limits],
        "fields": dict(sorted(cleaned.given.items())),
        "sampled_ids": ids_hash(str(row["example_id"]) for row in sampled),
        **describe_rows(sampled),
        "splits": describe_splits(sampled),
    }
    return _table(sampled), report


def _select(
    cleaned: Cleaned, language: str, script: str, options: DataOptions
) -> tuple[list[Row], list[Problem]]:
    """Usable rows sorted by id, each with its split, and all rejected ones.

    The order is by content and not by line: neither shuffling a file nor renaming it changes which of two
    duplicates stays.
    """
    misplaced = misplaced_rows(cleaned.rows, language, script, options)
    rejected = [*cleaned.rejected, *misplaced.values()]
    rows = [row for place, row in enumerate(cleaned.rows) if place not in misplaced]
    rows.sort(key=lambda row: tuple(str(row[name]) for name in ("example_id", "prompt", "answer", "group")))

    declared = [bool(row["split"]) for row in rows]
    splits, problems = assign_splits(rows, options)
    rows = [{**row, "split": split} for row, split in zip(rows, splits, strict=True)]
    leaking = leaks(rows)
    # A leak between splits that the data itself declares is the author's to solve.
    raise_problems([*problems, *(leaking[place] for place in sorted(leaking) if declared[place])])
    rejected += leaking.values()
    rows = [row for place, row in enumerate(rows) if place not in leaking]

    repeated = exact_duplicates([str(row["prompt"]) for row in rows], [str(row["answer"]) for row in rows])
    rejected += [_duplicate(rows[place], rows[first]) for place, first in repeated.items()]
    rows = [row for place, row in enumerate(rows) if place not in repeated]
    _require_unique_ids(rows)
    return rows, rejected


def _duplicate(row: Row, first: Row) -> Problem:
    detail = f"says the same as {first['file']}:{first['line']}. Remove one of them."
    return Problem(str(row["file"]), int(row["line"]), "exact_duplicate", detail)


def _require_unique_ids(rows: Sequence[Row]) -> None:
    first: dict[str, Row] = {}
    problems = []
    for row in rows:
        other = first.setdefault(str(row["example_id"]), row)
        if other is not row:
            detail = (
                f"the id {row['example_id']!r} is also at {other['file']}:{other['line']}. "
                "Ids are unique within a language; parallel rows of other languages repeat them."
            )
            problems.append(Problem(str(row["file"]), int(row["line"]), "repeated_id", detail))
    raise_problems(problems)


def _nothing_left(files: Sequence[str | Path], language: str, read: int, counts: Counter[str]) -> str:
    reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(counts.items()))
    return (
        f"{', '.join(map(str, files))}: no row of {language} is left of {read} ({reasons}). "
        "Correct the rows, or the language under data.corpora."
    )


def _limits(
    rows: list[Row], rejected: Sequence[Problem], read: int, language: str, options: DataOptions
) -> list[Limit]:
    """Every limit of the stage with its measured value; one that fails fails the stage."""
    prompts, answers = ([str(row[name]) for row in rows] for name in ("prompt", "answer"))
    texts = [f"{prompt} {answer}" for prompt, answer in zip(prompts, answers, strict=True)]
    near = near_duplicates(texts, templates=[str(row["template_id"]) for row in rows])
    found = artefact_counts(zip(prompts, answers, strict=True))
    kept = len(rows) if options.max_rows is None else min(len(rows), options.max_rows)
    limits = [
        Limit("rows", kept, options.minimum_rows, "at_least", "minimum_rows"),
        Limit("drop_share", len(rejected) / read, options.max_drop_share, "at_most", "max_drop_share"),
        Limit(
            "near_duplicates", len(near) / len(rows), options.near_duplicate_limit, "at_most",
            "near_duplicate_limit",
        ),
        *(
            Limit(kind, found[kind] / len(rows), options.residue_limit, "at_most", "residue_limit")
            for kind in KINDS
        ),
    ]  # fmt: skip
    if native_script(language):
        share = romanised_share(rows, language)
        limits.append(Limit("romanised", share, options.romanised_minimum, "at_least", "romanised_minimum"))
    return limits


def _sample(rows: list[Row], options: DataOptions) -> list[Row]:
    """`max_rows` rows by hash of seed and id: parallel rows of other languages are drawn alike."""
    if options.max_rows is None or len(rows) <= options.max_rows:
        return rows
    drawn = sorted(rows, key=lambda row: position("sample", options.seed, row["example_id"]))
    return sorted(drawn[: options.max_rows], key=lambda row: str(row["example_id"]))


def _file_report(part: Records) -> dict[str, Any]:
    return {
        "file": part.file,
        "sha256": sha256_file(part.file),
        "schema": part.schema,
        "lines": part.lines,
        "blank_lines": part.blank,
        "rows": len(part.rows),
        "ignored_fields": part.ignored,
    }


def _table(rows: Sequence[Row]) -> pd.DataFrame:
    import pandas as pd

    table = pd.DataFrame([[row[name] for name in COLUMNS] for row in rows], columns=list(COLUMNS))
    return table.astype({name: "int64" if name == "line" else "str" for name in COLUMNS})
