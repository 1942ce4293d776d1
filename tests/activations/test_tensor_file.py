from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mmie.activations.storage import as_fp32
from mmie.activations.tensor_file import TensorFile
from mmie.io import read_safetensors


def test_rows_written_in_any_order_load_with_the_safetensors_library(tmp_path: Path) -> None:
    layout = {"numbers": ("F32", (5, 3)), "ids": ("I32", (4,)), "flags": ("BOOL", (2, 3))}
    with TensorFile(tmp_path / "a.safetensors", layout) as file:
        file.write("numbers", 3, np.full((2, 3), 2, np.float32))
        file.write("flags", 1, np.array([[True, False, True]]))
        file.write("ids", 0, np.arange(4, dtype=np.int32))
        file.write("numbers", 0, np.arange(9, dtype=np.float32).reshape(3, 3))
        assert file.read("numbers", 2, 4).tolist() == [[6, 7, 8], [2, 2, 2]]
        assert file.read("ids").tolist() == [0, 1, 2, 3]
    loaded = read_safetensors(tmp_path / "a.safetensors")
    assert loaded["numbers"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [2, 2, 2], [2, 2, 2]]
    assert loaded["ids"].tolist() == [0, 1, 2, 3]
    assert loaded["flags"].tolist() == [[False, False, False], [True, False, True]]


def test_rows_of_another_type_or_width_are_refused(tmp_path: Path) -> None:
    with TensorFile(tmp_path / "a.safetensors", {"h": ("F32", (2, 3))}) as file:
        with pytest.raises(ValueError, match="float64"):
            file.write("h", 0, np.zeros((1, 3)))
        with pytest.raises(ValueError, match=r"\(1, 2\)"):
            file.write("h", 0, np.zeros((1, 2), np.float32))


def test_bf16_comes_back_bit_for_bit(tmp_path: Path) -> None:
    values = torch.tensor([[1.0, -0.5, 3.140625], [1e30, -1e-30, 0.0]], dtype=torch.bfloat16)
    with TensorFile(tmp_path / "a.safetensors", {"h": ("BF16", (2, 3))}) as file:
        file.write("h", 0, values.view(torch.uint16).numpy())
        assert np.array_equal(as_fp32(file.read("h")), values.float().numpy())
    assert torch.equal(read_safetensors(tmp_path / "a.safetensors")["h"], values)
