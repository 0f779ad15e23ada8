"""The overview of a table: what each column is taken for, printed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fastbp.tables.learning import Fact

__all__ = ["overview"]

MOST_COLUMNS = 30  # that are listed; of more, the first and the remarkable ones
_MOST_NOTES = 10
_MOST_NAME = 32


def overview(facts: Sequence[Fact], notes: Sequence[str] = ()) -> str:
    """Lines for people: a table of the columns, and what they should know about them."""
    listed = list(facts)
    if len(facts) > MOST_COLUMNS:
        half = MOST_COLUMNS // 2
        remarkable = [f for f in facts[half:] if f.kind != "number"][:half]
        listed = [*facts[:half], *remarkable]
    rows = [("column", "kind", "values", "missing", "inputs")]
    rows += [
        (_short(f.name), f.kind, f.values, f"{f.missing:,}" if f.missing else "", f"{f.inputs:,}")
        for f in listed
    ]
    widths = [max(len(row[j]) for row in rows) for j in range(5)]
    lines = []
    for name, kind, values, missing, inputs in rows:
        lines.append(
            f"{name:{widths[0]}}  {kind:{widths[1]}}  {values:{widths[2]}}  "
            f"{missing:>{widths[3]}}  {inputs:>{widths[4]}}"
        )
    if len(listed) < len(facts):
        shown = {id(f) for f in listed}
        kinds = Counter(f.kind for f in facts if id(f) not in shown)
        rest = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
        lines.append(f"… {len(facts) - len(listed):,} more: {rest}")
    lines += [f"note: {note}" for note in notes[:_MOST_NOTES]]
    if len(notes) > _MOST_NOTES:
        lines.append(f"note: … {len(notes) - _MOST_NOTES:,} more of the kind")
    return "\n".join(line.rstrip() for line in lines)


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _MOST_NAME else name[: _MOST_NAME - 1] + "…"
