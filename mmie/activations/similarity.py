"""How alike two representations of the same items are, and how alike they would be by chance.

`x` and `y` are [items, width], float64, row `i` the same item in both. Every function centres the
columns first: in exact arithmetic that changes nothing for the debiased estimators, in floating point
it decides whether there is a number. Chance levels depend on the statistic, the number of items and the
width, so only the excess over a null of re-paired items is ever compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmie.errors import InputError

Matrix = NDArray[np.float64]
Index = NDArray[np.int64]
Form = Literal["auto", "gram", "feature"]

SIMILARITIES = ("cka", "procrustes", "anc")
FEWEST_ITEMS = 4


def centred(x: Matrix) -> Matrix:
    """Columns without their means, [items, width]."""
    x = np.asarray(x, dtype=np.float64)
    return x - x.mean(axis=0)


def standardised(x: Matrix) -> tuple[Matrix, NDArray[np.bool_]]:
    """Columns with mean 0 and standard deviation 1; constant ones are 0 and marked False.

    Keeps one massive dimension from being the whole comparison.
    """
    x = centred(x)
    scale = x.std(axis=0)
    varies = scale > 1e-12 * max(1.0, float(scale.max(initial=0.0)))
    return np.divide(x, scale, out=np.zeros_like(x), where=varies), varies


def debiased_cka(x: Matrix, y: Matrix, form: Form = "auto") -> float:
    """Centred kernel alignment with the unbiased HSIC estimator, linear kernel.

    Both forms give the same number; "gram" costs items^2 width and "feature" items width^2.

    Returns:
        About [-1, 1]; negative values are not clipped. NaN when a denominator is not positive.

    Raises:
        InputError: fewer than 4 items, or unpaired rows.

    Source: Song et al. 2012; Kornblith et al. 2019 (arXiv 1905.00414); bias: arXiv 2405.01012.
    """
    x, y = _paired(x, y)
    if form == "auto":
        form = "gram" if len(x) < x.shape[1] else "feature"
    if form == "gram":
        gram_x, gram_y = x @ x.T, y @ y.T
        np.fill_diagonal(gram_x, 0)
        np.fill_diagonal(gram_y, 0)
        return _ratio(hsic_gram(gram_x, gram_y), hsic_gram(gram_x, gram_x), hsic_gram(gram_y, gram_y))
    return _ratio(_hsic_feature(x, y), _hsic_feature(x, x), _hsic_feature(y, y))


def hsic_gram(k: Matrix, l_: Matrix) -> float:
    """Unbiased HSIC of two Gram matrices [items, items] whose diagonals are 0."""
    n = len(k)
    rows_k, rows_l = k.sum(axis=1), l_.sum(axis=1)
    product = float((k * l_).sum())
    product += float(rows_k.sum() * rows_l.sum()) / ((n - 1) * (n - 2))
    product -= 2 / (n - 2) * float(rows_k @ rows_l)
    return product / (n * (n - 3))


def procrustes(x: Matrix, y: Matrix, form: Form = "auto") -> float:
    """Share of variance that one space keeps after the best rotation onto the other, in [0, 1].

    Nuclear norm of x'y over the product of Frobenius norms; Ding's distance is 2 - 2 times this. Two
    random spaces reach 0.97 with 64 items of width 512: never read it without its null.

    Raises:
        InputError: fewer than 4 items, or unpaired rows.

    Source: Ding et al. 2021 (arXiv 2108.01661).
    """
    x, y = _paired(x, y)
    if form == "gram" or (form == "auto" and len(x) < x.shape[1]):
        x, y = _reduced(x), _reduced(y)
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    nuclear = float(np.linalg.svd(x.T @ y, compute_uv=False).sum())
    return nuclear / scale if scale > 0 else float("nan")


def neuron_correlation(x: Matrix, y: Matrix) -> tuple[float, int]:
    """Mean correlation of each neuron with itself over paired items, signed, in [-1, 1].

    Returns:
        The mean over neurons that vary in both, and the number of constant ones left out. NaN when
        none varies.

    Source: Del and Fishel 2022 (arXiv 2212.01924), one model, one layer.
    """
    _paired(x, y)
    (x, varies_x), (y, varies_y) = standardised(x), standardised(y)
    both = varies_x & varies_y
    if not both.any():
        return float("nan"), len(both)
    return float((x[:, both] * y[:, both]).mean()), int((~both).sum())


def retrieval(x: Matrix, y: Matrix) -> float:
    """How often an item's nearest neighbour by cosine is its translation; chance is 1 / items."""
    x, y = _paired(x, y)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    y = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-300)
    cosine = x @ y.T
    own = np.arange(len(x))
    return float(((cosine.argmax(axis=1) == own).mean() + (cosine.argmax(axis=0) == own).mean()) / 2)


