"""The tables of the report's page: cells, rows, heads, as HTML.

`report` measures and sets the page; what a figure of a table is comes from `tables`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks import files, goals, groups, tables, tabular, tabular_parts
from benchmarks.groups import Record
from benchmarks.interleave import Spread

Results = dict[str, Any]

OURS = ("fastbp", "fastbp-bf16")  # the engines that are a user's choice of speed


def table(head: Sequence[str], rows: Iterable[Sequence[str]], ours: Sequence[int] = ()) -> str:
    """Cells are HTML; a cell that starts with * is the best peer's; `ours` are columns."""

    def cell(tag: str, i: int, text: str) -> str:
        classes = ["ours"] * (i in ours) + ["best"] * text.startswith("*")
        attribute = f" class='{' '.join(classes)}'" if classes else ""
        return f"<{tag}{attribute}>{text.removeprefix('*')}</{tag}>"

    lines = [
        "<tr>" + "".join(cell(tag, i, text) for i, text in enumerate(row)) + "</tr>"
        for tag, row in [("th", head), *(("td", row) for row in rows)]
    ]
    return f"<div class=scroll><table>{''.join(lines)}</table></div>"


def cell(record: Record | None, limits: Any, *, best: bool = False) -> str:
    """Time, quartiles, and share of the floor."""
    if record is None:
        return "–"
    s = tables.time_spread(record)
    share = tables.share_of_floor(record, limits)
    below = f"{tables.microseconds(s.low)}–{tables.microseconds(s.high)}"
    share_text = f"<small>{tables.percent(share)} of floor</small>" if share is not None else ""
    return f"{'*' * best}{tables.microseconds(s.median)}<small>{below}</small>{share_text}"


def training(records: Sequence[Record], limits: Any, dtype: str = "float32") -> str:
    rows = tables.by_case(records)
    names = [c for c in tables.ORDER if any(c in row for row in rows.values())]
    ours = [c for c in names if c in OURS]
    others = [c for c in names if c not in OURS]
    bf16 = "fastbp-bf16" in names
    head = [
        "net, batch",
        *map(tables.label, ours),
        f"times as fast as the best {dtype} peer",
        *["bf16: times as fast as PyTorch's autocast"] * bf16,
        "least possible here",
        *map(tables.label, others),
    ]
    body = []
    for case, row in rows.items():
        peer = tables.best_peer(row)
        own = (r for r in row.values() if r["precision"] == dtype)
        floor = tables.floor(next(own, None), limits)
        autocast = tables.times_faster_in_bf16(row)
        body.append(
            [
                case,
                *(cell(row.get(c), limits) for c in ours),
                ratio_cell(tables.times_faster_than_best(row), peer),
                *[ratio_cell(autocast)] * bf16,
                tables.microseconds(floor) if floor else "–",
                *(cell(row.get(c), limits, best=row.get(c) is peer) for c in others),
            ]
        )
    return table(head, body, range(1, len(ours) + 1))


def ratio_cell(faster: Spread | None, peer: Record | None = None) -> str:
    """The ratio, its quartiles, and whose time it is of."""
    if faster is None:
        return "–"
    name = f"<small>{tables.label(peer['contender'])}</small>" if peer else ""
    return (
        f"<b>{tables.times(faster, spread_too=False)}</b><small>"
        f"{tables.digits(faster.low)}–{tables.digits(faster.high)}</small>{name}"
    )


def goals_reached(results: Results) -> str:
    """Every goal beside what was measured."""
    body, before = [], ""
    lines = list(goals.lines(results))
    for line in lines:
        goal, *measured = (
            in_unit(value, line.unit) for value in (line.goal, *(line.measured or ()))
        )
        most = "at most " if line.at_most else ""
        shown = f"{measured[0]} ({measured[1]}–{measured[2]})" if measured else "–"
        case = "" if line.case == before else line.case
        body.append([case, line.what, f"{most}{goal}", shown, line.reached])
        before = line.case
    measured = [line for line in lines if line.measured]
    reached = sum(line.reached == "yes" for line in measured)
    close = sum(line.reached == "within the spread" for line in measured)
    head = ["net, batch", "what", "goal", "measured (quartiles)", "reached"]
    return (
        f"<p>{reached} of {len(measured)} goals are reached by the median, {close} more by one of the "
        "quartiles. Those for bf16 are for CPUs with AMX.</p>"
        + table(head, body).replace("<td>", "<td class=text>").replace("<th>", "<th class=text>")
    )


