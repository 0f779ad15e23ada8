"""The comparison, run group by group, and the page that tells what came out."""

from __future__ import annotations

import html
import importlib.util
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    cases,
    equivalence,
    files,
    groups,
    kernels,
    machine,
    peak,
    report_tables,
    tables,
    tabular,
)
from benchmarks.contenders import CONTENDERS
from benchmarks.groups import Pool, Record
from benchmarks.interleave import Spread
from benchmarks.report_tables import Results
from benchmarks.worker import ROOT, available_threads

MARKS = "<!-- speed: python -m benchmarks report --docs -->", "<!-- end of speed -->"
PICTURE = ROOT / "docs" / "ratios.svg"


def run(*, quick: bool = False) -> Results:
    """Measure everything; about a quarter of an hour, or two to three minutes if `quick`.

    Quick leaves out what takes long to compile or to compute, and has fewer rounds.
    """
    n = available_threads()
    rounds = 3 if quick else 9
    names = [c for c in CONTENDERS if not (quick and c == "torch-compile")]
    others = machine.Others()
    with Pool() as pool:

        def train(
            chosen: Iterable[cases.Case], contenders: Iterable[str], group: str
        ) -> list[Record]:
            records = []
            for case in chosen:
                _say(f"{group}: {case.label}")
                few = 3 if cases.flops_per_step(case) > 1e11 else rounds
                records += groups.train(pool, case, contenders, few, group=group)
            return records

        _say("limits of this CPU")
        limits = peak.measure()
        nets = list(cases.CASES.values())[: -2 if quick else None]
        # A row at a time, and the largest net, tell nothing new in float64 but take long.
        in_float64 = [
            cases.in_float64(c) for c in nets if c.name not in ("mnist-online", "very-large")
        ]
        results: Results = {
            "machine": machine.describe(),
            "quick": quick,
            "training": train(nets, names, "training"),
            "float64": train(in_float64[: 2 if quick else None], groups.FLOAT64, "float64"),
        }
        _say("optimizers")
        results["optimizers"] = [
            r
            for name in ("mnist-medium", "mnist-large-batch", "large")[: 1 if quick else None]
            for r in groups.optimizers(cases.CASES[name], rounds)
        ]
        _say("threads")
        scaled = ("tiny", "small", "mnist-small", "mnist-medium", "large")
        results["threads"] = [
            r
            for name in (scaled[2:4] if quick else scaled)
            for r in groups.train(
                pool, cases.CASES[name], groups.SCALING, rounds, peak.thread_counts(), "threads"
            )
        ]
        widths = cases.width_sweep((16, 256) if quick else (16, 64, 256, 1024, 4096))
        batches = cases.batch_sweep((1, 1024) if quick else (1, 8, 64, 512, 4096))
        results["widths"] = train(widths, groups.SWEEPING, "widths")
        results["batches"] = train(batches, groups.SWEEPING, "batches")
        _say("predict")
        predicting = [c for c in groups.PREDICTING if c in names]
        results["predict"] = [
            r
            for case in (cases.SINGLE_ROWS, cases.CASES["mnist-medium"])
            for rows in ((1,) if quick else (1, 4096))
            for r in groups.predict(pool, case, rows, rounds, predicting)
        ]
        results["predict"] += groups.predict(
            pool, cases.BULK, cases.BULK.rows, 3 if quick else 5, predicting, "predict_proba"
        )
        _say("kernels")
        results["kernels"] = [
            r for name in kernels.KERNELS for r in groups.kernel(pool, name, rounds)
        ]
        _say("digits")
        results["digits"] = groups.digits(pool, names, 1 if quick else 7, 24)
        results["versions"] = {
            name: worker.versions() for name in CONTENDERS if (worker := pool.get(name, n))
        }
        results["missing"] = pool.missing
    _say("start-up and memory")
    results["import"] = groups.import_time(1 if quick else 7)
    results["first_fit"] = groups.first_fit(1 if quick else 5)
    results["memory"] = groups.memory()
    _say("files")
    results["files"] = files.measure(1 if quick else 5, quick=quick)
    _say("sparse rows")
    if importlib.util.find_spec("scipy"):
        from benchmarks import sparse

        results["sparse"] = sparse.group(quick=quick)
    _say("tabular")
    results["tabular"] = tabular.group(quick=quick)
    # A limit is the most that was ever seen: measured again, in case something ran beside it.
    results["limits"] = limits if quick else peak.larger(limits, peak.measure())
    results["others"] = others.cpus()
    return results


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


