"""Rows that say the same: exactly, after normalisation, or nearly.

Both looks go over all rows, never over a sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmie.data.comparison import comparison_key, row_keys
from mmie.io import seed_from

Bits = NDArray[np.uint64]

SHINGLE = 5
SIMILAR = 0.8
_BANDS, _BAND_SIZE = 20, 5
_MIX = np.uint64(0x9E3779B97F4A7C15)


def exact_duplicates(prompts: Sequence[str], answers: Sequence[str]) -> dict[int, int]:
    """Rows whose prompt and answer occurred before: place of the later row -> place of the first.

    Case, Unicode form, punctuation, spacing and zero-width characters make no difference.
    """
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for place, key in enumerate(row_keys(prompts, answers)):
        if first.setdefault(key, place) != place:
            found[place] = first[key]
    return found


def near_duplicates(
    texts: Sequence[str], *, templates: Sequence[str] | None = None, threshold: float = SIMILAR
) -> dict[int, int]:
    """Texts with a near duplicate: place of a text -> place of one text that it resembles.

    Near means a Jaccard similarity of at least `threshold` between the sets of character 5-grams after
    normalisation. Candidates come from MinHash in 20 bands of 5, which finds a pair of similarity 0.8
    with probability 0.9996; every candidate is then compared exactly, so there are no false ones.

    Args:
        texts: one a row.
        templates: template of each row, "" for none; rows of one template resemble each other by
            construction and are not compared.
        threshold: least similarity.

    Source: Broder 1997 (MinHash); Leskovec, Rajaraman, Ullman 2014, chapter 3 (banding).
    """
    if len(texts) < 2:
        return {}
    shingles = [_shingles(text) for text in texts]
    classes = _classes(templates, len(texts))
    found: dict[int, int] = {}
    for bucket in _candidates(_signatures(shingles)):
        if all(place in found for place in bucket):
            continue
        left, right = _similar_pairs(shingles, bucket, classes, threshold)
        for one, other in zip(left, right, strict=True):
            found.setdefault(int(one), int(other))
    return dict(sorted(found.items()))


def _classes(templates: Sequence[str] | None, number: int) -> NDArray[np.int64]:
    """A number for each template; rows without one get a number of their own."""
    names = templates or [""] * number
    known: dict[str, int] = {}
    return np.array(
        [known.setdefault(name, len(known)) if name else number + place for place, name in enumerate(names)]
    )


def _shingles(text: str) -> Bits:
    """Sorted distinct hashes of the character 5-grams of a text; of the whole text if it is shorter."""
    padded = f" {comparison_key(text)} ".ljust(SHINGLE)
    codes = np.frombuffer(padded.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    hashed = np.zeros(len(codes) - SHINGLE + 1, dtype=np.uint64)
    for offset in range(SHINGLE):
        hashed = (hashed ^ codes[offset : offset + len(hashed)]) * _MIX
        hashed ^= hashed >> np.uint64(29)
    return np.unique(hashed)


def _signatures(shingles: Sequence[Bits]) -> Bits:
    """MinHash signatures, [texts, bands * band size]: least hash of each text under 100 functions."""
    generator = np.random.default_rng(seed_from("minhash"))
    whole = np.iinfo(np.uint64).max
    factors = generator.integers(1, whole, size=_BANDS * _BAND_SIZE, dtype=np.uint64) | np.uint64(1)
    offsets = generator.integers(0, whole, size=_BANDS * _BAND_SIZE, dtype=np.uint64)
    starts = np.cumsum([0, *(len(grams) for grams in shingles[:-1])])
    everything = np.concatenate(shingles)
    signatures = np.empty((len(shingles), len(factors)), dtype=np.uint64)
    for place, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
        # The high half of a product depends on all bits of a factor, the low half does not.
        hashed = (everything * factor + offset) >> np.uint64(32)
        signatures[:, place] = np.minimum.reduceat(hashed, starts)
    return signatures


def _candidates(signatures: Bits) -> Iterator[NDArray[np.int64]]:
    """Groups of texts that agree in a whole band."""
    for band in range(_BANDS):
        columns = signatures[:, band * _BAND_SIZE : (band + 1) * _BAND_SIZE]
        _, inverse, counts = np.unique(columns, axis=0, return_inverse=True, return_counts=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        for group in np.split(order, np.cumsum(counts)[:-1]):
            if len(group) > 1:
                yield group


def _similar_pairs(
    shingles: Sequence[Bits], bucket: NDArray[np.int64], classes: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs inside a bucket with an exact Jaccard similarity of at least `threshold`, both ways."""
    from scipy.sparse import csr_array

    sizes = np.array([len(shingles[place]) for place in bucket])
    _, columns = np.unique(np.concatenate([shingles[place] for place in bucket]), return_inverse=True)
    held = csr_array(
        (np.ones(len(columns), dtype=np.int32), columns.ravel(), np.concatenate([[0], np.cumsum(sizes)])),
        shape=(len(bucket), int(columns.max()) + 1),
    )
    left_parts, right_parts = [], []
    # A large bucket is compared in slices, so that memory stays bounded.
    for start in range(0, len(bucket), 512):
        rows = slice(start, start + 512)
        shared = (held[rows] @ held.T).toarray()
        union = sizes[rows, None] + sizes[None, :] - shared
        similar = shared >= threshold * union
        similar &= classes[bucket[rows], None] != classes[None, bucket]
        left, right = np.nonzero(similar)
        left_parts.append(bucket[rows][left])
        right_parts.append(bucket[right])
    return np.concatenate(left_parts), np.concatenate(right_parts)