def in_unit(value: float, unit: str) -> str:
    if unit == "s":
        return tables.time(value)
    return tables.percent(value) if unit == "%" else f"{tables.digits(value)}×"


def optimizers(records: Sequence[Record]) -> str:
    rows = tables.by_case(records)
    names = [c for c in groups.OPTIMIZERS if any(c in row for row in rows.values())]
    body = []
    for case, row in rows.items():
        ratios = [
            groups.interleave.ratio(row[c]["seconds"], row["sgd"]["seconds"]) for c in names[1:]
        ]
        times = [tables.time(tables.time_spread(row[c]).median) for c in names]
        body.append([case, *times, *map(tables.times, ratios)])
    ratios_head = [f"{c}, in plain SGD's (quartiles)" for c in names[1:]]
    return table(["net, batch", *names, *ratios_head], body)


def digits(records: Sequence[Record]) -> str:
    ours = next((r for r in records if r["contender"] == "fastbp"), None)
    body = []
    for record in records:
        row = [tables.label(record["contender"])]
        for accuracy in (0.97, 0.98):
            reached = groups.time_to_accuracy(record, accuracy)
            if reached is None:
                row += ["not by every seed", ""]
                continue
            s = groups.interleave.spread(reached)
            row.append(
                f"{tables.time(s.median)}<small>{tables.time(s.low)}–{tables.time(s.high)}</small>"
            )
            base = groups.time_to_accuracy(ours, accuracy) if ours else None
            row.append(
                tables.times(groups.interleave.ratio(reached, base), spread_too=False)
                if base
                else "–"
            )
        body.append(row)
    head = ["", "time to 97 %", "in fastbp's", "time to 98 %", "in fastbp's"]
    return table(head, body)


def plain(
    records: Sequence[Record], limits: Any, first: str = "net", *, shares: bool = True
) -> str:
    """Times with the ratio to the best peer, and the share of the peak."""
    rows = tables.by_case(records)
    names = [c for c in tables.ORDER if any(c in row for row in rows.values())]
    bf16 = "fastbp-bf16" in names
    body = []
    for case, row in rows.items():
        peer = tables.best_peer(row)
        faster = tables.times_faster_than_best(row)
        line = [
            case,
            *(
                f"{'*' * (row.get(c) is peer)}{tables.time(tables.time_spread(row[c]).median)}"
                if c in row
                else "–"
                for c in names
            ),
            tables.times(faster) if faster else "–",
        ]
        if bf16:
            autocast = tables.times_faster_in_bf16(row)
            line.append(tables.times(autocast) if autocast else "–")
        if shares:
            shown = [row.get("fastbp"), peer, *[row.get("fastbp-bf16")] * bf16]
            line += [tables.percent(tables.share_of_peak(r, limits)) if r else "–" for r in shown]
        body.append(line)
    head = [first, *map(tables.label, names), "times as fast as the best peer (quartiles)"]
    head += ["bf16: times as fast as PyTorch's autocast (quartiles)"] * bf16
    if shares:
        head += ["fastbp, share of peak", "best peer, share of peak"]
        head += ["fastbp, bf16, share of the bf16 peak"] * bf16
    return table(head, body, [i for i, c in enumerate(names, 1) if c in OURS])


def sweep(records: Sequence[Record], limits: Any) -> str:
    return plain(records, limits, "net, batch; time of a step")


def threads(records: Sequence[Record]) -> str:
    counts = sorted({r["most_threads"] for r in records})
    body = []
    for case in dict.fromkeys(r["case"] for r in records):
        for contender in groups.SCALING:
            lines = {
                r["most_threads"]: r
                for r in records
                if r["case"] == case and r["contender"] == contender
            }
            if 1 not in lines:
                continue
            body.append(
                [
                    f"{case}: {tables.label(contender)}",
                    *(tables.time(tables.time_spread(lines[t]).median) for t in counts),
                    *(
                        tables.times(
                            groups.interleave.ratio(lines[1]["seconds"], lines[t]["seconds"])
                        )
                        for t in counts[1:]
                    ),
                ]
            )
    head = [
        "net, batch; time of a step",
        *(f"{t} thread{'s' * (t > 1)}" for t in counts),
        *(f"speed-up on {t} (quartiles)" for t in counts[1:]),
    ]
    return table(head, body)


