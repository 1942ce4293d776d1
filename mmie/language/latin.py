"""Romanised South Asian languages, English, code-mixed and other text in Latin letters.

General identifiers have no classes for romanised Indic text: they call romanised Hindi Indonesian, Finnish
or Shona. The shipped classifier knows Hindi, Urdu, Punjabi and Bengali in Latin letters, English, text that
mixes one of these with English, and "other". `docs/language.md` has its measured error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmie.io import sha256_file
from mmie.language.fasttext_model import load_fasttext, predict
from mmie.language.votes import ABSTAIN, Vote

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "lid" / "latin.ftz"

HINDI, URDU, PUNJABI, BENGALI = "hi_Latn", "ur_Latn", "pa_Latn", "bn_Latn"
ROMANISED = frozenset({HINDI, URDU, PUNJABI, BENGALI})
ENGLISH, MIXED_LANGUAGES, OTHER = "en", "mixed", "other"
LABELS = (HINDI, URDU, PUNJABI, BENGALI, ENGLISH, MIXED_LANGUAGES, OTHER)

# Every character that is no letter and no apostrophe is a border between words.
_ASCII = {code: chr(code).lower() if chr(code).isalpha() or chr(code) == "'" else " " for code in range(128)}


def words_of(text: str) -> str:
    """What the classifier reads of `text`: lower-case words, one space between; "" without letters."""
    if text.isascii():
        return " ".join(text.translate(_ASCII).split())
    kept = [letter if letter.isalpha() or letter == "'" else " " for letter in text.lower()]
    return " ".join("".join(kept).split())


class LatinClassifier:
    """The shipped fastText classifier for text in Latin letters.

    Its seven labels are `LABELS`; it abstains below `floor` and on text without a letter. A missing or
    unreadable model is an InputError.

    Source: Joulin et al. 2016 (arXiv 1607.01759), 1612.03651; trained by the rule `lid`.
    """

    name = "latin"

    def __init__(self, model: str | Path | None = None, *, floor: float = 0.6) -> None:
        self.floor = floor
        self.path = Path(model) if model is not None else SHIPPED
        self._model = load_fasttext(
            self.path, remedy="Restore data/lid/latin.ftz or rebuild it with the rule lid."
        )

    def vote(self, texts: Sequence[str]) -> list[Vote]:
        return [
            Vote(self.name, label if label and confidence >= self.floor else ABSTAIN, confidence)
            for label, confidence in predict(self._model, [words_of(text) for text in texts])
        ]

    def description(self) -> dict[str, str]:
        return {"member": self.name, "model": self.path.name, "sha256": sha256_file(self.path)}
