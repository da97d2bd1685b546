import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.training.segment_normaliser import (
    HUBER_EPSILON,
    MIN_STD,
    Line,
    SegmentNormaliser,
    fit_segment_normaliser,
    huber_line,
)

WORKED = json.loads((Path(__file__).parents[2] / "oracles.json").read_text())["segment_normaliser"]


def test_token_rewards_are_the_worked_ones():
    scores = torch.tensor(WORKED["segment_scores"], dtype=torch.float64)
    normaliser = SegmentNormaliser(*WORKED["params"])
    rewards = normaliser.token_rewards(scores, torch.tensor(WORKED["lengths"]))
    assert rewards.tolist() == pytest.approx(WORKED["token_rewards"], abs=1e-9)
    assert rewards.sum().item() == pytest.approx(WORKED["sum"], abs=1e-9)
    assert normaliser.normalise(scores).sum().item() == pytest.approx(WORKED["sum"], abs=1e-9)


def test_a_deviation_that_the_line_makes_negative_is_bounded():
    normaliser = SegmentNormaliser(0.0, 1.0, 0.0, 0.1)
    assert normaliser.normalise(torch.tensor([1.0, 1.0])).tolist() == pytest.approx([1 / MIN_STD, 10.0])


def objective(line: Line, scale: float, x: np.ndarray, y: np.ndarray) -> float:
    z = np.abs(y - line.slope * x - line.intercept) / scale
    inner = np.where(z <= HUBER_EPSILON, z**2, 2 * HUBER_EPSILON * z - HUBER_EPSILON**2)
    return float((scale + scale * inner).sum())


def best_objective(line: Line, x: np.ndarray, y: np.ndarray) -> float:
    """Over all scales, by looking at many."""
    return min(objective(line, scale, x, y) for scale in np.geomspace(1e-2, 1e1, 4000))


@pytest.mark.parametrize("seed", range(3))
def test_no_line_nearby_is_better_than_the_fitted_one(seed):
    generator = np.random.default_rng(seed)
    x = np.log(np.arange(1, 41) / 40)
    y = 0.8 * x + 0.5 + 0.2 * generator.standard_normal(40)
    y[:4] += 5
    line = huber_line(x, y)
    here = best_objective(line, x, y)
    for slope, intercept in ((1e-2, 0), (-1e-2, 0), (0, 1e-2), (0, -1e-2), (5e-3, 5e-3), (-5e-3, -5e-3)):
        assert best_objective(Line(line.slope + slope, line.intercept + intercept), x, y) > here


def test_outliers_do_not_move_a_line_that_most_points_lie_on():
    x = np.linspace(-3, 0, 20)
    y = 0.8 * x + 0.5
    y[[2, 11]] += 50
    assert huber_line(x, y) == pytest.approx((0.8, 0.5), abs=1e-6)


def test_a_normaliser_finds_the_lines_that_made_the_scores():
    generator = np.random.default_rng(0)
    truth = SegmentNormaliser(0.7668, 0.2569, 0.4705, 2.8339)
    locations = np.repeat(np.arange(1, 21) / 20, 4000)
    logs = np.log(locations)
    means, stds = truth.mean_slope * logs + truth.mean_intercept, truth.std_slope * logs + truth.std_intercept
    scores = means + stds * generator.standard_normal(len(locations))
    assert fit_segment_normaliser(locations, scores) == pytest.approx(tuple(truth), abs=0.1)


def test_too_few_locations_are_refused():
    with pytest.raises(ValueError, match="give it more responses"):
        fit_segment_normaliser(np.array([0.5, 0.5, 1.0]), np.array([1.0, 2.0, 3.0]))


def test_locations_outside_the_response_are_refused():
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        fit_segment_normaliser(np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0, 4.0]))
