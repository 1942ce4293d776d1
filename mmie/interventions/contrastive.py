"""The causal-contrastive arm: adapters trained so that a prompt's meaning, not its surface, counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from mmie.contrastive.pairs import shuffled, with_benign
from mmie.contrastive.representation import ProjectionHead, head_shapes
from mmie.contrastive.rows import TripleRows
from mmie.contrastive.settings import ContrastSettings
from mmie.contrastive.term import ContrastTerm, HeadTerm
from mmie.errors import InputError
from mmie.interventions.full import stored
from mmie.interventions.interface import DESCRIPTION, FitData, Fitted, base_weights_hash, check_shapes
from mmie.interventions.layers import resolve_layers
from mmie.interventions.lora import LowRankAdapters, adapted, target_modules
from mmie.interventions.reft import residual_width
from mmie.interventions.trained import read_settings, run_training, training_sets
from mmie.io import read_json, read_safetensors, stable_hash, write_safetensors
from mmie.models.blocks import block_device, find_blocks
from mmie.training.batches import Examples
from mmie.training.fingerprint import weights_hash
from mmie.training.forward import model_limit
from mmie.training.sets import TrainingSets
from mmie.training.settings import TrainingSettings
from mmie.training.terms import Term

HEAD_FILE = "head.safetensors"
DECORATIVE_GAIN = 0.01
"""Gain in raw discrimination (cosine) that a trained head must come with."""


@dataclass
class ContrastiveAdapters(LowRankAdapters):
    """LoRA trained by J = gamma L_F + alpha L_R + lambda_x L_X + lambda_c L_C + benign_weight L_B.

    L_F and L_R are those of `training`; the other three come from triples of an anchor, a counterfactual
    and an attack. docs/contrastive.md has the formulas.
    """

    kind: ClassVar[str] = "contrastive"

    triples: list[str] = field(default_factory=list)
    """Files of triples; the rule of the arm gives them to the fit."""
    benign: str = "fit_rows"
    """Benign pairs: fit_rows draws them from FIT rows, as_given keeps those of the files that are FIT."""
    contrast_layers: str | list[int] = "selected"
    """Blocks whose output is compared."""
    shuffled: str | None = None
    """Control: counterfactual or adversarial, given to other triples."""
    head_only: bool = False
    """Control: train the projection head alone; the arm then generates as the base."""
    contrast: ContrastSettings | dict[str, Any] = field(default_factory=ContrastSettings)
    """Losses on triples and their weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.contrast = ContrastSettings.read(self.contrast)
        self.head: dict[str, Tensor] = {}
        """The trained projection head; it has no part in generation."""
        if self.head_only and not self.contrast.head:
            raise InputError("arm of kind 'contrastive': head_only trains the head. Set contrast.head: true.")

    @property
    def settings(self) -> ContrastSettings:
        """The checked contrast block."""
        return ContrastSettings.read(self.contrast)

    def options(self) -> dict[str, Any]:
        return super().options() | {"contrast": self.settings.as_options()}

    def save(self, directory: str | Path) -> None:
        super().save(directory)
        if self.settings.head:
            write_safetensors(Path(directory) / HEAD_FILE, self.head)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        loaded = super().load(directory)
        facts = read_json(Path(directory) / DESCRIPTION)["fitted"]
        if loaded.settings.head:
            source = Path(directory) / HEAD_FILE
            loaded.head = read_safetensors(source)
            check_shapes(loaded.head, head_shapes(facts["width"]), str(source))
            if weights_hash(loaded.head) != facts["head_hash"]:
                raise InputError(f"{source}: not the head that was saved with this arm. Fit the arm again.")
        return loaded

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        rows, recipe = self._rows(model, data, seed)
        recipe |= {"kind": self.kind, "options": self.options(), "base": base_weights_hash(model)}
        compared = resolve_layers(self.contrast_layers, data, len(find_blocks(model)), self.kind, seed)
        width = residual_width(model)
        head = ProjectionHead(width, seed) if self.settings.head else None
        if head is not None:
            head.to(block_device(find_blocks(model)[compared[0]]))
        layers = [] if self.head_only else self._chosen_layers(model, data, seed)
        modules = target_modules(model, layers, self.targets)
        facts: dict[str, Any] = {"layers": layers, "modules": modules, "width": width, "compared": compared}
        start = self._initial(model, modules, seed)
        with self._wrapped(model, modules, start) as (wrapped, adapters):
            term = ContrastTerm(wrapped, rows, compared, self.settings, head=head, seed=seed)
            before = term.measure()
            parameters = {**adapters, **(head.named() if head else {})}
            self._require_expected(parameters, facts)
            self._run(wrapped, parameters, term, data, seed, recipe)
            after = term.measure()
            tensors = stored(adapters)
        self.head = (
            {name: value.detach().cpu().clone() for name, value in head.named().items()} if head else {}
        )
        facts |= {"triples": len(rows), "parameters": sum(value.numel() for value in parameters.values())}
        facts |= {"base_geometry": before, "geometry": after, "decorative": decorative(before, after, head)}
        facts["split_negatives"] = self.settings.splits_negatives(read_settings(self.training).micro_batch)
        if head:
            facts["head_hash"] = weights_hash(self.head)
        return Fitted(facts, tensors)

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        fitted = self._require_fit()
        with self._wrapped(model, fitted.facts["modules"], fitted.tensors) as (wrapped, _):
            yield wrapped

    @contextmanager
    def _wrapped(
        self, model: nn.Module, modules: Mapping[str, list[int]], tensors: Mapping[str, Tensor]
    ) -> Iterator[tuple[nn.Module, dict[str, nn.Parameter]]]:
        """The model with adapters; the model itself where only a head is trained."""
        if not modules:
            yield model, {}
            return
        with adapted(model, self._peft_config(sorted(modules)), tensors) as found:
            yield found

    def _rows(self, model: nn.Module, data: FitData, seed: int) -> tuple[TripleRows, dict[str, Any]]:
        """The triples to train on, and what tells them from others."""
        if not data.triples or data.retain is None or data.tokenizer is None:
            raise InputError(
                "arm of kind 'contrastive': no triples were given. Set `triples` to their files."
            )
        triples = with_benign(data.triples, data.retain, self.benign)
        triples = shuffled(triples, self.shuffled, seed)
        rows = TripleRows.of(triples, data.tokenizer, longest=model_limit(model))
        content = [[item.answer_start, *item.ids] for items in rows.encoded for item in items]
        return rows, {"triples": stable_hash(content)}

    def _run(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        term: ContrastTerm,
        data: FitData,
        seed: int,
        recipe: Mapping[str, Any],
    ) -> None:
        settings = read_settings(self.training)
        if not self.head_only:
            sets = training_sets(model, data)
            self.history = run_training(
                model, parameters, sets, settings, data, seed=seed, recipe=recipe, auxiliary=term
            )
            return
        if settings.steps is None:
            raise InputError("arm of kind 'contrastive': head_only counts steps. Set training.steps.")
        anchors = Examples(term.rows.keys, term.rows.languages, *_anchors(term.rows))
        sets = TrainingSets(anchors, [0.0] * len(anchors), anchors)
        alone = TrainingSettings(
            steps=settings.steps,
            learning_rate=settings.learning_rate,
            retain_batch=term.batch,
            objective="graddiff",
            retain_objective="nll",
            forget_weight=0.0,
            warmup_share=settings.warmup_share,
            weight_decay=settings.weight_decay,
            clip=settings.clip,
            checkpoint_every=settings.checkpoint_every,
        )
        own: dict[str, Term] = {"retain": HeadTerm(term, anchors)}
        history = run_training(model, parameters, sets, alone, data, seed=seed, recipe=recipe, own_terms=own)
        self.history = history.rename(columns={"retain_loss": "contrast_loss", "retain_items": "triples"})

    def _require_expected(self, parameters: Mapping[str, nn.Parameter], facts: Mapping[str, Any]) -> None:
        """The parameters to train are those of the adapters and of the head, by name."""
        expected = {**self._shapes(facts), **(head_shapes(facts["width"]) if self.settings.head else {})}
        shapes = {name: value.detach() for name, value in parameters.items()}
        check_shapes(shapes, expected, "trained parameters of the contrastive arm")


def decorative(before: Mapping[str, float], after: Mapping[str, float], head: ProjectionHead | None) -> bool:
    """Whether a head met the loss by itself: L_C fell, and the raw vectors tell attacks apart no better."""
    fell = after["contrast_loss"] < before["contrast_loss"]
    return head is not None and fell and after["discrimination"] - before["discrimination"] < DECORATIVE_GAIN


def _anchors(rows: TripleRows) -> tuple[list[Any], int]:
    return [items[0] for items in rows.encoded], rows.pad_id
