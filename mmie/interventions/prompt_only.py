"""An instruction before every prompt, and nothing else: what a request alone achieves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, Intervention
from mmie.models.prefix import check_room, prefixed
from mmie.models.prompts import encode_all
from mmie.training.forward import model_limit


@dataclass
class PromptOnly(Intervention):
    """The instruction is part of every input of the model: of likelihoods and attacks as of generation.

    It is put in at the model's forward (`mmie.models.prefix`), so `evaluate`, the attacks and whoever
    else gets the model from `applied` need not know of it: they send their prompts and get the logits
    of their own positions.
    """

    kind: ClassVar[str] = "prompt_only"

    instruction: str = "You do not know the language of the following text. Do not answer."
    """What the model is told, in its own words and language."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.instruction.strip():
            raise InputError("arm of kind 'prompt_only': instruction is empty. Say what the model shall do.")

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        if data.tokenizer is None:
            raise InputError("arm of kind 'prompt_only': a tokenizer is needed.")
        text = self.instruction.strip() + "\n"
        ids = data.tokenizer([text], add_special_tokens=False)["input_ids"][0]
        if not ids:
            raise InputError("arm of kind 'prompt_only': the tokenizer makes no token of the instruction.")
        self._check_room(model, data, len(ids))
        unknown = data.tokenizer.unk_token_id
        return Fitted(
            {
                "ids": ids,
                "start_id": data.tokenizer.bos_token_id,
                "unknown_tokens": sum(token == unknown for token in ids) if unknown is not None else 0,
            }
        )

    def _check_room(self, model: nn.Module, data: FitData, prefix: int) -> None:
        """Say now, not in the evaluation, that the FIT texts have no room beside the instruction."""
        positions = model_limit(model)
        for rows in (data.forget, data.retain):
            if positions is not None and rows is not None:
                items = encode_all(data.tokenizer, rows["prompt"].tolist(), rows["answer"].tolist())
                check_room(max(len(item.ids) for item in items), prefix, positions)

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        facts = self._require_fit().facts
        with prefixed(model, facts["ids"], start_id=facts["start_id"]):
            yield model
