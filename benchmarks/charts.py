"""The charts of the report, as SVG text: colours of Okabe and Ito, and a marker and hatch for each."""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks import groups, tables
from benchmarks.groups import Record

# contender: colour, marker, hatch, dashes. Black is fastbp's.
STYLE = {
    "fastbp": ("#000000", "o", "", "-"),
    "fastbp-bf16": ("#000000", "*", "----", "-."),
    "fastbp-jit": ("#555555", "D", "////", "--"),
    "fastbp-reference": ("#bbbbbb", "d", "", ":"),
    "numpy": ("#56B4E9", "s", "\\\\\\\\", "-"),
    "sklearn": ("#009E73", "^", "||||", "--"),
    "torch": ("#D55E00", "v", "////", "-"),
    "torch-compile": ("#E69F00", "<", "xxxx", "--"),
    "torch-bf16": ("#CC79A7", ">", "++++", ":"),
    "tensorflow": ("#88CCEE", "p", "....", "--"),
    "tensorflow-xla": ("#882255", "h", "oooo", "-"),
    "jax-step": ("#F0E442", "P", "----", "--"),
    "jax-scan": ("#0072B2", "X", "", "-"),
}
plt.rcParams.update(
    {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.sans-serif": ["Helvetica", "Arial", "Liberation Sans", "DejaVu Sans"],
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "hatch.linewidth": 0.5,
        "legend.frameon": False,
    }
)


def svg(figure: Any, name: str) -> str:
    """The figure as an <svg> element; `name` keeps its ids apart from other figures'."""
    out = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    text = out.getvalue()
    return text[text.index("<svg") :]


def _number(x: float, _: object = None) -> str:
    return f"{x:g}" if x < 1e4 else f"{x:,.0f}"


def ratios(records: Sequence[Record], name: str = "ratios") -> str:
    """Bars: how many times as long as fastbp each contender takes, with quartiles."""
    rows = tables.by_case(records)
    contenders = [
        c for c in tables.ORDER if c != "fastbp" and any(c in row for row in rows.values())
    ]
    figure, axes = plt.subplots(figsize=(10.5, 4.4))
    width = 0.8 / len(contenders)
    bottom, top = 1.0, 1.0
    for j, contender in enumerate(contenders):
        colour, _, hatch, _ = STYLE[contender]
        for i, row in enumerate(rows.values()):
            r = tables.times_faster(row, contender)
            if r is None:
                continue
            x = i + (j - (len(contenders) - 1) / 2) * width
            bottom, top = min(bottom, r.median), max(top, r.median)
            axes.bar(
                x,
                r.median - 1,
                width * 0.94,
                bottom=1,
                color=colour,
                hatch=hatch,
                edgecolor="white" if contender != "jax-step" else "#777700",
                linewidth=0.3,
                yerr=[[r.median - r.low], [r.high - r.median]],
                error_kw={"elinewidth": 0.8, "capsize": 1.5},
                label=tables.label(contender) if i == 0 else None,
            )
    axes.axhline(1, color="black", linewidth=1.5)
    axes.text(len(rows) - 0.45, 1, "fastbp", va="center", fontweight="bold")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}×"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    ticks = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
    axes.set_yticks([t for t in ticks if bottom / 1.5 <= t <= top * 1.5])
    axes.set_xlim(-0.5, len(rows) - 0.5)
    axes.grid(axis="x", visible=False)
    axes.set_xticks(range(len(rows)), [_in_lines(case) for case in rows], fontsize=8)
    axes.set_ylabel("time, in fastbp's (log scale)")
    axes.legend(
        *_without_bars(axes),
        ncols=5,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        fontsize=9,
        handlelength=2,
        handleheight=1.2,
    )
    return svg(figure, name)


def _in_lines(case: str) -> str:
    """Net and batch below each other; a run of layers of one width as 1024 (×4)."""
    net, _, batch = case.partition(", ")
    runs = [(width, len(list(same))) for width, same in itertools.groupby(net.split("-"))]
    return (
        "-".join(f"{w}(×{n})" if n > 2 else "-".join([w] * n) for w, n in runs) + f"\nbatch {batch}"
    )


def _without_bars(axes: Any) -> tuple[list[Any], list[str]]:
    """Legend entries, without those of the error bars."""
    handles, labels = axes.get_legend_handles_labels()
    return [h[0] if hasattr(h, "__getitem__") else h for h in handles], labels


