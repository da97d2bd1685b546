import pytest
import torch
from jaxtyping import TypeCheckError

from engine.training.losses.dpo import SideLogprobs
from engine.training.losses.rjs import rjs_loss


def test_a_mask_of_another_shape_or_kind_is_noticed():
    with pytest.raises(TypeCheckError):
        rjs_loss(torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.bool))
    with pytest.raises(TypeCheckError):
        rjs_loss(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(TypeCheckError):
        SideLogprobs(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.bool))
