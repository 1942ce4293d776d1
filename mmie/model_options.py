"""The config block of the model under study."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mmie.arm_options import Positive, Section, Share


class OracleModel(Section):
    """Where models come from that never saw the forget languages."""

    corpus: str = Field(
        "data/atlas",
        description="Folder of the JSONL files that the base model was trained on; an oracle is trained on "
        "the same files without the forget languages, whatever languages the experiment measures.",
    )
    shipped: str | None = Field(
        "data/nano-oracle",
        description="Folder of ready oracles; one is used when its recipe matches the config, else trained.",
    )
    reference_seed: int = Field(1, description="Seed of the oracle that scores are normalised by.")
    arm_seed: int = Field(2, description="Seed of the oracle that runs as the arm `oracle`.")

    @model_validator(mode="after")
    def _two_seeds(self) -> OracleModel:
        if self.reference_seed == self.arm_seed:
            raise ValueError(
                "reference_seed and arm_seed must differ: an oracle measured against itself always agrees"
            )
        return self


class Model(Section):
    """The model under study."""

    base: str = Field(
        "data/nano",
        description="Directory of a safetensors model, or its name on the Hugging Face Hub.",
    )
    revision: str | None = Field(None, description="Hub revision (commit or tag); null for local models.")
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of the weights in memory.")
    attention: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] = Field(
        "sdpa", description="Attention kernel of every stage and arm; one that is not available is an error."
    )
    blocks: str | None = Field(
        None,
        description="Path of the list of decoder blocks, as `model.layers`; null where structure finds it.",
    )
    device: str = Field(
        "cpu", description="`cpu`, `cuda`, `cuda:1` or `auto`; anything but `cpu` asks for `gpu`."
    )
    gpus: Positive = Field(
        1,
        description="GPUs of a job; with more than one the blocks are spread over all that it sees, "
        "for models that one cannot hold. Start Snakemake with as many (`--resources gpu=2`).",
    )
    threads: Positive = Field(1, description="CPU threads of a job; results are reproducible per value.")
    max_length: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Tokens of a prompt and its answer, or its generation, in every stage; null for all that "
        "the model has positions for.",
    )
    truncated_limit: Share = Field(
        0.0, description="Largest share of a set's texts that `max_length` may cut; more is an error."
    )
    oracle: OracleModel | None = Field(
        default_factory=OracleModel, description="How to get an oracle; null where none can be trained."
    )

    @model_validator(mode="after")
    def _several_need_no_name(self) -> Model:
        if self.gpus > 1 and self.device not in ("cuda", "auto"):
            raise ValueError(
                f"gpus: {self.gpus} are not one device {self.device!r}; set device to cuda or auto"
            )
        return self
