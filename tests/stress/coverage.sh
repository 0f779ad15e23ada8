#!/usr/bin/env bash
# Coverage: lines and branches of the Python code by all tests, lines of the native engine's Cython code
# by its own tests.
#
#   bash tests/stress/coverage.sh [python] [cython]             (both, if none is named)
#
# It works in a copy of the tree, whose compiled modules serve the first; for the second the baseline ones
# are built with tracing. Tracing sees the threads that Python knows, not the engine's others, and needs
# Python 3.11. PYTHON names the interpreter: the extra "test", Cython and coverage.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/fastbp" "$root/tests" "$root/benchmarks" "$root/pyproject.toml" "$root/README.md" "$work"
cd "$work"
export PYTHONPATH=$PWD OPENBLAS_NUM_THREADS=1 COVERAGE_CORE=ctrace
native=fastbp/engines/native

measure() { # what to count, tests
    cat >coveragerc
    "$python" -m coverage run --rcfile=coveragerc -m pytest -q -p no:cacheprovider "$@" || status=1
    "$python" -m coverage combine -q --rcfile=coveragerc
    "$python" -m coverage report --rcfile=coveragerc -m
}

status=0
for part in ${@:-python cython}; do
    case $part in
    python)
        measure tests --ignore=tests/test_benchmarks.py -k "not killed" <<'RC'
[run]
branch = True
parallel = True
patch = subprocess
source = fastbp
omit = */jit/kernels/*
RC
        ;;
    cython)
        find fastbp -name '*.so' -delete
        "$python" -m cython -3 -X linetrace=True $native/engine.pyx
        # What Cython takes for doubles are vectors in C, which its code for tracing cannot return.
        sed -i -e 's/TraceReturnCValue(__pyx_r, PyFloat_FromDouble,/TraceReturnCValue(0.0, PyFloat_FromDouble,/' \
            -e 's/^  __pyx_r = 0;$/  memset(\&__pyx_r, 0, sizeof __pyx_r);/' $native/engine.c
        include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
        suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
        for kind in float32 float64 bf16; do
            mkdir -p $native/baseline/$kind
            gcc -O1 -std=gnu11 -fno-strict-aliasing -w -fPIC -shared -pthread -I$native -I"$include" \
                -DCYTHON_TRACE=1 -DCYTHON_TRACE_NOGIL=1 \
                $([ $kind = float32 ] || echo -DFASTBP_"${kind^^}"=1) \
                $native/engine.c -o $native/baseline/$kind/engine"$suffix" -lm
        done
        # The heads of functions are no statements. Tracing is slow, and allocates: without the tests of
        # every number, of allocations, and of what Python does.
        FASTBP_ISA=baseline measure tests/test_engine_*.py tests/test_dropout.py tests/test_jit_functions.py \
            tests/test_native_modules.py tests/test_memory.py \
            -k "(native or memory or threads_rest) and not _ulp and not jit- and not allocation" <<RC
[run]
parallel = True
include =
    $native/*.pyx
    $native/*.pxi
plugins = Cython.Coverage

[report]
exclude_lines = ^ *cdef .*(nogil:|[(,][^()]*)$
RC
        ;;
    *) echo "unknown: $part" >&2; exit 2 ;;
    esac
done
exit $status