# The page


def page(results: Results) -> str:
    """One self-contained HTML page."""
    from benchmarks import charts

    limits, n = results["limits"], results["machine"]["threads"]
    top = peak.top(limits, "float32", n) if limits else None
    nets = results["training"]
    sections = [
        ("How much faster, and how close to the limit", _summary(results) + charts.ratios(nets)),
        ("Training", _training_text() + report_tables.training(nets, limits)),
        ("Goals", report_tables.goals_reached(results)),
        (
            "How close to what this CPU can do",
            (
                _roofline_text(limits, n)
                + charts.roofline(nets + results["batches"], list(tables.by_case(nets)), limits, n)
            )
            if limits
            else "",
        ),
        (
            "A real task: digits to 97 % and 98 % test accuracy",
            _digits_text(results["digits"])
            + report_tables.digits(results["digits"])
            + charts.accuracy(results["digits"]),
        ),
        (
            "Training in float64",
            "<p>The same in float64; shares and the least possible are of its own peak.</p>"
            + report_tables.training(results["float64"], limits, "float64"),
        ),
        (
            "Other optimizers",
            "<p>Time of a step of fastbp, beside its own with plain SGD.</p>"
            + report_tables.optimizers(results["optimizers"]),
        ),
        (
            "Wider layers, larger batches",
            "<p>Plain SGD on shuffled minibatches, as above: on the left, a net of two layers of "
            "the given width and 10 outputs, in batches of 128; on the right, 256-256-10 in "
            "batches of the given size. Higher is better.</p><div class=pair>"
            + charts.sweep(results["widths"], "width (log scale)", "widths", top)
            + charts.sweep(results["batches"], "batch size (log scale)", "batches", top)
            + "</div>"
            + report_tables.sweep(results["widths"] + results["batches"], limits),
        ),
        (
            "Threads",
            "<p>Each contender beside itself on one thread.</p>"
            + charts.scaling(results["threads"])
            + report_tables.threads(results["threads"]),
        ),
        ("Prediction", _predict_text() + report_tables.plain(results["predict"], limits)),
        (
            "Kernels alone",
            _kernels_text() + report_tables.kernels_alone(results["kernels"], limits),
        ),
        (
            "Start-up and memory",
            "<div class=pair><figure>"
            + charts.bars(results["import"], "seconds", "ms", 1e3, "import")
            + "<figcaption>A fresh process that imports the library</figcaption></figure><figure>"
            + charts.bars(results["first_fit"], "seconds", "ms", 1e3, "first-fit")
            + f"<figcaption>A fresh process, {results['first_fit'][0]['case']}, "
            "compilation included</figcaption></figure><figure>"
            + charts.bars(results["memory"], "memory", "MB", 1e-6, "memory")
            + f"<figcaption>Most memory of a process {results['memory'][0]['case']}</figcaption>"
            "</figure></div>",
        ),
        ("From a file to the first step", report_tables.files_read(results.get("files", []))),
        ("Sparse rows", report_tables.sparse_rows(results.get("sparse", []))),
        ("Networks for tables", report_tables.tabular_fits(results.get("tabular", {}))),
        ("How it was measured", _method(results) + report_tables.proofs(results)),
        ("Machine and versions", report_tables.machine_and_versions(results)),
    ]
    body = "".join(f"<section><h2>{title}</h2>{content}</section>" for title, content in sections)
    m = results["machine"]
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>fastbp: benchmarks</title>"
        f"<style>{_STYLE}</style><h1>fastbp beside what else trains on a CPU</h1>"
        f"<p class=where>{html.escape(m['cpu'])}, {m['threads']} threads · {m['date']}"
        f"{' · quick run' if results['quick'] else ''}</p>{_disturbed(results)}{body}</html>"
    )


