"""The autoencoders by their name in `sae.architecture`."""

from __future__ import annotations

from collections.abc import Sequence

from mmie.errors import InputError
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.gated import GatedSAE
from mmie.sae.jumprelu import PREFIXES, BatchTopKSAE, JumpReLUSAE, MatryoshkaSAE
from mmie.sae.topk import TopKSAE

ARCHITECTURES: dict[str, type[SparseAutoencoder]] = {
    cls.architecture: cls for cls in (TopKSAE, BatchTopKSAE, JumpReLUSAE, GatedSAE, MatryoshkaSAE)
}
DESCRIPTIONS = {
    "topk": "the k largest pre-activations of each token (arXiv 2406.04093)",
    "batchtopk": "the k largest per token on average over a batch; one threshold after training "
    "(arXiv 2412.06410)",
    "jumprelu": "those above a learnt threshold of each latent (arXiv 2407.14435)",
    "gated": "those whose gate opens; a second path gives the strength (arXiv 2404.16014)",
    "matryoshka": "as batchtopk, and nested prefixes of the latents reconstruct on their own "
    "(arXiv 2503.17547)",
}


def build(
    architecture: str, width: int, latents: int, k: int, prefixes: Sequence[float] | None = None
) -> SparseAutoencoder:
    """An autoencoder with zero weights.

    Args:
        architecture: a name of `ARCHITECTURES`.
        width: dimension of the residual stream.
        latents: number of latents.
        k: latents that fire per token.
        prefixes: nested widths as shares of the latents, for `matryoshka` only.

    Raises:
        InputError: unknown name, or prefixes for another architecture.
    """
    if architecture not in ARCHITECTURES:
        raise InputError(f"sae.architecture: {architecture!r} is none of {', '.join(ARCHITECTURES)}.")
    if architecture == "matryoshka":
        return MatryoshkaSAE(width, latents, k, prefixes or PREFIXES)
    if prefixes is not None:
        raise InputError(
            f"sae.prefixes: only for architecture matryoshka, not {architecture}. Leave it out, or change "
            "sae.architecture."
        )
    return ARCHITECTURES[architecture](width, latents, k)
