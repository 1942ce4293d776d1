"""CRISP: adapters trained until latents of a sparse autoencoder fall silent on forget text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.fine_tuning import FineTuning, OwnObjective
from mmie.interventions.interface import FitData
from mmie.interventions.lora import LowRankAdapters
from mmie.interventions.trained import run_training, sets_without_reference
from mmie.models.blocks import block_device, find_blocks
from mmie.models.hooks import capture, disabled
from mmie.objectives.registry import item_sums
from mmie.objectives.retain import hidden_distance
from mmie.sae.autoencoder import SparseAutoencoder
from mmie.sae.formats import load_sae
from mmie.sae.pickers import PICKERS, choose_latents
from mmie.training.batches import Examples
from mmie.training.forward import answer_logits


@dataclass
class Crisp(OwnObjective, LowRankAdapters):
    """LoRA trained by (1 - beta) L_unl + beta (L_ret + gamma L_coh).

    L_unl is the mean code of the picked latents over the tokens of forget text and over the layers; where
    a latent fires in the base, its pre-activation u counts as relu(u + abs(a m)), m the mean
    pre-activation of all latents at that token, so that it ends with a margin below firing. L_ret is the
    squared distance of the stream from the base's on retain text at those layers, L_coh that at the last
    block, each divided by the width. Prompts count: the latents speak of text, not of answers alone.

    Source: Ashuach et al. 2025 (arXiv 2508.13650), with coherence measured on the retain text itself.
    """

    kind: ClassVar[str] = "crisp"

    rank: int = 4
    """Rank of each adapter."""
    picker: str = "contrast"
    """How latents are picked; random: the control."""
    features: int = 10
    """Latents per layer."""
    lift: float = 5.0
    """a: the margin, in mean pre-activations."""
    retain_share: float = 0.99
    """beta."""
    coherence_weight: float = 0.01
    """gamma."""
    training: FineTuning | dict[str, Any] = field(default_factory=FineTuning)  # type: ignore[assignment]
    """The run of the loop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.picker not in PICKERS or self.features < 1:
            raise InputError(
                f"arm of kind 'crisp': picker {self.picker!r}, features {self.features}. "
                f"Use one of {', '.join(PICKERS)}, and at least 1 feature."
            )
        if not 0 < self.retain_share < 1 or self.lift < 0 or self.coherence_weight < 0:
            raise InputError(
                "arm of kind 'crisp': retain_share must be between 0 and 1, lift and coherence_weight at "
                "least 0."
            )

    def _train(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        data: FitData,
        *,
        layers: list[int],
        base_hash: str,
        seed: int,
    ) -> None:
        sets = sets_without_reference(model, data, self.kind)
        silenced = self._silenced(model, data, base_hash, seed)
        picked = {layer: entry.picked.tolist() for layer, entry in silenced.items()}
        settings = self._read_training().settings(
            retain_objective="nll", forget_weight=1 - self.retain_share, retain_weight=self.retain_share
        )
        recipe = {"kind": self.kind, "options": self.options(), "layers": layers, "base": base_hash}
        self.history = run_training(
            model,
            parameters,
            sets,
            settings,
            data,
            seed=seed,
            recipe=recipe | {"latents": picked},
            own_terms={
                "forget": SilenceTerm(model, sets.forget, silenced, self.lift),
                "retain": StreamTerm(model, sets.retain, list(silenced), self.coherence_weight),
            },
        )

    def _silenced(self, model: nn.Module, data: FitData, base_hash: str, seed: int) -> dict[int, Silenced]:
        """Autoencoder and picked latents of every layer that has one."""
        if data.sae is None or not data.latents:
            raise InputError(
                "arm of kind 'crisp': it needs autoencoders and latents. Run the sae stage first."
            )
        blocks = find_blocks(model)
        silenced = {}
        for layer, table in sorted(data.latents.items()):
            device = block_device(blocks[layer])
            sae = load_sae(data.sae / f"layer{layer}", layer=layer, model_hash=base_hash).to(device)
            sae.requires_grad_(False)
            chosen = choose_latents(table, self.picker, self.features, layer=layer, seed=seed)
            silenced[layer] = Silenced(sae, torch.tensor(chosen, device=device))
        return silenced


