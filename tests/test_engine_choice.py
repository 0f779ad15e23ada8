"""Which engine is made, of the native one which module, and of the JIT engine's code which form.

The machines are made up here.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import activations, config, losses
from fastbp.engines import Plan, create, jit, native
from fastbp.engines.jit import target as jit_target
from fastbp.engines.native import proof
from fastbp.engines.reference import ReferenceEngine
from fastbp.stages import dense

RELU = activations.get("relu")
MINE = activations.Activation("mine", function=np.sin, derivative=np.cos)
BOTH, FLOATS, NONE = ("float32", "bf16"), ("float32",), ()


def plan(*sizes: int, **options: Any) -> Plan:
    phi = options.pop("activations", (RELU,) * (len(sizes) - 2))
    return Plan(dense(sizes, phi), options.pop("loss", losses.get("huber")), **options)


@pytest.mark.parametrize(
    ("engine", "kinds", "numba", "plain", "mine", "bf16", "mine_bf16"),
    [
        ("auto", BOTH, True, "native", "native", "native", "native"),
        ("auto", BOTH, False, "native", "reference", "native", "reference"),
        ("auto", FLOATS, True, "native", "native", "reference", "reference"),
        ("auto", FLOATS, False, "native", "reference", "reference", "reference"),
        ("auto", NONE, True, "jit", "jit", "reference", "reference"),
        ("auto", NONE, False, "reference", "reference", "reference", "reference"),
        # What is asked for by name says what it lacks, if it lacks anything.
        ("native", NONE, True, *(["is not available"] * 4)),
        (
            "native",
            BOTH,
            False,
            "native",
            r"needs Numba .* \(here mine\)",
            "native",
            r"needs Numba .* \(here mine\)",
        ),
        ("jit", BOTH, False, *(["is not available"] * 4)),
        ("jit", NONE, True, "jit", "jit", "has no precision 'bf16'", "has no precision 'bf16'"),
        ("reference", BOTH, True, "reference", "reference", "reference", "reference"),
        ("reference", BOTH, False, "reference", "reference", "reference", "reference"),
    ],
)
def test_engine(
    engine: str,
    kinds: tuple[str, ...],
    numba: bool,
    plain: str,
    mine: str,
    bf16: str,
    mine_bf16: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = {kind: ("avx2", "made up") for kind in kinds}
    monkeypatch.setattr(native, "choice", lambda kind: chosen.get(kind, (None, "made up")))
    monkeypatch.setattr(jit, "available", lambda: numba)
    for module, name in ((native, "native"), (jit, "jit")):
        monkeypatch.setattr(module, "create", lambda plan, name=name: name)
    for wanted, phi, precision in (
        (plain, RELU, None),
        (mine, MINE, None),
        (bf16, RELU, "bf16"),
        (mine_bf16, MINE, "bf16"),
    ):
        asked = plan(3, 32, 2, activations=(phi,), precision=precision)
        if " " in wanted:
            with pytest.raises(ValueError, match=f"engine '{engine}' {wanted}"):
                create(asked, engine)
        else:
            made: Any = create(asked, engine)
            assert ("reference" if isinstance(made, ReferenceEngine) else made) == wanted


def test_defaults_of_a_plan() -> None:
    asked = plan(2, 1)
    assert (asked.threads, asked.seed, asked.batch_size) == (1, 0, 32)
    assert hash(asked) == hash(plan(2, 1))
    with pytest.raises(AttributeError):
        asked.seed = 1  # type: ignore[misc]


# The native engine's modules

SETS = native.INSTRUCTION_SETS
ALL = {(isa, "bf16") for isa in SETS} | {
    (isa, dtype) for isa in SETS[2:] for dtype in ("float32", "float64")
}
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Say which modules are built, what the CPU offers, and what FASTBP_ISA is."""

    def forget() -> None:
        monkeypatch.setattr(native, "_amx_fault", None)
        native.usable.cache_clear()
        native.choice.cache_clear()

    def make(
        offers: tuple[str, ...],
        isa: str = "",
        built: set[Any] = ALL,
        refuses: str = "",
        fault: str = "",
    ) -> None:
        def module(isa: str, kind: str) -> Any:
            return SimpleNamespace(
                cpu_offers=lambda isa: isa in offers,
                system_refuses=lambda isa: isa == refuses,
                Engine=lambda plan, costs=None: (isa, kind),
            )

        def disagreement(engine: Any) -> str:
            assert engine(None) == ("amx", "bf16")
            if fault == "not granted":
                raise RuntimeError(fault)
            return fault

        monkeypatch.setattr(native, "module", module)
        monkeypatch.setattr(proof, "disagreement", disagreement)
        monkeypatch.setattr(native, "built", lambda isa, kind: (isa, kind) in built)
        monkeypatch.setenv("FASTBP_ISA", isa)
        forget()

    forget()
    yield make
    monkeypatch.undo()
    forget()


