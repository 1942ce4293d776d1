"""Which sets hold a row's wording already: whole prompts, whole rows, 13 words in a row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmie.data.comparison import comparison_key, ngrams, row_key

Row = Mapping[str, str | int]


@dataclass
class WordingIndex:
    """Rows by what they say, each under the name of its set.

    `whole` chooses what counts as the same text: `prompt` (an evaluation prompt must not occur in training
    at all) or `row` (prompt and answer). Thirteen shared words count as well, unless both rows come from
    one template or one group: those share wording by construction, and groups never cross splits.

    Source for 13 words: Brown et al. 2020 (arXiv 2005.14165), appendix C.
    """

    whole: str = "prompt"
    _texts: dict[str, dict[str, Row]] = field(default_factory=lambda: defaultdict(dict))
    _phrases: dict[str, dict[tuple[str, str], list[Row]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, row: Row, name: str) -> None:
        """Put a row under the name of its set."""
        self._texts[self._key(row)].setdefault(name, row)
        for phrase in self._grams(row):
            holders = self._phrases[phrase].setdefault((name, str(row["template_id"])), [])
            # Two holders of different groups are enough: one of them is foreign to any later row.
            if len(holders) < 2 and all(holder["group"] != row["group"] for holder in holders):
                holders.append(row)

    def others(self, row: Row, name: str) -> dict[str, tuple[str, Row]]:
        """Other sets that hold the wording: set name -> (`text` or `phrase`, a row of that set)."""
        found = {
            other: ("text", holder)
            for other, holder in self._texts.get(self._key(row), {}).items()
            if other != name
        }
        for phrase in self._grams(row) & self._phrases.keys():
            for (other, template), holders in self._phrases[phrase].items():
                if other == name or (template and template == row["template_id"]):
                    continue
                foreign = [holder for holder in holders if holder["group"] != row["group"]]
                if foreign:
                    found.setdefault(other, ("phrase", foreign[0]))
        return found

    def _key(self, row: Row) -> str:
        if self.whole == "prompt":
            return comparison_key(str(row["prompt"]))
        return row_key(str(row["prompt"]), str(row["answer"]))

    @staticmethod
    def _grams(row: Row) -> set[str]:
        return ngrams(f"{row['prompt']} {row['answer']}")