def roofline(
    records: Sequence[Record], named: Sequence[str], limits: dict[str, Any], threads: int
) -> str:
    """Arithmetic rate over the arithmetic per byte of parameters, under the CPU's limits.

    The cases `named` have their names written beside them.
    """
    figure, axes = plt.subplots(figsize=(9.5, 6))
    rows = tables.by_case(records)
    key = str(threads)
    at = [r["flops"] / (2 * r["bytes"]) for r in records]
    low, high = min(at) / 2.5, max(at) * 2.5
    peak_flops = max(c[key] for c in limits["flops"]["float32"].values())
    for isa, counts in limits["flops"]["float32"].items():
        main = counts[key] == peak_flops
        axes.axhline(counts[key] / 1e9, color="black", linewidth=1.4 if main else 0.6)
        axes.text(
            high,
            counts[key] / 1e9,
            f" {isa} float32, {counts[key] / 1e9:,.0f}",
            va="center",
            size=9,
        )
    for dtype_isa, counts in limits["flops"].get("bfloat16", {}).items():
        axes.axhline(counts[key] / 1e9, color="black", linewidth=0.8, linestyle=":")
        text = f" {dtype_isa.removesuffix(' BF16')} bfloat16, {counts[key] / 1e9:,.0f}"
        axes.text(high, counts[key] / 1e9, text, va="center", size=9)
    written: dict[float, str] = {}
    for level, counts in limits["bandwidth"].items():
        # bytes read and as many written: the intensity counts both
        slope = 2 * counts[key] / 1e9
        ends = [low, max(low, peak_flops / 1e9 / slope)]
        axes.plot(ends, [e * slope for e in ends], color="#777777", linewidth=0.8)
        same = next((s for s in written if 0.85 < s / slope < 1.18), slope)  # nearly one line
        written[same] = f"{written[same]}, {level}" if same in written else level
    for slope, levels in written.items():
        axes.annotate(
            levels,
            (low, low * slope),
            xytext=(5, 5),
            textcoords="offset points",
            size=9,
            va="bottom",
        )
    drawn = set()
    for row in rows.values():
        for contender, record in row.items():
            colour, marker, _, _ = STYLE[contender]
            axes.plot(
                record["flops"] / (2 * record["bytes"]),
                record["flops"] / statistics.median(record["seconds"]) / 1e9,
                marker,
                color=colour,
                markeredgecolor="black",
                markeredgewidth=0.5,
                markersize=9 if contender == "fastbp" else 6,
                zorder=4 if contender == "fastbp" else 3,
                label=None if contender in drawn else tables.label(contender),
            )
            drawn.add(contender)
    _name_cases(axes, {case: rows[case] for case in named})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_number))
    axes.set_xlabel("operations for each byte of parameters read or written (log scale)")
    axes.set_ylabel("GFLOP/s (log scale)")
    axes.legend(fontsize=9, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    return svg(figure, "roofline")


def _name_cases(axes: Any, rows: dict[str, dict[str, Record]]) -> None:
    """Names below a case's points, or left of fastbp's where another case stands in the same place."""
    place = {
        case: (r := next(iter(row.values())))["flops"] / r["bytes"] for case, row in rows.items()
    }
    for case, row in rows.items():
        rates = {c: r["flops"] / statistics.median(r["seconds"]) / 1e9 for c, r in row.items()}
        crowded = any(c != case and abs(place[c] / place[case] - 1) < 0.2 for c in rows)
        beside = crowded and "fastbp" in rates
        axes.annotate(
            case,
            (place[case] / 2, rates["fastbp"] if beside else min(rates.values())),
            xytext=(-9, 0) if beside else (0, -9),
            textcoords="offset points",
            rotation=0 if beside else 90,
            size=9,
            ha="right" if beside else "center",
            va="center" if beside else "top",
            zorder=5,
        )


def scaling(records: Sequence[Record]) -> str:
    """Speed-up over one thread of the same contender, a panel for each case."""
    names = list(dict.fromkeys(r["case"] for r in records))
    figure, panels = plt.subplots(
        1, len(names), figsize=(10.5, 3), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, case in zip(panels[0], names, strict=True):
        chosen = [r for r in records if r["case"] == case]
        counts = sorted({r["most_threads"] for r in chosen})
        axes.plot(counts, counts, color="#777777", linewidth=1, linestyle=":", label="ideal")
        for contender in dict.fromkeys(r["contender"] for r in chosen):
            lines = {r["most_threads"]: r for r in chosen if r["contender"] == contender}
            points = [
                groups.interleave.ratio(lines[1]["seconds"], lines[t]["seconds"]) for t in counts
            ]
            _line(axes, contender, counts, points)
        axes.set_xticks(counts)
        axes.set_title(case.replace(", ", "\nbatch "), fontsize=8)
        axes.set_xlabel("threads")
    panels[0][0].set_ylabel("speed-up over 1 thread")
    figure.legend(
        *panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9
    )
    return svg(figure, "scaling")


def _line(axes: Any, contender: str, x: Sequence[float], points: Sequence[Any]) -> None:
    colour, marker, _, dashes = STYLE[contender]
    y = [p.median for p in points]
    axes.errorbar(
        x,
        y,
        yerr=[[p.median - p.low for p in points], [p.high - p.median for p in points]],
        color=colour,
        marker=marker,
        linestyle=dashes,
        markeredgecolor="black",
        markeredgewidth=0.5,
        elinewidth=0.8,
        capsize=2,
        label=tables.label(contender),
        zorder=4 if contender == "fastbp" else 3,
    )


def sweep(records: Sequence[Record], xlabel: str, name: str, limit: float | None) -> str:
    """Arithmetic rate over the width or the batch size, which the record's name ends in."""
    figure, axes = plt.subplots(figsize=(4.6, 3.6))
    for contender in tables.ORDER:
        chosen = [r for r in records if r["contender"] == contender]
        if chosen:
            x = [int(r["name"].split()[-1]) for r in chosen]
            points = [
                groups.interleave.spread([r["flops"] / s / 1e9 for s in r["seconds"]])
                for r in chosen
            ]
            _line(axes, contender, x, points)
    if limit is not None:
        axes.axhline(limit / 1e9, color="black", linewidth=1)
        axes.annotate(
            "peak of this CPU, float32",
            (0, limit / 1e9),
            xycoords=("axes fraction", "data"),
            xytext=(4, 4),
            textcoords="offset points",
            size=9,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.yaxis.set_major_formatter(FuncFormatter(_number))
    axes.set_xticks(sorted({int(r["name"].split()[-1]) for r in records}))
    axes.set_xlabel(xlabel)
    axes.set_ylabel("GFLOP/s (log scale)")
    axes.legend(fontsize=8, handlelength=2.4)
    return svg(figure, name)


def accuracy(records: Sequence[Record]) -> str:
    """Training loss and test accuracy over training time: median over the seeds at each epoch."""
    figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.8), layout="constrained")
    for record in records:
        colour, marker, _, dashes = STYLE[record["contender"]]
        epochs = list(zip(*record["curves"], strict=True))
        x = [1e3 * statistics.median(s for s, _, _ in seeds) for seeds in epochs]
        for axes, column in zip(panels, (1, 2), strict=True):
            y = [statistics.median(seed[column] for seed in seeds) for seeds in epochs]
            axes.plot(
                x,
                y if column == 1 else [100 * a for a in y],
                color=colour,
                marker=marker,
                linestyle=dashes,
                markersize=5 if record["contender"] == "fastbp" else 4,
                markeredgecolor="black",
                markeredgewidth=0.3,
                markevery=3,
                linewidth=1.2,
                label=tables.label(record["contender"]),
            )
    for axes in panels:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_number))
        axes.set_xlabel("training time, ms (log scale)")
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter(FuncFormatter(_number))
    panels[0].yaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("training loss (log scale)")
    panels[1].set_ylim(90, 100)
    panels[1].set_ylabel("test accuracy, %")
    for target in (97, 98):
        panels[1].axhline(target, color="#777777", linewidth=0.8, linestyle="--")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    return svg(figure, "accuracy")


