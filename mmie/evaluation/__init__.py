"""One row a prompt: what a model says, in which state that is, and what it gives to the expected answer.

Every arm goes through `evaluate` with the same prompts, the same greedy decoding and the same length
limit. Aggregates are made from its rows, never stored alone.
"""

from mmie.evaluation.comparable import Decoding, choose_prompts, decoding_hash, require_comparable
from mmie.evaluation.distance import BaseDistribution, base_distribution
from mmie.evaluation.forced import likelihood
from mmie.evaluation.states import judge
from mmie.evaluation.table import COLUMNS, SCORES, Extras, evaluate, score_forget

__all__ = [
    "COLUMNS", "SCORES", "BaseDistribution", "Decoding", "Extras", "base_distribution", "choose_prompts",
    "decoding_hash", "evaluate", "judge", "likelihood", "require_comparable", "score_forget",
]  # fmt: skip
