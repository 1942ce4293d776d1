"""Telling languages apart that share the Latin script: English from romanised Hindi, and the like.

General identifiers have no classes for romanised Indic text. This one is closed-set: naive Bayes over
character n-grams, fitted within a second on the experiment's own FIT texts. It knows only what it was
shown, so it abstains on text unlike any of it, and its error is measured with `measure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError
from mmie.language.votes import ABSTAIN, Vote

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ORDERS = (1, 2, 3, 4)
_BUCKETS = 1 << 15
_SMOOTHING = 0.05
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LEAST_TEXTS = 20
_CALIBRATION_STEP = 5
_TEMPERATURES = np.geomspace(0.05, 20.0, 60)


@dataclass(frozen=True)
class PrefixScores:
    """Scores of every whitespace prefix of one text, without scoring any prefix by itself.

    confidence: probability of each label after each whitespace token, [tokens, labels];
    familiar: whether that prefix resembles the fitted texts, [tokens].
    """

    confidence: Floats
    familiar: NDArray[np.bool_]


class RomanisedClassifier:
    """Closed-set classifier for languages written in one script.

    score(text, c) = sum over character n-grams g (n = 1..4, word borders included) of log P(g | c);
    confidence = softmax(score / (tau sqrt(number of n-grams))), tau fitted on texts left out of the
    counts. Below `floor`, or when the mean log P(g) of the best class is lower than almost
    any calibration text had, the verdict is `und`.

    Source: naive Bayes over n-grams as in Lui and Baldwin 2012; the square root after py3langid.
    """

    name = "romanised"

    def __init__(
        self, labels: list[str], tables: Floats, tau: float, strangeness: float, floor: float
    ) -> None:
        self.labels = labels
        self.floor = floor
        self._tables = tables
        self._tau = tau
        self._strangeness = strangeness

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[str], *, floor: float = 0.9) -> RomanisedClassifier:
        """Fit on labelled texts.

        Args:
            texts: prompts and answers of the FIT split.
            labels: their language codes; at least two, with at least 20 distinct texts each.
            floor: confidence below which the classifier abstains.

        Raises:
            InputError: too few labels or texts.
        """
        if len(texts) != len(labels):
            raise ValueError(f"{len(texts)} texts but {len(labels)} labels")
        pairs = sorted({(label, clean) for text, label in zip(texts, labels, strict=True)
                        if (clean := _clean(text))})  # fmt: skip
        names = sorted({label for label, _ in pairs})
        counts = {name: sum(label == name for label, _ in pairs) for name in names}
        if len(names) < 2 or min(counts.values()) < _LEAST_TEXTS:
            raise InputError(
                f"romanised language classifier: needs two languages with {_LEAST_TEXTS} distinct texts "
                f"each, has {counts}. Add rows, or leave the second language out."
            )
        classes = np.array([names.index(label) for label, _ in pairs])
        clean_texts = [text for _, text in pairs]
        held_out = np.arange(len(pairs)) % _CALIBRATION_STEP == 0
        fitted = [text for text, out in zip(clean_texts, held_out, strict=True) if not out]
        first = cls(names, _count(fitted, classes[~held_out], len(names)), 1.0, -np.inf, floor)
        checks = [text for text, out in zip(clean_texts, held_out, strict=True) if out]
        tau, strangeness = first._calibrate(checks, classes[held_out])
        tables = _count(clean_texts, classes, len(names))
        return cls(names, tables, tau, strangeness, floor)

    def predict(self, texts: Sequence[str]) -> tuple[list[str], Floats]:
        """Labels (`und` where unsure) and the confidence of the best class, [texts]."""
        if not texts:
            return [], np.zeros(0)
        scores, sizes = self._scores([_clean(text) for text in texts])
        probabilities = self._probabilities(scores, sizes)
        best = probabilities.argmax(1)
        confidence = np.where(sizes > 0, probabilities.max(1), 0.0)
        familiar = scores.max(1) >= self._strangeness * sizes
        sure = (confidence >= self.floor) & familiar & (sizes > 0)
        labels = [self.labels[index] if ok else ABSTAIN for index, ok in zip(best, sure, strict=True)]
        return labels, confidence

    def vote(self, texts: Sequence[str]) -> list[Vote]:
        labels, confidence = self.predict(texts)
        return [Vote(self.name, label, float(value)) for label, value in zip(labels, confidence, strict=True)]

    def description(self) -> dict[str, str]:
        return {"member": self.name, "labels": " ".join(self.labels), "floor": str(self.floor)}

    def prefixes(self, text: str) -> PrefixScores:
        """Confidence after every whitespace token, from one cumulative sum over the characters.

        Equal to predicting each prefix, because an n-gram that ends inside a prefix lies in it.
        """
        words = [_clean(token).strip() for token in text.split()]
        clean = " " + "".join(f"{word} " for word in words if word)
        sums, grams = self._running(clean)
        ends = np.cumsum([len(word) + 1 if word else 0 for word in words]).astype(np.int64)
        confidence = self._probabilities(sums[ends], grams[ends])
        confidence[ends == 0] = 0.0
        familiar = (sums[ends].max(1) >= self._strangeness * grams[ends]) & (ends > 0)
        return PrefixScores(confidence, familiar)

    def _running(self, clean: str) -> tuple[Floats, Integers]:
        """Class scores and n-gram counts up to and including each character of a text."""
        codes = _codes(clean)
        sums = np.zeros((len(codes), len(self.labels)))
        grams = np.zeros(len(codes), dtype=np.int64)
        for place, order in enumerate(_ORDERS):
            buckets = _buckets(codes, order)
            if len(buckets):
                sums[order - 1 :] += self._tables[place][:, buckets].T
                grams[order - 1 :] += 1
        # The border before the first word is not evidence by itself; it starts the count.
        return sums.cumsum(0), grams.cumsum()

    def _scores(self, clean: Sequence[str]) -> tuple[Floats, Integers]:
        """Class scores [texts, labels] and n-gram counts [texts] of cleaned texts, all at once."""
        lengths = np.array([len(text) for text in clean])
        owners = np.repeat(np.arange(len(clean)), lengths)
        codes = _codes("".join(clean))
        scores = np.zeros((len(clean), len(self.labels)))
        sizes = np.zeros(len(clean), dtype=np.int64)
        for place, order in enumerate(_ORDERS):
            buckets, owner = _inside(codes, owners, order)
            sizes += np.bincount(owner, minlength=len(clean))
            for label in range(len(self.labels)):
                weights = self._tables[place][label, buckets]
                scores[:, label] += np.bincount(owner, weights=weights, minlength=len(clean))
        return scores, sizes

    def _probabilities(self, scores: Floats, sizes: Integers) -> Floats:
        scaled = scores / (self._tau * np.sqrt(np.maximum(sizes, 1)))[:, None]
        scaled = np.exp(scaled - scaled.max(1, keepdims=True))
        return np.asarray(scaled / scaled.sum(1, keepdims=True))

    def _calibrate(self, clean: Sequence[str], classes: Integers) -> tuple[float, float]:
        """Temperature with the best held-out log-likelihood, and the edge of familiar text.

        Whole texts and their first words are both used: answers are short, prompts are not.
        """
        starts = [text for whole in clean for text in (whole, _first_words(whole, 2))]
        truth = np.repeat(classes, 2)
        scores, sizes = self._scores(starts)
        losses = []
        for tau in _TEMPERATURES:
            self._tau = float(tau)
            right = self._probabilities(scores, sizes)[np.arange(len(truth)), truth]
            losses.append(-np.log(np.maximum(right, 1e-12)).mean())
        per_gram = scores.max(1) / np.maximum(sizes, 1)
        # Slightly below the strangest of a hundred: names that were not fitted stay familiar.
        return float(_TEMPERATURES[int(np.argmin(losses))]), float(np.quantile(per_gram, 0.01)) - 0.25


def _clean(text: str) -> str:
    """Lower-case words between single spaces, with a space at both ends; "" without letters."""
    letters = "".join(
        character if character.isalpha() or character == "'" else " " for character in text.lower()
    )
    words = letters.split()
    return f" {' '.join(words)} " if words else ""


def _first_words(clean: str, number: int) -> str:
    return f" {' '.join(clean.split()[:number])} "


def _codes(text: str) -> NDArray[np.uint64]:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)


def _buckets(codes: NDArray[np.uint64], order: int) -> Integers:
    """Hash bucket of the n-gram that starts at each position where one fits."""
    number = max(len(codes) - order + 1, 0)
    hashed = np.full(number, order, dtype=np.uint64)
    for offset in range(order):
        hashed = (hashed ^ codes[offset : offset + number]) * _MIX
        hashed ^= hashed >> np.uint64(29)
    return (hashed % np.uint64(_BUCKETS)).astype(np.int64)


def _inside(codes: NDArray[np.uint64], owners: Integers, order: int) -> tuple[Integers, Integers]:
    """Buckets of the n-grams that lie in one text, and the texts they lie in."""
    buckets = _buckets(codes, order)
    first, last = owners[: len(buckets)], owners[order - 1 :]
    inside = first == last[: len(buckets)]
    return buckets[inside], first[inside]


def _count(clean: Sequence[str], classes: Integers, n_classes: int) -> Floats:
    """log P(bucket | class) of every order, [orders, classes, buckets]."""
    lengths = np.array([len(text) for text in clean])
    owners = np.repeat(np.arange(len(clean)), lengths)
    codes = _codes("".join(clean))
    tables = np.zeros((len(_ORDERS), n_classes, _BUCKETS))
    for place, order in enumerate(_ORDERS):
        buckets, owner = _inside(codes, owners, order)
        flat = classes[owner] * _BUCKETS + buckets
        tables[place] = np.bincount(flat, minlength=n_classes * _BUCKETS).reshape(n_classes, -1)
    smoothed = tables + _SMOOTHING
    return np.asarray(np.log(smoothed / smoothed.sum(2, keepdims=True)))
