from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mmie.activations.storage import ActivationStore
from mmie.errors import InputError
from mmie.io import seed_from
from mmie.sae import item_statistics
from mmie.sae.item_statistics import ItemStatistics, LatentStatistics, latent_statistics
from mmie.sae.topk import TopKSAE

Writer = Callable[..., ActivationStore]
LATENTS = 30
MEASURES = ("mean", "variance", "rate", "power")


def autoencoder(latents: int = LATENTS, width: int = 10, k: int = 4) -> TopKSAE:
    sae = TopKSAE(width, latents, k)
    sae.initialise(torch.zeros(width), torch.Generator().manual_seed(0))
    return sae.requires_grad_(False)


def rows(seed: int, count: int = 603) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 10)).astype(np.float32)


def by_hand(codes: np.ndarray, item: np.ndarray) -> dict[str, np.ndarray]:
    """The definitions, from one dense matrix [items, latents] a measure."""
    items = np.unique(item)
    mean = np.stack([codes[item == one].mean(0) for one in items])
    return {
        "items": mean,
        "mean": mean.mean(0),
        "variance": mean.var(0, ddof=1),
        "rate": np.stack([(codes[item == one] > 0).mean(0) for one in items]).mean(0),
        "power": np.stack([(codes[item == one] ** 2).mean(0) for one in items]).mean(0),
    }


def halves_by_hand(items: np.ndarray, language: str, seed: int) -> list[np.ndarray]:
    order = np.random.default_rng(seed_from("item halves", seed, language)).permutation(len(items))
    return [items[order[half::2]] for half in (0, 1)]


@pytest.mark.parametrize("batch", [4096, 64, 5, 1])
def test_sums_equal_the_dense_ones_whatever_the_batch(batch: int) -> None:
    values, indices = autoencoder().encode(torch.from_numpy(rows(0)))
    item = torch.from_numpy(np.repeat([5, 0, 9, 2, 11], [3, 300, 150, 149, 1]))
    collected = ItemStatistics(LATENTS, torch.tensor([0, 2, 1, 2, 2, 1, 2, 2, 2, 0, 2, 0], dtype=torch.int8))
    for start in range(0, len(item), batch):
        part = slice(start, start + batch)
        collected.add(values[part], indices[part], item[part])
    found = collected.result()
    codes = torch.zeros(len(item), LATENTS).scatter(1, indices, values).double().numpy()
    expected = by_hand(codes, item.numpy())
    for measure in MEASURES:
        assert getattr(found, measure) == pytest.approx(expected[measure], rel=1e-12, abs=1e-15), measure
    # Items in ascending order are 0, 2, 5, 9, 11; the halves are {0, 9, 11} and {2, 5}.
    for half, own in enumerate((expected["items"][[0, 3, 4]], expected["items"][[1, 2]])):
        assert found.halves[half].mean == pytest.approx(own.mean(0), rel=1e-12, abs=1e-15)
        assert found.halves[half].variance == pytest.approx(own.var(0, ddof=1), rel=1e-12, abs=1e-15)


