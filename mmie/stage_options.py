"""The config blocks of every stage but the arms: one section each, key by key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from mmie.arm_options import Positive, Section, Share


class Data(Section):
    """The corpora and how their rows are checked."""

    corpora: dict[str, str | list[str]] = Field(
        default_factory=dict,
        description="JSONL file or files of each language, by code (`hi`) or code and script (`hi_Latn`).",
    )
    row_schema: Literal[
        "auto", "text", "prompt_answer", "instruction", "question", "completion", "messages"
    ] = Field("auto", description="Shape of a row; `auto` takes the shape of a file's first row for all.")
    encoding: str = Field("utf-8", description="Encoding of the files.")
    ignored_fields: list[str] = Field([], description="Row fields that MMIE shall leave unread.")
    repair_residue: bool = Field(
        False,
        description="Remove a stray leading quote and a trailing quote and comma around texts.",
    )
    residue_limit: Share = Field(
        0.01, description="Largest share of rows with an artefact: wrapping, quotes, markup, broken text."
    )
    script_share_minimum: Share = Field(0.5, description="Least share of letters in the right script.")
    romanised_minimum: Share = Field(
        0.5, description="Least share of a romanised set that reads as the romanised language."
    )
    composition_minimum: Share = Field(
        0.1, description="Least share of mixed and adversarial prompts with forget-language script."
    )
    declared_overlaps: list[str] = Field(
        [], description="Pairs of sets that may share texts, as `forget/fit~retain/fit`."
    )
    max_drop_share: Share = Field(0.1, description="Largest share of rows that validation may reject.")
    near_duplicate_limit: Share = Field(1.0, description="Largest share of near-duplicate rows in a file.")
    minimum_rows: Positive = Field(20, description="Fewest rows that a language must keep.")
    max_rows: Positive | None = Field(None, description="Rows to sample from a file by seed; null for all.")
    prompt_share: Share = Field(0.5, description="Share of a plain text's words that become its prompt.")
    fit_share: Share = Field(0.5, description="Share of the groups (clusters) for fitting.")
    dev_share: Share = Field(0.2, description="Share of the groups for choosing; the rest is TEST.")
    seed: int = Field(0, description="Seed of the splits and of sampling.")


class Activations(Section):
    """How the residual stream is read."""

    layers: list[Annotated[int, Field(ge=0)]] | None = Field(
        None,
        min_length=1,
        description="Blocks to read and choose layers from; the forward ends after the last; null for all.",
    )
    token_budget: Positive = Field(4096, description="Tokens, pads included, of one forward pass.")
    sink_factor: float = Field(10.0, gt=1, description="Rows above this many median norms are set aside.")
    max_tokens: Positive | None = Field(
        None,
        description="Tokens of a language to store at most, in every layer; beyond it whole items are "
        "sampled, each split in its share. null for all.",
    )
    seed: int = Field(0, description="Seed of the sample that `max_tokens` asks for.")

    @field_validator("layers")
    @classmethod
    def _each_once(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("a block comes twice. Name each once")
        return None if value is None else sorted(value)


class Sae(Section):
    """The sparse autoencoder of each selected layer."""

    load: str | None = Field(
        None,
        description="Autoencoders to use in place of training; `{layer}` in the path stands for the layer.",
    )
    architecture: Literal["topk", "batchtopk", "jumprelu", "gated", "matryoshka"] = Field(
        "topk", description="Which latents may fire; docs/sae.md tells them apart."
    )
    expansion: Positive = Field(8, description="Latents per residual dimension.")
    k: Positive = Field(
        16, description="Latents that fire for a token: at most (topk), on average (all others)."
    )
    epochs: Positive = Field(8, description="Passes over the stored activations.")
    batch_size: Positive = Field(512, description="Tokens in a training batch.")
    learning_rate: float | None = Field(
        2e-3,
        gt=0,
        description="Peak learning rate of Adam; null: 2e-4 / sqrt(latents / 2^14), the rule for 1e8 tokens "
        "and more.",
    )
    decoder_rate: float = Field(
        3.0, gt=0, description="Rate of the decoder rows in units of learning_rate; docs/sae.md says why."
    )
    centre: Literal["mean", "geometric_median"] = Field(
        "mean", description="Where the decoder bias starts; a few far rows do not move the median."
    )
    data_share: Share = Field(
        0.5,
        description="Share of a data row's direction in each initial decoder row; the rest is random.",
    )
    auxiliary_weight: float = Field(
        1 / 32, ge=0, description="Weight of the loss that revives dead latents (AuxK)."
    )
    sparsity_weight: float | None = Field(
        None, gt=0, description="Weight of (L0 / k - 1)^2, for jumprelu alone; null: 0.1."
    )
    prefixes: list[float] | None = Field(
        None,
        description="Nested widths as shares of the latents, rising to 1, for matryoshka alone; null: 1/16 "
        "to 1 in doublings.",
    )
    decorrelation: float = Field(
        0.0, ge=0, description="Weight of the mean squared cosine between different decoder rows."
    )
    minimum_tokens_per_latent: float = Field(
        50.0, ge=0, description="Fewer activation rows per latent, counted over all epochs, is an error."
    )
    seed: int = Field(0, description="Seed of initialisation and order.")


class Language(Section):
    """Which identifiers say what language an answer is in."""

    members: list[Literal["fasttext", "langid", "cld3"]] = Field(
        ["fasttext", "langid"],
        min_length=1,
        description="General identifiers that vote; `cld3` needs the package cld3-py.",
    )
    fasttext_model: str | None = Field(
        None,
        description="fastText model (GlotLID, IndicLID) that votes instead of lid.176; null for lid.176.",
    )
    label_map: dict[str, str] = Field(
        {}, description="Label of an identifier to the language it stands for, as `hin_Deva: hi`."
    )


class Identification(Section):
    """What the identifier must reach on TEST texts of known language before anything rests on it."""

    least_accuracy: Share = Field(
        0.9, description="Lower end of the 95 % interval of its accuracy among verdicts, in every language."
    )
    largest_abstention: Share = Field(0.5, description="Largest share of texts left without a verdict.")
    least_texts: Positive = Field(30, description="Fewest texts of a language that it is measured on.")


class Decoding(Section):
    """One decoding for every arm."""

    max_new_tokens: Positive = Field(24, description="Length limit of a generation, in tokens.")
    batch_size: Positive = Field(64, description="Prompts decoded together.")


class Evaluation(Section):
    """Which prompts every arm answers."""

    items: Positive = Field(
        200, description="Largest number of prompts of each cell (split or kind) and language."
    )


class Relearn(Section):
    """A relearning attack: fine-tuning on rows that the score does not read."""

    steps: list[int] = Field([0, 1, 5, 10, 25, 50], description="Steps after which the model is scored.")
    learning_rate: float = Field(1e-4, gt=0, description="Learning rate of AdamW.")
    batch_size: Positive = Field(32, description="The attacker's rows in a step.")


class Quantisation(Section):
    """Rounding the weights of all linear layers in the blocks; nothing to set."""


class Rewriting(Section):
    """The same facts asked in other forms."""

    variants: list[str] | None = Field(
        None,
        description="`paraphrase`, `translation`, `other_script`, `code_mixed`, `few_shot`, `prefix`, "
        "`padding`; null for all that the data allow.",
    )
    items: Positive = Field(40, description="Forget prompts that are rewritten, per language and cell.")
    examples: Positive = Field(3, description="Solved questions before a `few_shot` prompt.")
    padding_tokens: Positive = Field(64, description="Tokens of benign text before a `padding` prompt.")


class Steering(Section):
    """The difference in means between base and arm, added back to the residual stream."""

    strengths: list[Annotated[float, Field(gt=0)]] = Field(
        [0.25, 0.5, 1.0], min_length=1, description="Strengths to try, in median residual norms."
    )
    layers: list[int] | None = Field(None, description="Blocks to try; null for all.")
    dev_items: Positive = Field(
        12, description="DEV prompts of each cell and language that choose layer and strength."
    )


class Detachment(Section):
    """Taking the intervention off; nothing to set."""


class Depth(Section):
    """What is still readable inside each arm; reported, never a gate."""

    items: Positive = Field(80, description="TEST forget prompts that are read, over all forget languages.")
    draws: Positive = Field(3, description="Noise draws of the perturbation audit.")
    noise: float = Field(0.1, gt=0, description="Noise in standard deviations of the stream.")


class Attacks(Section):
    """Attacks; each runs against every arm, the base and the oracle. Null leaves one out."""

    items: Positive = Field(120, description="Forget prompts that are scored, per language and cell.")
    relearn: Relearn | None = Field(
        default_factory=Relearn, description="On FIT forget facts; scored on TEST facts."
    )
    relearn_subset: Relearn | None = Field(
        None, description="On half of the FIT forget facts; scored on the other half."
    )
    relearn_held_out: Relearn | None = Field(
        None, description="On DEV forget facts, which no arm was fitted on; scored on TEST facts."
    )
    relearn_benign: Relearn | None = Field(
        None, description="On FIT rows of the retain languages; scored on TEST forget facts."
    )
    int8: Quantisation | None = Field(
        default_factory=Quantisation, description="8 bits, one scale an output channel."
    )
    int4: Quantisation | None = Field(default_factory=Quantisation, description="NF4, blocks of 64.")
    rewrite: Rewriting | None = Field(default_factory=Rewriting, description="Prompt rewrites.")
    steer: Steering | None = Field(default_factory=Steering, description="Steering recovery.")
    detach: Detachment | None = Field(
        default_factory=Detachment, description="Removal of the intervention; reported, never a gate."
    )

    @property
    def configured(self) -> list[str]:
        """Names of the attacks that run, in the order of this page."""
        return [name for name, value in self if isinstance(value, Section)]


class Gate(Section):
    """One condition of the verdict."""

    question: str = Field(description="What the gate asks, in words.")
    metric: str = Field(description="Score it reads, a column of the evaluation files.")
    languages: Literal["forget_native", "forget_other_scripts", "forget", "retain", "neighbours", "kept"]
    cell: str = Field(
        "test",
        pattern=r"^(test|test_new_wording|mixed|adversarial|attacks|[a-z][a-z0-9_]*)$",
        description="Which prompts it reads: `test`, `test_new_wording`, `mixed`, `adversarial`; the name of "
        "an attack, or `attacks` for each configured one.",
    )
    statistic: Literal["transfer", "ratio", "difference", "worst_seed_difference", "auc_gap"] = Field(
        description="`transfer` is 0 for the base and 1 for the oracle; `difference` is arm minus base; "
        "`auc_gap` is the membership AUC of the arm minus that of the oracle."
    )
    direction: Literal["at_least", "at_most", "within"] = Field(
        description="Which side of the threshold passes; `within` is both."
    )
    threshold: float = Field(description="Effect to reach, or the margin of harm that is tolerated.")
    test: Literal["sign_flip", "non_inferiority", "tost"]
    family: Literal["efficacy", "preservation", "robustness", "membership"] = Field(
        description="Tests of one family are corrected together."
    )
    stop_reason: Literal[
        "below_threshold", "utility_loss", "neighbour_loss", "collapsed", "language_confusion",
        "membership", "not_robust",
    ] = Field(description="Reason of a STOP when it fails.")  # fmt: skip
    required: bool = Field(True, description="Whether PROCEED needs it.")
    not_applicable: str | None = Field(None, description="Why it is left out; printed in the verdict.")


class Statistics(Section):
    """Resampling and correction."""

    resamples: Annotated[int, Field(ge=1000)] = Field(2000, description="Bootstrap resamples.")
    alpha: float = Field(0.05, gt=0, lt=0.5, description="Level of intervals, tests and FDR.")
    weight: Literal["cluster", "item"] = Field("cluster", description="What weighs equally in a mean.")
    calibrate_margins: bool = Field(
        True,
        description="Widen a preservation margin to the oracle's own difference on DEV, if larger.",
    )
    headroom: float = Field(
        1.0, ge=1, description="Factor on a margin that was widened; room for retraining noise."
    )
    permuted_labels: Annotated[int, Field(ge=200)] = Field(
        200, description="Random swaps of arm and base; at most a share alpha of them may PROCEED."
    )
    matched_divergence: float = Field(
        1.25,
        ge=1,
        description="Largest ratio of two arms' KL from the base on kept languages that counts as equal.",
    )


class Judge(Section):
    """A language model's second opinion on answers: the target `judge`; no choice and no gate reads it."""

    url: str = Field(
        pattern=r"^https?://", description="OpenAI-compatible address, as `http://localhost:8000/v1`."
    )
    model: str = Field(min_length=1, description="Name of the model there.")
    key_variable: str | None = Field(
        None, description="Environment variable that holds the key; null sends none, whatever is set."
    )
    timeout: float = Field(30.0, gt=0, description="Seconds until a reply must be complete.")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(2, description="Attempts after the first one.")
    pause: float = Field(1.0, ge=0, description="Seconds before the first of them; doubled each time.")
    prompts: Positive = Field(
        20, description="Direct TEST prompts of each forget language that are judged, per arm and seed."
    )


class SweepArm(Section):
    """What a sweep varies in one arm."""

    grid: dict[str, list[Any]] = Field(
        description="Values to try of each option of the arm, as `training.learning_rate: [0.001, 0.003]`."
    )
    draws: Positive | None = Field(
        None, description="Random search: configurations to draw from the grid; null tries all."
    )


class Sweep(Section):
    """Hyper-parameters, chosen on DEV: the target `sweep`, outside of a normal run.

    The rule: of the trials in which every preservation gate holds on DEV by its estimate, the one with the
    largest mean transfer of the leak rate over the forget languages; ties go to the first.
    """

    arms: dict[str, SweepArm] = Field({}, description="The swept arms, by name.")
    training_seed: int = Field(1, description="Seed with which every trial is fitted.")
    seed: int = Field(0, description="Seed of random search.")
    threshold: Share = Field(
        0.5, description="Transfer that counts as forgetting in the share of trials above it."
    )