def files_read(records: list[Record]) -> str:
    """Nothing in what an older run measured."""
    head, *rows = files.table(records)
    return table(head, rows, [1]) if rows else ""


def tabular_fits(group: dict[str, Any]) -> str:
    """Error and seconds of fits, latencies, ablations; nothing in what an older run measured."""
    if not group.get("fits"):
        return ""
    shown = (
        "<p>Seconds of a fit · log-loss, or RMSE over the standard deviation, on a quarter of the "
        "rows.</p>" + _fits(group["fits"], "catboost")
    )
    found = group.get("latencies", {})
    if found:
        kinds = list(next(iter(found.values())))
        body = [[name, *(f"{1e6 * s[k]:,.0f} µs" for k in kinds)] for name, s in found.items()]
        shown += table(["predict_proba", *kinds], body)
    if group.get("ablations"):
        told = (
            "<p>What each part is worth, on sets that defaults were chosen by: fits without it.</p>"
        )
        shown += told + _fits(group["ablations"], tabular_parts.AS_IT_COMES)
    if group.get("calibrations"):
        from benchmarks import charts

        head, *rows = tabular_parts.table_of_calibrations(
            [tabular_parts.Calibration(**c) for c in group["calibrations"]]
        )
        shown += charts.calibration(group["calibrations"]) + table(head, rows)
    return shown


def _fits(fits: Iterable[dict[str, Any]], base: str) -> str:
    lines = tabular.table([tabular.Result(**r) for r in fits], base).splitlines()
    head, _, *rows = [[c.strip(" *") for c in line.strip("|").split("|")] for line in lines]
    return table(head, rows, [1])


def sparse_rows(group: list[list[list[str]]]) -> str:
    """Fits and predictions, a row, time by inputs, memory; nothing in what an older run measured."""
    told = (
        "<p>An epoch, or a prediction of all rows: one hidden layer of 100, batches of 200, float32; in "
        "brackets how many times as long as fastbp. Then a prediction of one row; an epoch on 10,000 "
        "columns of so many inputs; and MB that a fit takes beside X, the parameters and the "
        "optimizer's state.</p>"
    )
    return (told if group else "") + "".join(table(head, rows) for head, *rows in group)


def kernels_alone(records: Sequence[Record], limits: Any) -> str:
    return "".join(
        f"<h3>{group}</h3>"
        + plain([r for r in records if r["group"] == group], limits, "", shares=group == "matmul")
        for group in dict.fromkeys(r["group"] for r in records)
    )


def proofs(results: Results) -> str:
    body = [
        [
            f"{tables.label(contender)}{suffix}",
            *(
                f"{max(r['proof'][key] for r in chosen):.1e}<small>of at most "
                f"{max(r['proof'][bound] for r in chosen):.1e}</small>"
                for key, bound in (
                    ("loss_error", "loss_tolerance"),
                    ("movement_error", "movement_tolerance"),
                )
            ),
        ]
        for group, suffix in (
            ("training", ""),
            ("float64", ", float64"),
            ("optimizers", ", fastbp"),
        )
        for contender in dict.fromkeys([*tables.ORDER, *groups.OPTIMIZERS])
        if (chosen := [r for r in results[group] if r["contender"] == contender])
    ]
    head = [
        "largest error over the nets",
        "relative error of the loss",
        "of a parameter's movement",
    ]
    return table(head, body)


def machine_and_versions(results: Results) -> str:
    rows = [[k, html.escape(str(v))] for k, v in results["machine"].items() if v]
    rows.append(["CPUs that other programs kept busy meanwhile", f"{results['others']:.2f}"])
    found = {k: v for versions in results["versions"].values() for k, v in versions.items()}
    rows += [[k, html.escape(v)] for k, v in sorted(found.items())]
    rows += [
        [tables.label(name), f"not here: {html.escape(reason)}"]
        for name, reason in results["missing"].items()
    ]
    return table(["", ""], rows).replace("<td>", "<td class=text>")
