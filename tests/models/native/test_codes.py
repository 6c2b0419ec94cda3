"""Weights as codes, where numbers are not as usual."""

from __future__ import annotations

import numpy as np
import pytest

from modelcompose_jupyter.models.native.codes import INT4, INT8, Form, coded


def again(weights: np.ndarray, form: Form) -> np.ndarray:
    room = np.empty(form.size(*weights.shape), np.uint8)
    return coded(weights.astype(np.float32), "float32", form, room, 1).as_float32()


@pytest.mark.parametrize("form", [INT8, INT4])
@pytest.mark.parametrize("spread", [0.0, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("middle", [-1.0, -0.37, 0.37])
def test_weights_that_are_nearly_equal(form: Form, spread: float, middle: float) -> None:
    weights = np.random.default_rng(0).normal(middle, spread, (20, 300))
    found = again(weights, form)
    # Ranges begin or end with 0, so what is far from it has wide steps.
    assert np.abs(found - weights).max() < (0.005 if form == INT8 else 0.05) * abs(middle)


@pytest.mark.parametrize("form", [INT8, INT4])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_none(form: Form, odd: float) -> None:
    weights = np.random.default_rng(0).normal(size=(20, 300))
    weights[3, 70] = odd
    found = again(weights, form)
    assert not np.isfinite(found[3, 70])
    assert np.isfinite(found[[0, 1, 2, 4, 19]]).all()


@pytest.mark.parametrize("form", [INT8, INT4])
def test_zeros_are_zeros(form: Form) -> None:
    assert not again(np.zeros((20, 300)), form).any()
