import torch

from engine.training.losses.rjs import rjs_loss


def test_the_loss_is_the_mean_over_kept_tokens_of_all_rows():
    logprobs = torch.tensor([[-1.0, -2.0, -4.0], [-7.0, float("nan"), float("nan")]])
    mask = torch.tensor([[True, False, True], [True, False, False]])
    assert rjs_loss(logprobs, mask).item() == (1 + 4 + 7) / 3


def test_a_row_that_is_masked_fully_is_dropped():
    logprobs = torch.tensor([[-1.0, -2.0], [-8.0, -9.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [False, False]])
    loss = rjs_loss(logprobs, mask)
    loss.backward()
    assert loss.item() == 1.5
    assert logprobs.grad.tolist() == [[-0.5, -0.5], [0, 0]]


def test_where_nothing_is_kept_loss_and_gradient_are_zero():
    logprobs = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    loss = rjs_loss(logprobs, torch.zeros(1, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert not logprobs.grad.any()