class Pair:
    """Two standardised representations of the same items, to be compared under many pairings.

    One product of matrices gives all three similarities, so nulls of hundreds of pairings are cheap.
    """

    def __init__(self, x: Matrix, y: Matrix) -> None:
        _paired(x, y)
        (x, varies_x), (y, varies_y) = standardised(x), standardised(y)
        both = varies_x & varies_y
        self.constant = int((~both).sum())
        self.items = len(x)
        self._neurons = int(both.sum())
        self._x, self._y = x[:, both], y[:, both]
        wide = self.items < self._neurons
        # Gram-equal coordinates of at most `items` dimensions.
        self._u = _reduced(self._x) if wide else self._x
        self._v = _reduced(self._y) if wide else self._y
        self._wide = wide
        self._rows_u, self._rows_v = (self._u**2).sum(axis=1), (self._v**2).sum(axis=1)
        self._self = (_hsic_feature(self._u, self._u), _hsic_feature(self._v, self._v))

    def compare(
        self, pairing: Index | None = None, *, with_procrustes: bool = True, exact: bool = False
    ) -> dict[str, float]:
        """Similarities when item `i` of x is paired with item `pairing[i]` of y.

        Args:
            pairing: a permutation; the true pairing when None.
            with_procrustes: include it; it costs most of the time.
            exact: singular values by SVD; otherwise from eigenvalues, right to 1e-6 and faster.
        """
        if self._neurons == 0:
            return dict.fromkeys(SIMILARITIES, float("nan"))
        v = self._v if pairing is None else self._v[pairing]
        rows_v = self._rows_v if pairing is None else self._rows_v[pairing]
        cross = self._u.T @ v
        n = self.items
        hsic = float((cross**2).sum()) - n / (n - 2) * float(self._rows_u @ rows_v)
        hsic += float(self._rows_u.sum() * rows_v.sum()) / ((n - 1) * (n - 2))
        if self._wide:
            y = self._y if pairing is None else self._y[pairing]
            trace = float((self._x * y).sum())
        else:
            trace = float(np.trace(cross))
        found = {"cka": _ratio(hsic, *self._self), "anc": trace / (n * self._neurons)}
        if with_procrustes:
            scale = float(np.sqrt(self._rows_u.sum() * rows_v.sum()))
            found["procrustes"] = _nuclear_norm(cross, exact) / scale
        return found

    def subset(self, items: Index) -> Pair:
        """The pair restricted to distinct items, standardised anew.

        Raises:
            InputError: an item comes twice. Duplicates fill the off-diagonal that debiasing removes:
                a bootstrap turns a true 0 into 0.88 at 64 items of width 512.
        """
        if len(np.unique(items)) != len(items):
            raise InputError("resample: an item was drawn twice. Draw items without replacement.")
        return Pair(self._x[items], self._y[items])


@dataclass(frozen=True)
class Null:
    """A similarity beside its distribution under re-paired items."""

    value: float
    mean: float
    sd: float
    p: float

    @property
    def excess(self) -> float:
        """0 at chance, 1 when identical: the only form in which similarities are compared."""
        return (self.value - self.mean) / (1 - self.mean)


def against_chance(pair: Pair, pairings: list[Index], procrustes_pairings: int) -> dict[str, Null]:
    """Each similarity with the null given by `pairings`.

    Args:
        pair: the two representations.
        pairings: permutations of the items, see `permuted_within`.
        procrustes_pairings: how many of them also serve the (slower) Procrustes similarity.
    """
    value = pair.compare(exact=True)
    draws = [
        pair.compare(pairing, with_procrustes=at < procrustes_pairings) for at, pairing in enumerate(pairings)
    ]
    nulls = {}
    for name in SIMILARITIES:
        drawn = np.array([draw[name] for draw in draws if name in draw])
        beyond = int((drawn >= value[name]).sum())
        nulls[name] = Null(
            value[name],
            float(drawn.mean()),
            float(drawn.std(ddof=1)),
            (1 + beyond) / (1 + len(drawn)),
        )
    return nulls


def permuted_within(strata: NDArray[np.int64], rng: np.random.Generator) -> Index:
    """A random permutation that moves items within their stratum only."""
    order = np.argsort(strata, kind="stable")
    shuffled = order[np.lexsort((rng.random(len(strata)), strata[order]))]
    pairing = np.empty_like(order)
    pairing[order] = shuffled
    return pairing


def _paired(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    if np.ndim(x) != 2 or np.ndim(y) != 2 or len(x) != len(y):
        raise InputError(
            f"representations {np.shape(x)} and {np.shape(y)}: rows must be the same items in both. "
            "Join them on the item id."
        )
    if len(x) < FEWEST_ITEMS:
        raise InputError(f"similarity of {len(x)} items: at least {FEWEST_ITEMS} are needed.")
    return centred(x), centred(y)


def _hsic_feature(x: Matrix, y: Matrix) -> float:
    """n (n - 3) times the unbiased HSIC, from centred features."""
    n = len(x)
    rows_x, rows_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    value = float(((x.T @ y) ** 2).sum()) - n / (n - 2) * float(rows_x @ rows_y)
    return value + float(rows_x.sum() * rows_y.sum()) / ((n - 1) * (n - 2))


def _ratio(cross: float, own_x: float, own_y: float) -> float:
    if own_x <= 0 or own_y <= 0:
        return float("nan")
    return cross / float(np.sqrt(own_x * own_y))


def _reduced(x: Matrix) -> Matrix:
    """Coordinates with the same Gram matrix in at most as many dimensions as items."""
    triangle: Matrix = np.linalg.qr(x.T, mode="r")  # type: ignore[assignment]
    return triangle.T


def _nuclear_norm(matrix: Matrix, exact: bool) -> float:
    if exact:
        return float(np.linalg.svd(matrix, compute_uv=False).sum())
    return float(np.sqrt(np.maximum(np.linalg.eigvalsh(matrix.T @ matrix), 0)).sum())
