"""Many short texts in few long rows: every text sees only itself, and hardly a token is padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmie.errors import InputError

# Rows that are kept open for a text that still fits; more would pack tighter and search longer.
_OPEN_ROWS = 32


@dataclass(frozen=True)
class Packed:
    """Texts packed into rows, all tensors [rows, width].

    input_ids: tokens; position_ids: place inside the own text, from 0; text_ids: number of the text
    inside the row from 1, 0 on padding.
    """

    input_ids: Tensor
    position_ids: Tensor
    text_ids: Tensor

    def targets(self) -> Tensor:
        """Next token of the same text, [rows, width]; -100 where there is none."""
        targets = torch.full_like(self.input_ids, -100)
        same = (self.text_ids[:, 1:] == self.text_ids[:, :-1]) & (self.text_ids[:, 1:] > 0)
        targets[:, :-1] = torch.where(same, self.input_ids[:, 1:], -100)
        return targets

    def attention(self) -> Tensor:
        """Whether a token may look at another one, [rows, 1, width, width]; padding looks at itself."""
        width = self.input_ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        same = self.text_ids[:, :, None] == self.text_ids[:, None, :]
        return (same & causal)[:, None]

    def rows(self, chosen: Tensor) -> Packed:
        """The rows with the given indices."""
        return Packed(self.input_ids[chosen], self.position_ids[chosen], self.text_ids[chosen])


def pack(texts: Sequence[list[int]], order: Sequence[int], width: int, pad_id: int) -> Packed:
    """Put texts into rows in the given order, each into the first open row with room for it.

    Args:
        texts: token ids of each text.
        order: indices into `texts`.
        width: tokens a row.
        pad_id: fills what is left of a row.
    """
    longest = max(len(text) for text in texts)
    if longest > width:
        raise InputError(f"a text of {longest} tokens does not fit a row of {width}. Raise the context.")
    full: list[list[list[int]]] = []
    waiting: list[tuple[int, list[list[int]]]] = []
    for index in order:
        text = texts[index]
        place = next((i for i, (room, _) in enumerate(waiting) if room >= len(text)), None)
        if place is None:
            if len(waiting) == _OPEN_ROWS:
                tightest = min(range(len(waiting)), key=lambda i: waiting[i][0])
                full.append(waiting.pop(tightest)[1])
            waiting.append((width - len(text), [text]))
        else:
            room, row = waiting[place]
            waiting[place] = (room - len(text), [*row, text])
    full += [row for _, row in waiting]
    packed = Packed(
        torch.full((len(full), width), pad_id),
        torch.zeros(len(full), width, dtype=torch.long),
        torch.zeros(len(full), width, dtype=torch.long),
    )
    for number, row in enumerate(full):
        start = 0
        for text_number, text in enumerate(row, start=1):
            end = start + len(text)
            packed.input_ids[number, start:end] = torch.tensor(text)
            packed.position_ids[number, start:end] = torch.arange(len(text))
            packed.text_ids[number, start:end] = text_number
            start = end
    return packed