def test_statistics_of_a_store_equal_the_dense_ones(
    write_store: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(item_statistics, "BATCH", 100)
    sae = autoencoder()
    store = write_store({"hi": rows(0), "en": rows(1, 40)})
    found = latent_statistics(sae, store, seed=3)
    for language, x in (("hi", rows(0)), ("en", rows(1, 40))):
        codes = sae.codes(torch.from_numpy(x)).double().numpy()
        expected = by_hand(codes, np.arange(len(x)) // 8)
        # Codes are of fp32, and of other batches than here.
        for measure in MEASURES:
            value = getattr(found[language], measure)
            assert value == pytest.approx(expected[measure], rel=1e-5, abs=1e-6), measure
        for half, own in enumerate(halves_by_hand(expected["items"], language, 3)):
            of_half = found[language].halves[half]
            assert of_half.mean == pytest.approx(own.mean(0), rel=1e-5, abs=1e-6)
            assert of_half.variance == pytest.approx(own.var(0, ddof=1), rel=1e-5, abs=1e-6)


def test_another_seed_draws_other_halves(write_store: Writer) -> None:
    store = write_store({"hi": rows(0)})
    one, same, other = (latent_statistics(autoencoder(), store, seed=seed)["hi"] for seed in (0, 0, 1))
    assert np.array_equal(one.halves[0].mean, same.halves[0].mean)
    assert not np.array_equal(one.halves[0].mean, other.halves[0].mean)
    assert np.array_equal(one.mean, other.mean)


def added(*batches: tuple[list[float], list[int]]) -> LatentStatistics:
    """One latent's codes and their items, batch by batch."""
    collected = ItemStatistics(2)
    for values, items in batches:
        collected.add(torch.tensor(values)[:, None], torch.zeros(len(values), 1).long(), torch.tensor(items))
    return collected.result()


def test_items_weigh_equally_whatever_their_length() -> None:
    # Eight tokens of code 1, two of code 4 and two silent ones: item means 1 and 2.
    found = added(([1.0] * 8, [3] * 8), ([4.0, 4.0, 0.0, 0.0], [7] * 4))
    assert found.mean.tolist() == [1.5, 0]
    assert found.variance.tolist() == [0.5, 0]
    assert found.rate.tolist() == [0.75, 0]
    assert found.power.tolist() == [(1 + 8) / 2, 0]


def test_an_item_may_go_on_in_later_batches() -> None:
    whole = added(([1.0, 2.0, 3.0, 6.0, 0.0], [0, 0, 0, 0, 1]))
    parts = added(([1.0], [0]), ([2.0, 3.0], [0, 0]), ([6.0, 0.0], [0, 1]), ([], []))
    assert whole.mean.tolist() == parts.mean.tolist() == [1.5, 0]
    assert whole.variance.tolist() == parts.variance.tolist() == [4.5, 0]
    assert np.isnan(added(([1.0], [0])).variance).all()


def test_rows_of_an_item_that_was_over_are_refused() -> None:
    with pytest.raises(InputError, match="item 0: its rows are not next to each other"):
        added(([1.0, 1.0, 1.0], [0, 1, 0]))
    with pytest.raises(InputError, match="item 0: its rows are not next to each other"):
        added(([1.0, 1.0], [0, 1]), ([1.0, 1.0], [2, 0]))


PEAK = """
import sys
from pathlib import Path
from pathlib import Path
import torch
from mmie.activations.storage import ActivationStore
from mmie.sae import item_statistics
from mmie.sae.features import pick_contrast
from mmie.sae.topk import TopKSAE

# What the encoder needs for a batch is the same for both stores.
item_statistics.BATCH = 256
sae = TopKSAE(4, {latents}, 4)
sae.initialise(torch.zeros(4), torch.Generator().manual_seed(0))
sae.requires_grad_(False)
for root in sys.argv[1:]:
    store = ActivationStore(Path(root), 1, ["hi", "en"])
    statistics = item_statistics.latent_statistics(sae, store)
    pick_contrast(sae, statistics, layer=1, forget=["hi"], retain=["en"], top_k=2)
    # getrusage would count the process that started this one.
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")))
"""


def test_memory_does_not_grow_with_the_items(store_at: Writer, tmp_path: Path) -> None:
    latents, items = 4096, 500
    roots = []
    for times in (1, 8):
        roots.append(str(tmp_path / f"{times}"))
        x = np.random.default_rng(0).normal(size=(times * items * 2, 4)).astype(np.float32)
        store_at(roots[-1], {"hi": x, "en": x[::-1] + 1}, tokens_per_item=2)
    command = [sys.executable, "-c", PEAK.format(latents=latents), *roots]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    small, large = map(int, done.stdout.split())
    # One dense array more of all items of a language, the least that the old way needed.
    assert large - small < 7 * items * latents * 4
