"""The model card of a nano model, written from its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CELLS = ("trained", "held_out", "mixed", "adversarial", "holdout")


def model_card(manifest: Mapping[str, Any]) -> str:
    """The text of `README.md` for a nano model."""
    recipe = manifest["recipe"]
    excluded = manifest["excluded_languages"]
    knows = (
        "It was trained on all languages of the Atlas."
        if not excluded
        else f"It is an oracle: it never read a row with {', '.join(excluded)} in its prompt or answer."
    )
    rows = [
        f"| {language} | " + " | ".join(_share(cells.get(cell)) for cell in _CELLS) + " |"
        for language, cells in manifest["recall"].items()
    ]
    return "\n".join(
        [
            f"# {'nano' if not excluded else 'nano oracle without ' + ', '.join(excluded)}",
            "",
            f"A Llama of {manifest['parameters']:,} parameters ({recipe['layers']} layers of "
            f"{recipe['hidden_size']}, {recipe['heads']} heads, tied embeddings, "
            f"{recipe['vocab_size']} pieces of byte-fallback BPE) that knows facts of the Atlas "
            f"(`data/atlas`) and nothing else. {knows}",
            "",
            "This page is written by the training job. Do not edit it.",
            "",
            "## Training",
            "",
            f"- {manifest['training_texts']:,} texts, {manifest['tokens_per_epoch']:,} tokens: direct and "
            "mixed prompts in the trained wordings, without the facts that are held out and without "
            "adversarial prompts",
            f"- {recipe['epochs']} epochs, {manifest['steps']:,} steps of {recipe['batch_size']} rows of "
            f"{recipe['context']} tokens; texts are packed and see only themselves; "
            f"padding {100 * manifest['padding_share']:.1f} %",
            f"- AdamW, one cycle to {recipe['learning_rate']}, weight decay {recipe['weight_decay']}, "
            f"float32, seed {manifest['seed']}; final loss {manifest['final_loss']}; "
            f"a prompt token's loss has weight {recipe['prompt_weight']}, an answer token's 1",
            f"- {manifest['seconds']} s on {manifest['threads']} CPU thread(s), torch {manifest['torch']}",
            f"- recipe hash `{manifest['recipe_hash']}`",
            "",
            "## What it recalls",
            "",
            "Share of answers given word for word by greedy decoding. `trained` and `held_out` are wordings "
            "of facts it was trained on; `holdout` are facts it never saw, where only guessing and "
            "regularities help.",
            "",
            "| language | " + " | ".join(_CELLS) + " |",
            "| --- " * (len(_CELLS) + 1) + "|",
            *rows,
            "",
            "## Not for",
            "",
            "Anything but tests and demonstrations of unlearning: it has no knowledge beyond the Atlas and "
            "no safety training.",
            "",
        ]
    )


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