_STYLE = """
body { font: 16px/1.5 Helvetica, Arial, 'Liberation Sans', sans-serif; color: #111; background: #fff;
  max-width: 80rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: 0 } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem }
h3 { font-size: 1rem; margin: 1.5rem 0 .3rem }
p { max-width: 46rem } .where { color: #444; margin-top: .2rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .82rem; margin: .7rem 0 }
th, td { padding: .25rem .45rem; text-align: right; white-space: nowrap; vertical-align: top;
  font-variant-numeric: tabular-nums; border-bottom: 1px solid #ddd }
th { border-bottom: 1.5px solid #111; vertical-align: bottom; white-space: normal; font-weight: 600 }
th:first-child, td:first-child, td.text, th.text { text-align: left }
td small { display: block; color: #555 } td.ours { font-weight: 700; background: #f2f2f2 }
th.ours { background: #f2f2f2 } td.best { text-decoration: underline; text-underline-offset: 3px }
svg { max-width: 100%; height: auto; display: block; margin: .5rem 0 }
.pair { display: flex; flex-wrap: wrap; gap: 1rem 2rem } figure { margin: 0; max-width: 30rem }
figcaption { font-size: .85rem; color: #333; max-width: 26rem }
.warning { border-left: 4px solid #D55E00; padding-left: .7rem }
.big { font-size: 1.15rem } section { break-inside: auto } figure, svg, tr { break-inside: avoid }
@media print { body { font-size: 10pt; max-width: none; margin: 0 } h2 { break-after: avoid } }
"""


def _summary(results: Results) -> str:
    """The answer in two sentences."""
    rows, limits = tables.by_case(results["training"]), results["limits"]
    ours = [row for row in rows.values() if "fastbp" in row]
    against_best = [r.median for row in ours if (r := tables.times_faster_than_best(row))]

    def between(ratios: Iterable[Spread | None]) -> str:
        medians = [r.median for r in ratios if r]
        return medians and f"{tables.digits(min(medians))} to {tables.digits(max(medians))}"

    parts = [
        f"{faster} times {tables.label(peer)}'s"
        for peer in ("torch", "sklearn", "numpy")
        if (faster := between(tables.times_faster(row, peer) for row in ours))
    ]
    faster = between(tables.times_faster_in_bf16(row) for row in ours)
    bf16 = f" In bf16, it trains at {faster} times the speed of PyTorch's autocast." * bool(faster)
    if not against_best:
        return "<p class=big>No peer is installed to compare with.</p>"
    shares = [s for row in ours if (s := tables.share_of_peak(row["fastbp"], limits)) is not None]
    share = (
        f" It reaches up to {100 * max(shares):.0f} % of the arithmetic peak of this CPU "
        f"({100 * shares[-1]:.0f} % on the largest net)."
        if shares
        else " There is no C compiler here, so the limits of this CPU are not known."
    )
    return (
        f"<p class=big>On these {len(ours)} nets, fastbp trains at "
        f"{tables.digits(min(against_best))} to {tables.digits(max(against_best))} times the speed of "
        "the fastest float32 peer in each, " + ", ".join(parts) + f".{share}{bf16}</p>"
        "<p>Each group of bars is a net (inputs, hidden widths, outputs) and a batch size, from "
        "small to large; find the one that is like yours. A bar's length is how many times as long "
        "as fastbp that library takes to train it: above the line it is slower, below it is faster. "
        "Thin lines span the quartiles of the rounds.</p>"
    )


def _disturbed(results: Results) -> str:
    """A warning, if the machine was not this run's alone."""
    if results["others"] < 0.1:
        return ""
    return (
        f"<p class=warning>Other programs kept {results['others']:.1f} of this machine's CPUs busy "
        "during the run. Ratios suffer less than times, but measure again when it is idle.</p>"
    )


