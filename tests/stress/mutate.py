"""Mutation testing: change one thing in a module at a time, and see whether its tests notice.

    python tests/stress/mutate.py [--most N] [--seed S] [MODULE ...]        all of TESTS, if none

cosmic-ray changes operators, comparisons, conditions, numbers, constants, loops and exceptions. Those
that only change the type of a number or object (a bit operator for an arithmetic one, `is` for
`==`) are left out, as are annotations. Of a module with more than N mutants, N are drawn.

Tests run in a fork of this process, in a copy of the tree, so that NumPy is imported once.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not survive a fork

import hypothesis  # noqa: F401
import numba  # noqa: F401
import numpy as np  # noqa: F401
import pytest
import sklearn.neural_network  # noqa: F401
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[2]
MEMORY = 8 << 30  # bytes that a mutant may ask for
ESTIMATORS = "estimators_extras estimators_saturation estimators_parallel estimators_differential"
TESTS = {
    "__init__": "estimators_extras",
    "_inputs": "bad_input network",
    "_options": "bad_input network checkpoint",
    "_safetensors": "model_file",
    "_text": "network bf16",
    "_validation": "validation bad_input",
    "activations": "validation network bad_input jit_functions",
    "checkpoint": "checkpoint",
    "cli": "cli cli_tables cli_bad_files bf16",
    "config": "engine_choice threads",
    "data/__init__": "data",
    "engines/__init__": "engine_choice engine_bf16 bf16 network bad_input",
    "engines/dropout": "dropout",
    "engines/interrupts": "interrupts",
    "engines/jit/__init__": "engine_choice",
    "engines/jit/engine": "engine_shapes jit_functions engine_contract engine_epoch engine_optimizers",
    "engines/jit/functions": "jit_functions",
    "engines/jit/layout": "jit_functions engine_contract",
    "engines/jit/library": "jit_cache jit_functions",
    "engines/jit/target": "engine_choice",
    "engines/native/__init__": "engine_choice bf16",
    "engines/reference/__init__": "engine_optimizers engine_contract engine_jacobian dropout "
    "engine_saturation engine_epoch jit_functions",
    "engines/reference/dense": "engine_contract engine_jacobian engine_bf16",
    "engines/reference/functions": "engine_contract engine_saturation engine_not_finite",
    "engines/reference/scale": "stage_scale",
    "estimators/__init__": "estimators_extras",
    "estimators/_base": ESTIMATORS + " bf16",
    "estimators/classifier": ESTIMATORS,
    "estimators/fitting": ESTIMATORS + " estimators_divergence",
    "estimators/lbfgs": ESTIMATORS,
    "estimators/parallel": ESTIMATORS,
    "estimators/parameters": ESTIMATORS,
    "estimators/prediction": ESTIMATORS,
    "estimators/regressor": ESTIMATORS,
    "estimators/rows": ESTIMATORS,
    "estimators/solver": ESTIMATORS,
    "fitting": "network network_divergence checkpoint interrupts",
    "functions": "functions jit_functions links",
    "history": "scores network",
    "holder": "network forks processes interrupts",
    "initializers": "initializers validation bad_input",
    "losses": "validation network bad_input jit_functions",
    "mlp": "network network_inputs bad_input",
    "model_file": "model_file checkpoint",
    "network": "network bad_input checkpoint model_file dropout interrupts processes",
    "optimizers": "validation engine_optimizers network",
    "plan": "validation bad_input stage_scale",
    "saving": "model_file checkpoint",
    "schedules": "schedules validation",
    "scores": "scores",
    "stages": "stage_scale validation",
    "stopping": "network checkpoint",
    "tables/columns": "tables encoding",
    "tables/delimited": "tables cli_tables cli_bad_files",
    "tables/encoding": "encoding table_model",
    "tables/learning": "encoding",
    "tables/model": "table_model",
    "tables/reading": "tables",
    "tables/sniffing": "sniffing",
    "tables/target": "targets",
    "tables/texts": "encoding",
    "threads": "threads network",
    "training": "network network_divergence interrupts",
}
# Operators of one of these kinds are exchanged for one another alone.
KINDS = [{"RShift", "LShift", "BitOr", "BitAnd", "BitXor"}, {"Is", "IsNot"}]


def kind(operand: str) -> int:
    return next((i for i, names in enumerate(KINDS) if operand in names), -1)


def operators() -> list[str]:
    chosen = []
    for name in sorted(operator_names()):
        what, *pair = name.split("_")
        same_kind = "Unary" in what or len(pair) != 2 or kind(pair[0]) == kind(pair[1])
        if same_kind and "Variable" not in what:  # those draw names at random
            chosen.append(name)
    return chosen


def nodes(node: Any) -> Any:
    yield node
    for child in getattr(node, "children", []):
        yield from nodes(child)


class WithoutAnnotations(ast.NodeTransformer):
    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node


def meaning(source: str) -> str:
    return ast.dump(WithoutAnnotations().visit(ast.parse(source)))


def mutants(source: str, most: int, seed: int) -> tuple[list[str], int]:
    """Up to `most` changed sources, all of different meaning, and about how many there are."""
    tree = list(nodes(get_ast(source)))
    places = []
    for name in operators():
        operator = get_operator(name)()
        count = sum(len(list(operator.mutation_positions(node))) for node in tree)
        places += [(name, i) for i in range(count)]
    random.Random(seed).shuffle(places)
    seen, found, tried = {meaning(source)}, [], 0
    for name, i in places:
        if len(found) == most:
            break
        tried += 1
        try:
            code = mutate_code(source, get_operator(name)(), i)
            dump = meaning(code)
        except (SyntaxError, AttributeError):  # the latter for `except module.Error`
            continue
        if dump not in seen:
            seen.add(dump)
            found.append(code)
    return found, round(len(places) * len(found) / max(tried, 1))


def run_tests(tree: Path, tests: str) -> int:
    """Start the tests in a child; return its process id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    options = ["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "-k", "not killed"]
    os._exit(pytest.main([*options, *(f"tests/test_{name}.py" for name in tests.split())]))


def wait(running: dict[int, Any], seconds: float) -> tuple[Any, int]:
    """What one of the children was started for, and its status; whoever takes too long is killed."""
    while True:
        for child, (started, what) in running.items():
            late = time.monotonic() - started > seconds
            if late:
                os.killpg(child, signal.SIGKILL)
            ended, status = os.waitpid(child, 0 if late else os.WNOHANG)
            if ended:
                del running[child]
                return what, status
        time.sleep(0.005)


def check(module: str, tests: str, most: int, seed: int, trees: list[Path]) -> None:
    path = f"fastbp/{module}.py"
    source = (ROOT / path).read_text()
    started = time.monotonic()
    child = run_tests(trees[0], tests)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{module}: the tests fail without a mutant: {tests}")
    seconds = 10 + 5 * (time.monotonic() - started)
    found, total = mutants(source, most, seed)
    free, running, survivors = list(trees), {}, []
    for i in range(len(found) + len(trees)):
        if not free or i >= len(found):
            if not running:
                break
            (tree, code), status = wait(running, seconds)
            free.append(tree)
            if status == 0:
                survivors.append(code)
        if i < len(found):
            tree = free.pop()
            (tree / path).write_text(found[i])
            os.utime(tree / path, (i + 1, i + 1))  # else an old .pyc of the same second is used
            running[run_tests(tree, tests)] = time.monotonic(), (tree, found[i])
    for tree in trees:
        shutil.copy(ROOT / path, tree / path)
    took = time.monotonic() - started
    killed = len(found) - len(survivors)
    print(
        f"{module}: {killed} of {len(found)} killed, {killed / max(len(found), 1):.0%}; "
        f"{total} mutants in all; {took:.0f} s",
        flush=True,
    )
    for code in survivors:
        lines = difflib.unified_diff(source.splitlines(), code.splitlines(), lineterm="", n=0)
        print(*("    " + line for line in list(lines)[2:]), sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="MODULE")
    parser.add_argument("--most", type=int, default=150, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        trees = [Path(work) / str(i) for i in range(os.cpu_count() or 1)]
        for tree in trees:
            for part in ("fastbp", "tests", "docs"):
                shutil.copytree(ROOT / part, tree / part)
            for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
                shutil.copy(ROOT / name, tree)
        for module in arguments.modules:
            check(module, TESTS[module], arguments.most, arguments.seed, trees)


if __name__ == "__main__":
    main()
