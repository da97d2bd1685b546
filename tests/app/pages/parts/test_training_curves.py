"""What charts are told, and the pictures for who has no script."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from app.pages.parts.training_curves import (
    CHARTS,
    SPARK_HEIGHT,
    SPARK_WIDTH,
    as_json,
    label_of,
    lines_of,
    spark,
)
from app.services.runs.metrics import Points, Series


def points(*values: float) -> Points:
    return Points(np.arange(1, len(values) + 1, dtype=np.int32), np.array(values, dtype=np.float64))


def drawn(picture: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", picture)]


@pytest.mark.parametrize("values", [(1.0, 2.0, 0.5), (-1.7e308, 1.7e308), (3.0, 3.0), (1e-300, 2e-300)])
def test_a_small_picture_stays_in_its_frame(values):
    found = drawn(spark(points(*values)))
    assert len(found) == len(values)
    assert (found[0][0], found[-1][0]) == (0, SPARK_WIDTH)
    assert all(0 <= y <= SPARK_HEIGHT for _, y in found)


def test_the_highest_value_is_at_the_top():
    found = drawn(spark(points(1.0, 5.0, 2.0)))
    assert min(found, key=lambda one: one[1]) == found[1]


def test_a_single_point_is_no_curve():
    assert spark(points(1.0)) == ""


def test_json_ends_no_script():
    text = as_json({"name": "</script><b>&"})
    assert "<" not in text
    assert "&" not in text
    assert json.loads(text) == {"name": "</script><b>&"}


def test_metrics_have_names_that_people_read():
    assert label_of("held_out/loss") == "Loss, held out"
    assert label_of("train/gradient_norm") == "Grad norm"
    assert label_of("suite/known errors/all") == "known errors: all"
    assert label_of("train/brand_new") == "train: brand new"


def test_every_metric_stands_in_one_chart():
    names = [metric.name for chart in CHARTS for metric in chart.metrics]
    assert len(names) == len(set(names))


def test_lines_come_in_the_order_of_the_charts():
    series = {name: Series(points(1.0, 2.0), 2, False) for name in ("zz", "train/margin", "train/loss")}
    assert [line.label for line in lines_of(series)] == ["Loss, train", "Margin, train", "zz"]
    assert lines_of(series, "a run")[0].label == "a run: Loss, train"