def _training_text() -> str:
    return (
        "<p>Microseconds for one step of training (ReLU, softmax cross-entropy, plain SGD, shuffled "
        "minibatches, loss reported), lower is better: the median over the rounds, its quartiles, "
        "and the share that the least possible, in the contender's own precision, has of the time. "
        "The fastest float32 peer is underlined; those in bf16 are never that peer, and have a ratio "
        "of their own. The least possible is the step's arithmetic at the float32 peak plus one read "
        "and write of the parameters.</p>"
    )


def _roofline_text(limits: Any, threads: int) -> str:
    flops = limits["flops"]
    isas = list(dict.fromkeys(isa for counts in flops.values() for isa in counts))
    counts = [str(t) for t in peak.thread_counts(threads)]
    rows = [
        [
            f"{dtype} arithmetic, {isa}, GFLOP/s",
            *(f"{flops[dtype][isa][t] / 1e9:,.0f}" for t in counts),
        ]
        for dtype in flops
        for isa in isas
        if isa in flops[dtype]
    ]
    rows += [
        [f"{level}, GB/s read, and the same written", *(f"{by[t] / 1e9:,.0f}" for t in counts)]
        for level, by in limits["bandwidth"].items()
    ]
    head = ["limit", *(f"{t} thread{'s' * (t != '1')}" for t in counts)]
    return (
        "<p>Points are the contenders: on the nets of the table above, and, without a name, on "
        "256-256-10 in batches from a single row up. No program can be above the lines: flat "
        "ones are this CPU's arithmetic, sloping ones its memory, both measured here by a small "
        "compiled probe. Further right, more is computed with each weight that is moved. "
        "bfloat16 has a higher limit of its own, with fewer digits.</p>"
        + report_tables.table(head, rows)
    )


def _digits_text(records: Sequence[Record]) -> str:
    seeds = len(records[0]["curves"]) if records else 0
    case = cases.DIGITS
    return (
        f"<p>{case.label}, learning rate {case.learning_rate}, trained on {case.rows} of the "
        f"embedded digits and tested on {cases.DIGITS_TEST_ROWS} others, from {seeds} "
        "different initial weights, the same for all contenders. Only training is timed, after a "
        "warm-up: compilation and testing are not. Median over the seeds, and quartiles.</p>"
    )


def _predict_text() -> str:
    return (
        "<p>From a NumPy array to labels (or probabilities) in a NumPy array, in one call: the "
        "latency of a single row, and many rows at once. PyTorch runs in inference mode.</p>"
    )


def _kernels_text() -> str:
    return (
        "<p>The pieces of a step by themselves. Matrix products: rows × inputs × outputs of a layer; "
        "forward, then with the weights' gradient, then two such layers with the inputs' gradient "
        "too. Activations: 65,536 numbers, one thread. Losses: value and gradient of 4096 rows of "
        "10 outputs; fastbp's time is that of a whole pass through a net of one input. Optimizers: "
        "one update of 1024 × 1024 parameters; fastbp's includes making the gradient of one row, the "
        "others are handed theirs. Several threads where they are faster.</p>"
    )


def _method(results: Results) -> str:
    rounds = max(len(r["seconds"]) for r in results["training"])
    return f"""
<ul>
<li>Every contender runs in a process of its own, with the same data, initial weights and order of
rows. Before it is timed it trains {equivalence.STEPS} steps, which are compared with the same steps in
float64: its loss, the movement of every layer's weights and biases, predicted labels and probabilities
have to agree to what rounding explains. The errors are below. A contender that fails ends the run.</li>
<li>Peers have their best known settings: contiguous arrays of the dtype, PyTorch with a fused optimizer
and inference mode, JAX with donated buffers, all compiled and warmed up before timing. NumPy,
scikit-learn and PyTorch run each case on one thread or on all, whichever is faster; above 1 GFLOP a
step, on all.</li>
<li>Contenders take turns, round by round ({rounds} rounds, 3 for the largest net), and ratios are
taken within a round, so that whatever the machine does hits all alike. Printed are medians, and
quartiles for the spread.</li>
<li>What is timed is a whole epoch through the library's usual interface: taking the rows of a minibatch
in shuffled order, forward, loss, backward, update. Making the order is not.</li>
<li>A step's arithmetic counts the matrix products only, so shares of the peak err on the low side.</li>
</ul>"""


