from __future__ import annotations

import pytest
import torch
from torch.nn import functional


@pytest.mark.parametrize("inference", [False, True])
def test_results_stay_where_their_operands_are(inference: bool, elsewhere: torch.device) -> None:
    with torch.inference_mode(inference):
        made, moved = torch.zeros(2, 3, device=elsewhere), torch.ones(2, 3).to(elsewhere)
        assert (made + 2 * moved).device == elsewhere
        assert (made + moved).cpu().tolist() == [[1, 1, 1]] * 2
        made[1] += 4
        assert made.sum().item() == 12
        assert moved.tolist() == [[1, 1, 1]] * 2


def test_mixing_devices_fails_as_on_a_gpu(elsewhere: torch.device) -> None:
    here, there = torch.ones(2), torch.ones(2, device=elsewhere)
    other = torch.ones(2, device=torch.device("elsewhere", 1))
    for one, two in ((here, there), (there, here), (there, other)):
        with pytest.raises(RuntimeError, match="same device"):
            one * two
    with pytest.raises(RuntimeError, match="same device"):
        functional.linear(there, torch.ones(2, 2))
    with pytest.raises(TypeError, match="elsewhere"):
        there.numpy()
    with pytest.raises(RuntimeError, match="same device"):
        here[torch.tensor([1]).to(elsewhere)]
    with pytest.raises(RuntimeError, match="same device"):
        there[torch.tensor([0, 1])] = torch.ones(2)
    assert there[torch.tensor([1])].device == elsewhere
    assert (there * torch.tensor(2.0)).device == elsewhere


def test_gradients_flow_through_modules_that_were_moved(elsewhere: torch.device) -> None:
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(3.0)
    model.to(elsewhere)
    model(torch.ones(4, 2, device=elsewhere)).sum().backward()
    assert model.weight.device == elsewhere
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[4, 4]]
