"""Names are declared once: the tables that engines keep by name, or by place, have the same ones."""

from __future__ import annotations

from typing import get_args

import pytest

from fastbp import activations, losses, stages
from fastbp.engines import native, reference
from fastbp.engines.jit import layout

KINDS = [kind.__name__ for kind in get_args(stages.Stage)]


def test_the_reference_engine() -> None:
    assert list(reference.ACTIVATIONS) == list(activations.ACTIVATIONS)
    assert list(reference.LOSSES) == list(losses.LOSSES)
    assert sorted(reference.LINKS) == sorted(losses.LINKS)
    assert [kind.__name__ for kind in reference.KINDS] == KINDS


def test_the_jit_engine() -> None:
    assert list(layout.ACTIVATIONS) == list(activations.ACTIVATIONS)
    assert list(layout.LOSSES) == list(losses.LOSSES)
    assert sorted(layout.LINKS) == sorted(losses.LINKS)


@pytest.mark.skipif(not native.available(), reason=f"native engine: {native.reason()}")
@pytest.mark.parametrize("isa", native.usable())
def test_the_native_engine(isa: str) -> None:
    module = native.module(isa, "float32")
    assert list(module.ACTIVATIONS) == list(activations.ACTIVATIONS)
    assert list(module.LOSSES) == list(losses.LOSSES)
    assert sorted(module.LINKS) == sorted(losses.LINKS)
    assert list(module.STAGES) == KINDS


def test_every_loss_has_one_of_the_links() -> None:
    assert {losses.get(name).link for name in losses.LOSSES} <= set(losses.LINKS)
