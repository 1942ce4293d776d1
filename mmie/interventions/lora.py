"""Low-rank adapters on linear layers, by the library peft."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmie.errors import InputError
from mmie.interventions.interface import FitData, Fitted, base_weights_hash, check_shapes
from mmie.interventions.trainable import TrainedIntervention
from mmie.io import seed_from, write_json
from mmie.models.blocks import find_blocks

_PREFIX = "base_model.model."
_MAGNITUDE = "lora_magnitude_vector"


@dataclass
class LowRankAdapters(TrainedIntervention):
    """LoRA: every chosen linear layer gets `h W^T + (alpha / rank) h A^T B^T`, with B = 0 at first.

    With `dora` the rows of W + (alpha / rank) B A are rescaled to a trained magnitude, at first that of W.
    Saved as peft saves it, so `PeftModel.from_pretrained` reads the directory too.

    Source: Hu et al. 2021 (arXiv 2106.09685); DoRA: Liu et al. 2024 (arXiv 2402.09353).
    """

    kind: ClassVar[str] = "lora"
    tensor_file: ClassVar[str] = "adapter_model.safetensors"

    rank: int = 8
    """Rank of each adapter."""
    alpha: float = 16.0
    """Scale of an adapter is alpha / rank."""
    targets: list[str] = field(
        default_factory=lambda: [
            "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
        ]
    )  # fmt: skip
    """Names of linear layers inside a block."""
    dora: bool = False
    """Train the length of each row of the weight apart from its direction."""

    def save(self, directory: str | Path) -> None:
        super().save(directory)
        modules = sorted(self._require_fit().facts["modules"])
        config = self._peft_config(modules).to_dict()
        write_json(Path(directory) / "adapter_config.json", config)

    def _fit(self, model: nn.Module, data: FitData, seed: int) -> Fitted:
        layers = self._chosen_layers(model, data, seed)
        modules = target_modules(model, layers, self.targets)
        base_hash = base_weights_hash(model)
        start = self._initial(model, modules, seed)
        with adapted(model, self._peft_config(sorted(modules)), start) as (wrapped, parameters):
            self._train(wrapped, parameters, data, layers=layers, base_hash=base_hash, seed=seed)
            tensors = {name: value.detach().cpu().clone() for name, value in parameters.items()}
        facts = {
            "layers": layers,
            "modules": modules,
            "parameters": sum(tensor.numel() for tensor in tensors.values()),
        }
        return Fitted(facts, tensors)

    @contextmanager
    def _attach(self, model: nn.Module) -> Iterator[nn.Module]:
        fitted = self._require_fit()
        config = self._peft_config(sorted(fitted.facts["modules"]))
        with adapted(model, config, fitted.tensors) as (wrapped, _):
            yield wrapped

    def _shapes(self, facts: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            f"{_PREFIX}{module}.lora_{side}.weight": shape
            for module, (width_in, width_out) in facts["modules"].items()
            for side, shape in (("A", (self.rank, width_in)), ("B", (width_out, self.rank)))
        }
        if self.dora:
            shapes |= {
                f"{_PREFIX}{name}.{_MAGNITUDE}": (wide,) for name, (_, wide) in facts["modules"].items()
            }
        return shapes

    def _initial(self, model: nn.Module, modules: Mapping[str, list[int]], seed: int) -> dict[str, Tensor]:
        """A uniform within 1/sqrt(width) as in peft, B zero, magnitudes those of the base: the identity.

        Each matrix has a generator of its own, so that it depends on the seed and its name alone.
        """
        tensors = {}
        for name, shape in self._shapes({"modules": modules}).items():
            tensors[name] = torch.zeros(shape)
            if name.endswith(_MAGNITUDE):
                weight = model.get_parameter(f"{name[len(_PREFIX) : -len(_MAGNITUDE) - 1]}.weight")
                tensors[name] = weight.detach().float().norm(dim=1).cpu()
            elif ".lora_A." in name:
                generator = torch.Generator().manual_seed(seed_from("lora", seed, name))
                bound = 1 / math.sqrt(shape[1])
                tensors[name].uniform_(-bound, bound, generator=generator)
        return tensors

    def _peft_config(self, modules: list[str]) -> Any:
        try:
            from peft import LoraConfig
        except ImportError:
            raise InputError(
                "arm of kind 'lora': the package peft is not installed. Run `pip install peft`."
            ) from None
        # Biases are never trained: switching such an adapter off would not give the base back.
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            target_modules=modules,
            lora_dropout=0.0,
            use_dora=self.dora,
            bias="none",
            task_type="CAUSAL_LM",
        )


def target_modules(model: nn.Module, layers: list[int], targets: list[str]) -> dict[str, list[int]]:
    """Full names of the linear layers to adapt, with their input and output widths.

    Raises:
        InputError: a target that some chosen block lacks; the message lists what the block has.
    """
    blocks = find_blocks(model)
    names = {id(module): name for name, module in model.named_modules()}
    found: dict[str, list[int]] = {}
    for layer in layers:
        linear = {
            name: module for name, module in blocks[layer].named_modules() if isinstance(module, nn.Linear)
        }
        endings = {name.rpartition(".")[2] for name in linear}
        missing = sorted(set(targets) - endings)
        if missing or not targets:
            raise InputError(
                f"arm of kind 'lora': block {layer} has no linear layer named {missing}. "
                f"It has: {', '.join(sorted(endings))}. Set `targets` to some of these."
            )
        for name, module in linear.items():
            if name.rpartition(".")[2] in targets:
                found[f"{names[id(blocks[layer])]}.{name}"] = [
                    module.in_features,
                    module.out_features,
                ]
    return found


def _saved_name(name: str) -> str:
    """The name that peft gives a parameter in its file: without the adapter's own name."""
    return name.replace(f"{_MAGNITUDE}.default.weight", _MAGNITUDE).replace(".default.", ".")


@contextmanager
def adapted(
    model: nn.Module, config: Any, tensors: Mapping[str, Tensor]
) -> Iterator[tuple[nn.Module, dict[str, nn.Parameter]]]:
    """Inject adapters with the given tensors; on exit the model has no trace of peft.

    Yields:
        The wrapped model, and the adapter parameters by the names of the saved file.
    """
    from peft import get_peft_model

    flags = {name: value.requires_grad for name, value in model.named_parameters()}
    # peft draws initial values that are overwritten below; nobody else shall notice.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        wrapped = get_peft_model(model, config)
    try:
        parameters = {
            _saved_name(name): value for name, value in wrapped.named_parameters() if ".lora_" in name
        }
        shapes = {name: tuple(value.shape) for name, value in parameters.items()}
        check_shapes(tensors, shapes, "adapter")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])
        yield wrapped, parameters
    finally:
        wrapped.unload()
        if hasattr(model, "peft_config"):
            del model.peft_config
        for name, value in model.named_parameters():
            value.requires_grad_(flags[name])
