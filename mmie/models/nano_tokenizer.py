"""The tokenizer of the nano models: byte-fallback BPE, trained on the corpus, the same for all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from mmie.errors import InputError

UNKNOWN, START, END, PADDING = "<unk>", "<s>", "</s>", "<pad>"
_SPECIAL = (UNKNOWN, START, END, PADDING)
_BYTES = tuple(f"<0x{value:02X}>" for value in range(256))


def train_tokenizer(texts: Iterable[str], vocab_size: int = 4096) -> Any:
    """Train the tokenizer; the same set of texts gives the same tokenizer.

    Pieces never cross a space or a punctuation mark, so tokens(prompt) + tokens(" " + answer) equals
    tokens(prompt + " " + answer). Characters that the texts lack are spelled in bytes, never lost.

    Args:
        texts: training texts; order and repetition count for nothing.
        vocab_size: special tokens and the 256 bytes included.

    Returns:
        A transformers `PreTrainedTokenizerFast`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    # Threads would count pairs in another order.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = sorted(set(texts))
    if not texts or vocab_size <= len(_SPECIAL) + len(_BYTES):
        raise InputError(f"tokenizer: {len(texts)} texts and {vocab_size} pieces are too few. Give more.")
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
            pre_tokenizers.Punctuation(behavior="isolated"),
        ]
    )
    learner = Tokenizer(models.BPE(unk_token=UNKNOWN))
    learner.pre_tokenizer = splitter
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size - len(_BYTES), special_tokens=list(_SPECIAL), show_progress=False
        ),
    )
    learned = json.loads(learner.to_str())["model"]
    # Bytes go into the vocabulary as plain pieces: as special tokens they would be dropped in decoding.
    pieces = [
        *_SPECIAL,
        *_BYTES,
        *sorted(set(learned["vocab"]) - set(_SPECIAL), key=learned["vocab"].__getitem__),
    ]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: index for index, piece in enumerate(pieces)},
            merges=[tuple(pair) for pair in learned["merges"]],
            unk_token=UNKNOWN,
            byte_fallback=True,
        )
    )
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )
