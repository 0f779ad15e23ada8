"""Formulas as texts of a programming language, for the writers of C and Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Text:
    """An expression; `number` writes constants in its language."""

    text: str
    number: Callable[[float], str]

    def of(self, other: Any) -> str:
        """The text of an operand."""
        return other.text if isinstance(other, Text) else self.number(float(other))

    def call(self, function: str, *others: Any) -> Text:
        """Call a function of this and others."""
        return self.like(f"{function}({', '.join([self.text, *map(self.of, others)])})")

    def like(self, text: str) -> Text:
        """Another expression of this language."""
        return Text(text, self.number)

    def __add__(self, other: Any) -> Text:
        return self.like(f"({self.text} + {self.of(other)})")

    def __sub__(self, other: Any) -> Text:
        return self.like(f"({self.text} - {self.of(other)})")

    def __mul__(self, other: Any) -> Text:
        return self.like(f"({self.text} * {self.of(other)})")

    def __truediv__(self, other: Any) -> Text:
        return self.like(f"({self.text} / {self.of(other)})")


def bare(text: str) -> str:
    """The expression without the parentheses around the whole of it."""
    if not text.startswith("("):
        return text
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[1:-1] if i == len(text) - 1 else text
    return text