def calibration(found: Sequence[dict[str, Any]]) -> str:
    """The share of right predictions against the probability that they were given; one line for each."""
    figure, axes = plt.subplots(figsize=(4.8, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color="#777777", linewidth=0.8, linestyle="--")
    for each, style in zip(found, itertools.cycle(STYLE.values()), strict=False):
        colour, marker, _, dashes = style
        axes.plot(
            each["probability"],
            each["right"],
            color=colour,
            marker=marker,
            linestyle=dashes,
            markersize=4,
            markeredgecolor="black",
            markeredgewidth=0.3,
            linewidth=1.2,
            label=each["contender"],
        )
    axes.set_xlabel("probability of the class that is predicted")
    axes.set_ylabel("share that is right")
    axes.legend(fontsize=9)
    return svg(figure, "calibration")


def bars(records: Sequence[Record], value: str, unit: str, scale: float, name: str) -> str:
    """Horizontal bars of one number for each contender, smallest on top."""

    def number(record: Record) -> float:
        return (record[value] if value != "seconds" else statistics.median(record[value])) * scale

    records = sorted(records, key=number, reverse=True)
    figure, axes = plt.subplots(figsize=(4.6, 0.4 * len(records) + 0.5))
    longest = max(map(number, records))
    for i, record in enumerate(records):
        colour, _, hatch, _ = STYLE.get(record["contender"], ("#eeeeee", "", "", ""))
        axes.barh(i, number(record), color=colour, hatch=hatch, edgecolor="white", linewidth=0.3)
        axes.text(number(record) + longest / 80, i, f"{number(record):,.0f} {unit}", va="center")
    axes.set_yticks(range(len(records)), [tables.label(r["contender"]) for r in records])
    axes.set_xlim(0, longest * 1.2)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    return svg(figure, name)