BEST = "the best that is built and that this CPU offers"


@pytest.mark.parametrize(
    ("offers", "isa", "float32", "bf16"),
    [
        (SETS, "", "avx512", "amx"),
        (SETS[1:], "", "avx512", "avx512_bf16"),
        (SETS[2:], "", "avx512", "avx512"),
        (SETS[4:], "", "baseline", "baseline"),
        (SETS, " amx ", "avx512", "amx"),
        (SETS, "avx512_bf16", "avx512", "avx512_bf16"),
        (SETS, "avx512", "avx512", "avx512"),
        (SETS, "avx2", "avx2", "avx2"),
        (SETS, "baseline", "baseline", "baseline"),
    ],
)
def test_module(
    machine: Machine, offers: tuple[str, ...], isa: str, float32: str, bf16: str
) -> None:
    machine(offers, isa)
    why = "FASTBP_ISA names it" if isa else BEST
    assert native.choice() == native.choice("float64") == (float32, why)
    assert native.choice("bf16") == (bf16, why)
    assert native.available()
    assert native.reason() == why
    # bf16 is for networks that have a layer of 32 units.
    assert native.create(plan(3, 31, 2)) == (float32, "float32")
    assert native.create(plan(3, 31, 2, precision="bf16")) == (float32, "float32")
    for sizes in ((3, 32, 2), (32, 2), (3, 2, 33)):
        assert native.create(plan(*sizes, precision="bf16")) == (bf16, "bf16")
    assert native.create(plan(3, 40, 2)) == (float32, "float32")
    assert native.create(plan(3, 40, 2, dtype="float64")) == (float32, "float64")


@pytest.mark.parametrize(
    ("isa", "built", "message"),
    [
        ("avx3", ALL, "FASTBP_ISA: unknown instruction set 'avx3'; did you mean 'avx2'"),
        (
            "amx",
            ALL,
            r"FASTBP_ISA=amx: this CPU does not offer it; usable: avx512, avx2, baseline$",
        ),
        ("avx2", ALL - {("avx2", "bf16")} - {("avx2", "float32")}, "avx2: it is not built; usable"),
    ],
)
def test_a_module_that_cannot_be_had(
    machine: Machine, isa: str, built: set[Any], message: str
) -> None:
    machine(SETS[2:], isa, built)
    with pytest.raises(ValueError, match=message):
        native.choice()


def test_without_modules(machine: Machine) -> None:
    machine(SETS, built=set())
    assert native.usable() == native.usable("bf16") == ()
    isa, why = native.choice()
    assert isa is None
    assert why.startswith("no compiled module; install fastbp anew")
    assert not native.available()
    assert native.describe() == {"native engine": "not available", "why": why}
    with pytest.raises(ValueError, match="engine 'native' is not available: no compiled module"):
        create(plan(2, 1), "native")


def test_modules_of_one_kind_alone(machine: Machine) -> None:
    machine(SETS, "avx2", built=ALL - {("avx2", "bf16"), ("baseline", "bf16")})
    assert native.choice() == ("avx2", "FASTBP_ISA names it")
    why = "no compiled module for bf16 at FASTBP_ISA=avx2"
    assert native.choice("bf16") == (None, why)
    assert native.describe()["bf16"] == "not available"
    with pytest.raises(ValueError, match=f"is not available: {why}"):
        create(plan(32, 1, precision="bf16"), "native")


