import pytest
import torch

from engine import logprobs
from engine.logprobs import token_tracks, tracks_of_logits


def test_tracks_of_known_probabilities():
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    tracks = tracks_of_logits(probabilities.log() + 3.0, torch.tensor([1, 2]), True)
    torch.testing.assert_close(tracks.logprobs, torch.tensor([0.25, 0.7]).log())
    torch.testing.assert_close(tracks.entropies, -(probabilities * probabilities.log()).sum(1))
    assert tracks.ranks.tolist() == [1, 0]


def test_tiles_give_what_one_product_gives(monkeypatch):
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(70, 8), torch.randn(50, 8), torch.randint(0, 50, (70,))
    monkeypatch.setattr(logprobs, "TILE_NUMBERS", 17 * 50)
    tracks = token_tracks(hidden, targets, lambda tile: tile @ weight.T, 50)
    expected = torch.log_softmax((hidden @ weight.T).double(), 1)
    torch.testing.assert_close(tracks.logprobs.double(), expected[range(70), targets], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        tracks.entropies.double(), -(expected.exp() * expected).sum(1), atol=1e-5, rtol=0
    )
    assert tracks.ranks.tolist() == (expected > expected[range(70), targets][:, None]).sum(1).tolist()


def test_no_tile_is_larger_than_allowed(monkeypatch):
    seen = []
    monkeypatch.setattr(logprobs, "TILE_NUMBERS", 32 * 50)

    def head(tile):
        seen.append(len(tile))
        return torch.zeros(len(tile), 50)

    token_tracks(torch.zeros(100, 4), torch.zeros(100, dtype=torch.long), head, 50)
    assert seen == [32, 32, 32, 4]


def test_a_reference_gets_no_distribution():
    tracks = tracks_of_logits(torch.zeros(2, 4), torch.tensor([0, 3]), False)
    torch.testing.assert_close(tracks.logprobs, torch.full((2,), 0.25).log())
    assert tracks.entropies is None
    assert tracks.ranks is None


@pytest.mark.parametrize("with_distribution", [True, False])
def test_nothing_in_gives_nothing_out(with_distribution):
    tracks = token_tracks(
        torch.zeros(0, 4),
        torch.zeros(0, dtype=torch.long),
        torch.nn.Identity(),
        9,
        with_distribution=with_distribution,
    )
    assert len(tracks.logprobs) == 0


def test_large_logits_do_not_overflow():
    tracks = tracks_of_logits(torch.tensor([[1e4, 0.0, -1e4]]), torch.tensor([0]), True)
    assert tracks.logprobs.tolist() == [0.0]
    assert tracks.entropies.tolist() == [0.0]