# The documentation's part


def docs_table(results: Results) -> str:
    """Markdown: a table of the nets, and where and when it was measured."""
    rows, limits = tables.by_case(results["training"]), results["limits"]
    columns = ["fastbp", "fastbp-bf16", "numpy", "sklearn", "torch", "torch-bf16"]
    columns += ["tensorflow-xla", "jax-scan"]
    names = [c for c in columns if any(c in row for row in rows.values())]
    bf16 = "fastbp-bf16" in names
    head = ["net, batch", *map(tables.label, names), "best float32 peer ÷ fastbp"]
    head += ["PyTorch, bf16 ÷ fastbp, bf16"] * bf16
    head += ["share of floor", *["bf16: share of its floor"] * bf16]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for case, row in rows.items():
        cells = [
            tables.microseconds(tables.time_spread(row[c]).median) if c in row else "–"
            for c in names
        ]
        ratios = [tables.times_faster_than_best(row)]
        ratios += [tables.times_faster_in_bf16(row)] * bf16
        cells += [f"**{tables.times(r, spread_too=False)}**" if r else "–" for r in ratios]
        cells += [
            tables.percent(tables.share_of_floor(row[c], limits)) if c in row else "–"
            for c in names
            if c in report_tables.OURS
        ]
        lines.append([case, *cells])
    m, versions = results["machine"], results["versions"]
    used = {k: v for found in versions.values() for k, v in found.items() if k != "fastbp"}
    libraries = ", ".join(f"{k} {v}" for k, v in sorted(used.items()))
    busy = results["others"]
    disturbed = f", while other programs kept {busy:.1f} CPUs busy" if busy >= 0.1 else ""
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        "Microseconds for one training step (ReLU, softmax cross-entropy, plain SGD, shuffled "
        "minibatches); lower is better.\n\n"
        f"{table}\n\n"
        "![How many times as long as fastbp each library takes](ratios.svg)\n\n"
        f"Measured on {m['date']} on {m['cpu']}, {m['threads']} threads{disturbed}, "
        f"with {libraries}. The best "
        "float32 peer is the fastest of all that run (two ways each of using JAX, PyTorch and "
        "TensorFlow, where they are there). The floor is the arithmetic at this CPU's peak and "
        "one read and write of the parameters; its share is of the time taken.\n"
    )


def write_docs(results: Results) -> None:
    """Replace the table and picture of docs/benchmarks.md."""
    from benchmarks import charts

    target = ROOT / "docs" / "benchmarks.md"
    before, _, rest = target.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    if not after:
        raise SystemExit(f"{target} lacks the lines {MARKS[0]} and {MARKS[1]}")
    target.write_text(f"{before}{MARKS[0]}\n{docs_table(results)}{MARKS[1]}{after}")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(charts.ratios(results["training"]))


def main(out: Path, *, quick: bool, measured: Path | None, docs: bool) -> None:
    """Measure (or take what was measured), and write the page with its figures beside it."""
    if measured is None:
        try:
            import matplotlib  # noqa: F401  # before minutes of measuring, not after
        except ImportError:
            raise SystemExit("the report needs matplotlib: pip install '.[report]'") from None
        results = run(quick=quick)
        out.with_suffix(".json").write_text(json.dumps(results))
    else:
        results = json.loads(measured.read_text())
    out.write_text(page(results))
    print(f"{out} ({out.stat().st_size / 1e3:.0f} kB), and {out.with_suffix('.json')}")
    if docs:
        write_docs(results)
        print("docs/benchmarks.md and docs/ratios.svg are up to date with it")