@dataclass(frozen=True)
class Silenced:
    """Picked latents of one layer's autoencoder."""

    sae: SparseAutoencoder
    picked: Tensor
    """[picked]."""

    def activity(self, stream: Tensor, base_stream: Tensor, lift: float) -> Tensor:
        """Mean code of the picked latents, lifted where they fire in the base, [tokens].

        Args:
            stream: of the arm, [tokens, width].
            base_stream: of the base at the same tokens, same shape.
            lift: a, in mean pre-activations.
        """
        before = self.sae.pre_activations(stream.float())
        with torch.no_grad():
            fired = self.sae.codes_of(base_stream.float(), self.picked) > 0
            # Without gradient: else the loss could fall by shrinking the margin itself.
            margin = (lift * before.mean(-1, keepdim=True)).abs()
        lifted = (before[..., self.picked] + margin).relu()
        return torch.where(fired, lifted, self.sae.codes_of(stream.float(), self.picked)).mean(-1)


class SilenceTerm:
    """L_unl: activity of the picked latents, mean over the tokens of forget text and the layers."""

    name = "forget"

    def __init__(
        self, model: nn.Module, examples: Examples, silenced: Mapping[int, Silenced], lift: float
    ) -> None:
        """Prepare; the model carries the adapter."""
        self.model, self.examples, self.silenced, self.lift = model, examples, silenced, lift

    def count(self, rows: Sequence[int]) -> int:
        return _tokens(self.examples, rows)

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, None]:
        layers = list(self.silenced)
        before, keep = _base_streams(self.model, self.examples, rows, layers)
        now, _ = _streams(self.model, self.examples, rows, layers)
        values = [
            entry.activity(*_kept(keep, now[layer], before[layer]), self.lift)
            for layer, entry in self.silenced.items()
        ]
        return item_sums(torch.stack([value.to(keep.device) for value in values]).mean(0), keep), None


class StreamTerm:
    """L_ret + gamma L_coh: distance of the stream from the base's, mean over the tokens of retain text."""

    name = "retain"

    def __init__(self, model: nn.Module, examples: Examples, layers: Sequence[int], coherence: float) -> None:
        """Prepare; the model carries the adapter."""
        self.model, self.examples, self.layers, self.coherence = model, examples, list(layers), coherence
        self.last = len(find_blocks(model)) - 1

    def count(self, rows: Sequence[int]) -> int:
        return _tokens(self.examples, rows)

    def sums(self, rows: Sequence[int]) -> tuple[Tensor, None]:
        wanted = sorted({*self.layers, self.last})
        before, keep = _base_streams(self.model, self.examples, rows, wanted)
        now, _ = _streams(self.model, self.examples, rows, wanted)
        distance = {
            layer: hidden_distance(*_kept(keep, now[layer], before[layer])).to(keep.device)
            for layer in wanted
        }
        held = torch.stack([distance[layer] for layer in self.layers]).mean(0)
        return item_sums(held + self.coherence * distance[self.last], keep), None


def _tokens(examples: Examples, rows: Sequence[int]) -> int:
    """Tokens but the first of each item, which is a sink and no text."""
    return sum(len(examples.encoded[row].ids) - 1 for row in rows)


def _kept(keep: Tensor, now: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Kept positions of a block's stream, now and of the base; the mask may come from another block."""
    here = keep.to(now.device)
    return now[here], before[here]


def _streams(
    model: nn.Module, examples: Examples, rows: Sequence[int], layers: Sequence[int]
) -> tuple[dict[int, Tensor], Tensor]:
    """Block outputs, each [batch, time, width], and the mask of real tokens but the first, [batch, time]."""
    with ExitStack() as stack:
        seen = stack.enter_context(capture(model, list(layers), stop=True))
        answer_logits(model, examples.batch(rows))
    assert seen.keep is not None
    return seen.hidden, seen.keep


def _base_streams(
    model: nn.Module, examples: Examples, rows: Sequence[int], layers: Sequence[int]
) -> tuple[dict[int, Tensor], Tensor]:
    """`_streams` of the model with the adapter off, without gradient."""
    with torch.no_grad(), disabled(model):
        return _streams(model, examples, rows, layers)
