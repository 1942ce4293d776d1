"""How corpora are read and checked: one frozen set of options for the whole data stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mmie.errors import InputError

_SHARES = (
    "residue_limit", "max_drop_share", "near_duplicate_limit", "prompt_share",
    "fit_share", "dev_share", "script_share_minimum", "romanised_minimum", "composition_minimum",
)  # fmt: skip


@dataclass(frozen=True)
class DataOptions:
    """Options of the data stage; the section `data` of the configuration without its corpora.

    Attributes:
        row_schema: shape of a row; `auto` takes the shape of a file's first row for the whole file.
        encoding: encoding of the files.
        ignored_fields: row fields that are knowingly left unread.
        repair_residue: remove wrapping residue such as a stray `"` before and `",` after a text.
        residue_limit: largest share of rows that any kind of artefact may touch, after repair.
        max_drop_share: largest share of rows that may be rejected.
        near_duplicate_limit: largest share of rows with a near duplicate of another template.
        minimum_rows: fewest rows that a language must keep.
        max_rows: accepted rows to sample by seed; None for all.
        prompt_share: share of a plain text's words that become its prompt.
        fit_share: share of the groups (clusters) for fitting.
        dev_share: share of the groups for choosing; the rest is TEST.
        seed: seed of splits and sampling.
        script_share_minimum: least share of a text's letters in the script of its language.
        romanised_minimum: least share of a romanised set that reads as the romanised language.
        composition_minimum: least share of mixed and of adversarial prompts of a forget language
            that hold letters of a forget language's script.
        declared_overlaps: pairs of sets that may share texts, as `forget/fit~retain/fit`.
    """

    row_schema: str = "auto"
    encoding: str = "utf-8"
    ignored_fields: Sequence[str] = ()
    repair_residue: bool = False
    residue_limit: float = 0.01
    max_drop_share: float = 0.1
    near_duplicate_limit: float = 1.0
    minimum_rows: int = 20
    max_rows: int | None = None
    prompt_share: float = 0.5
    fit_share: float = 0.5
    dev_share: float = 0.2
    seed: int = 0
    script_share_minimum: float = 0.5
    romanised_minimum: float = 0.5
    composition_minimum: float = 0.1
    declared_overlaps: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"data.{name}: {getattr(self, name)} is not between 0 and 1.")
        if self.fit_share + self.dev_share >= 1:
            raise InputError("data.fit_share + data.dev_share leave nothing for TEST: lower one of them.")
        if self.minimum_rows < 1 or (self.max_rows is not None and self.max_rows < 1):
            raise InputError("data.minimum_rows and data.max_rows must be at least 1.")


DEFAULT_OPTIONS = DataOptions()