@pytest.mark.parametrize(
    ("offers", "refuses", "bf16"),
    [
        (SETS, "", "amx (tried out before its first use)"),
        (SETS[1:], "", "avx512_bf16"),
        (SETS[2:], "", "emulated by avx512"),
        (
            SETS[1:],
            "amx",
            "avx512_bf16 (the CPU has amx, but the operating system does not allow its use)",
        ),
    ],
)
def test_what_is_told_of_the_modules(
    machine: Machine, offers: tuple[str, ...], refuses: str, bf16: str
) -> None:
    machine(offers, refuses=refuses)
    assert native.describe() == {"native engine": "avx512", "why": BEST, "bf16": bf16}


WIDE = plan(3, 32, 2, precision="bf16")


@pytest.mark.parametrize("isa", ["", "amx"])
@pytest.mark.parametrize("fault", ["its products are wrong", "not granted"])
def test_amx_that_fails_its_trial_is_left_alone(machine: Machine, isa: str, fault: str) -> None:
    machine(SETS, isa, fault=fault)
    # Nothing is tried out, and nothing asked of the system, by looking or by float32.
    assert native.describe()["bf16"] == "amx (tried out before its first use)"
    assert native.create(plan(3, 40, 2)) == ("avx512", "float32")
    assert native.choice("bf16")[0] == "amx"
    for _ in range(2):
        assert native.create(WIDE) == ("avx512_bf16", "bf16")
        assert native.describe()["bf16"] == f"avx512_bf16 (amx is left alone: {fault})"
    assert native.choice()[0] == "avx512"


def test_amx_is_tried_out_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(SETS)
    assert native.create(WIDE) == ("amx", "bf16")
    monkeypatch.setattr(proof, "disagreement", None)
    assert native.create(WIDE) == ("amx", "bf16")
    assert native.describe()["bf16"] == "amx"


def test_amx_is_not_tried_out_where_another_set_is_named(machine: Machine) -> None:
    machine(SETS, "avx512_bf16", fault="its products are wrong")
    assert native.create(WIDE) == ("avx512_bf16", "bf16")
    assert native.describe()["bf16"] == "avx512_bf16"


class Faulty:
    """The reference engine, with a fault in one call: an element off by one, a row not written."""

    def __init__(self, plan: Plan, call: str, fault: str) -> None:
        self._engine, self._call, self._fault = ReferenceEngine(plan), call, fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _spoil(self, out: Any) -> None:
        if self._fault == "last element":
            out[-1, -1] = np.nextafter(out[-1, -1], np.float32(np.inf))
        elif self._fault == "last rows":
            out[-(len(out) % 16) :] = 0
        elif self._fault == "last columns":
            out[:, 32:] = np.nan

    def forward(self, X: Any, out: Any) -> None:
        self._engine.forward(X, out)
        if self._call == "forward" and len(out) % 16:
            self._spoil(out)

    def gradient(self, X: Any, y: Any, sample_weight: Any, out: Any) -> float:
        value = self._engine.gradient(X, y, sample_weight, out)
        if self._call == "gradient":
            self._spoil(out[0])
        return value


@pytest.mark.parametrize("fault", ["last element", "last rows", "last columns"])
@pytest.mark.parametrize(("call", "said"), [("forward", "products"), ("gradient", "gradients")])
def test_a_fault_is_found(call: str, said: str, fault: str) -> None:
    found = proof.disagreement(lambda plan: Faulty(plan, call, fault))  # type: ignore[arg-type,return-value]
    assert found == f"its {said} are wrong"


@pytest.mark.parametrize("isa", native.usable("bf16"))
def test_what_works_passes_the_trial(isa: str) -> None:
    assert proof.disagreement(native.module(isa, "bf16").Engine) == ""
    plain = native.module(isa, "bf16").Engine

    def rounded_once_more(plan: Plan) -> Any:  # weights with fewer bits than they have
        engine = plain(plan)
        keep = engine.set_parameters
        return SimpleNamespace(
            set_parameters=lambda W: keep([np.round(w / 2) * 2 for w in W]),
            forward=engine.forward,
            gradient=engine.gradient,
        )

    assert proof.disagreement(rounded_once_more) == "its products are wrong"


@pytest.mark.parametrize(
    ("offers", "numba", "engine"),
    [(SETS, True, "native"), ((), True, "jit"), ((), False, "reference")],
)
def test_what_is_told_of_the_engine(
    machine: Machine, offers: tuple[str, ...], numba: bool, engine: str, monkeypatch: Any
) -> None:
    machine(offers)
    monkeypatch.setattr(jit, "available", lambda: numba)
    assert config.describe()["engine"] == engine
    assert fastbp.__version__ == config.describe()["fastbp"]


def test_built_asks_for_the_file() -> None:
    folder = Path(native.__file__).parent
    for isa, kind in itertools.product((*SETS, "mmx"), ("float32", "float64", "bf16", "float16")):
        files = [folder / isa / kind / f"engine{suffix}" for suffix in EXTENSION_SUFFIXES]
        assert native.built(isa, kind) == any(file.exists() for file in files)


@pytest.mark.parametrize(
    ("numba", "reason"),
    [
        (SimpleNamespace(__spec__="there"), "numba is installed"),
        (None, "numba is not installed (pip install fastbp[jit])"),
    ],
)
def test_the_jit_engine_needs_numba(
    numba: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numba", numba)
    jit.available.cache_clear()
    try:
        assert jit.available() == (numba is not None)
        assert jit.reason() == jit.describe()["jit engine"] == reason
        if numba is None:
            with pytest.raises(ValueError, match="engine 'jit' is not available: numba is not"):
                create(plan(2, 1), "jit")
    finally:
        jit.available.cache_clear()


X86 = {"avx": True, "avx2": True, "fma": True, "avx512f": False, "evex512": False, "sse2": True}
AVX512 = X86 | {"avx512f": True, "evex512": True}
ARM = {"neon": True}


@pytest.mark.parametrize(
    ("isa", "triple", "features", "left", "vector_bytes", "tile_rows", "fma"),
    [
        ("", "x86_64", AVX512, set(AVX512), 64, 14, True),
        ("avx512", "x86_64", AVX512, set(AVX512), 64, 14, True),
        (" avx2 ", "x86_64", AVX512, {"avx", "avx2", "fma", "sse2"}, 32, 6, True),
        ("baseline", "x86_64", AVX512, {"sse2"}, 16, 4, False),
        ("", "x86_64", X86, {"avx", "avx2", "fma", "sse2"}, 32, 6, True),
        ("", "x86_64", {"avx2": True, "fma": True}, {"avx2", "fma"}, 32, 6, True),
        ("", "x86_64", X86 | {"fma": False}, {"avx", "avx2", "sse2"}, 16, 4, False),
        ("", "x86_64", X86 | {"avx2": False}, {"avx", "fma", "sse2"}, 16, 4, True),
        ("", "aarch64", ARM, {"neon"}, 16, 12, True),
        ("", "arm64", ARM, {"neon"}, 16, 12, True),
    ],
)
def test_what_the_jit_engine_compiles_for(
    isa: str,
    triple: str,
    features: dict[str, bool],
    left: set[str],
    vector_bytes: int,
    tile_rows: int,
    fma: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llvm = pytest.importorskip("llvmlite.binding", reason="Numba is not installed")
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: llvm.targets.FeatureMap(features))
    monkeypatch.setattr(llvm, "get_host_cpu_name", lambda: "here")
    monkeypatch.setattr(llvm, "get_process_triple", lambda: f"{triple}-system")
    monkeypatch.setenv("FASTBP_ISA", isa)
    jit_target.host.cache_clear()
    try:
        found = jit_target.host()
    finally:
        jit_target.host.cache_clear()
    signs = found.features.split(",")
    assert {sign[1:] for sign in signs if sign[0] == "+"} == left
    assert {sign[1:] for sign in signs} == set(features)
    assert found == jit_target.Target(
        f"{triple}-system", "here", found.features, vector_bytes, tile_rows, fma
    )
    assert hash(found) == hash(replace(found))
    assert isinstance(found.lanes("float32"), int)
    assert 4 * found.lanes("float32") == 8 * found.lanes("float64") == vector_bytes
    assert 4 * found.panel("float32") == 8 * found.panel("float64") == 2 * vector_bytes


def test_the_jit_engine_knows_its_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite", reason="Numba is not installed")
    monkeypatch.setenv("FASTBP_ISA", "avx3")
    jit_target.host.cache_clear()
    with pytest.raises(ValueError, match="FASTBP_ISA: unknown instruction set 'avx3'; did you"):
        jit_target.host()
