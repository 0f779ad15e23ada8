#!/usr/bin/env bash
# The native engine's tests under the sanitizers of GCC, and under valgrind.
#
#   bash tests/stress/sanitize.sh [address] [thread] [valgrind]        (all three, if none is named)
#
# The modules are built with instrumentation in a copy of the tree. PYTHON names the interpreter, which
# needs the packages of the extra "test" and Cython. TESTS are files of tests/, by default those that run
# the native engine, and those of the engines run every instruction set that is built (FASTBP_MODULES, see
# setup.py) and that this CPU offers.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
tests=${TESTS:-$(cd "$root/tests" && ls test_engine_*.py test_network.py test_checkpoint.py)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

build() { # name, flags
    mkdir "$work/$1"
    cp -r "$root/fastbp" "$root/tests" "$root/setup.py" "$root/pyproject.toml" "$root/README.md" \
        "$root/LICENSE" "$work/$1"
    cd "$work/$1"
    find fastbp -name '*.so' -delete -o -name 'engine.c' -delete
    CC=gcc CFLAGS="$2 -g1 -fno-omit-frame-pointer" LDFLAGS="$2" FASTBP_OPTIMIZE=-O1 FASTBP_REQUIRE_NATIVE=1 \
        "$python" setup.py -q build_ext --inplace >build.log 2>&1 || { tail build.log; exit 1; }
}

run_tests() { # with the environment of the caller
    PYTHONPATH=$PWD PYTHONMALLOC=malloc "$python" -m pytest -q -p no:cacheprovider \
        $(printf 'tests/%s ' $tests) "$@"
}

lib() { gcc -print-file-name="$1"; }

for tool in ${@:-address thread valgrind}; do
    echo "=== $tool"
    case $tool in
    address) # and undefined behaviour
        build address "-fsanitize=address,undefined -fno-sanitize-recover=undefined"
        export LD_PRELOAD="$(lib libasan.so) $(lib libubsan.so)" PYTHONPATH=$PWD
        export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 # Python's own leaks are many
        "$python" -m fastbp info
        UBSAN_OPTIONS=print_stacktrace=1 run_tests || status=1
        unset LD_PRELOAD
        ;;
    thread)
        for words in "" -DFASTBP_WITHOUT_FUTEX; do # Linux' to sleep on, and other systems'
            gcc -O2 -g -fsanitize=thread $words -I"$root/fastbp/engines/native" \
                "$root/tests/stress/team.c" -o "$work/team" -pthread
            TSAN_OPTIONS=halt_on_error=1:die_after_fork=0 "$work/team" || status=1
        done
        build thread "-fsanitize=thread"
        tests="test_engine_determinism.py" TSAN_OPTIONS=halt_on_error=1:report_signal_unsafe=0 \
            LD_PRELOAD=$(lib libtsan.so) OPENBLAS_NUM_THREADS=1 run_tests || status=1
        ;;
    valgrind) # it knows no AVX-512, and takes its time; only errors with the engine on the stack count
        build valgrind ""
        FASTBP_ISA=baseline PYTHONPATH=$PWD PYTHONMALLOC=malloc OPENBLAS_NUM_THREADS=1 valgrind \
            --leak-check=no --log-file=valgrind.log "$python" tests/stress/small_cases.py
        tail -n 1 valgrind.log
        if grep -B 12 -A 12 'engine\.c\|\.pxi\|tile\.h\|simd\.h\|vecmath\.h' valgrind.log; then status=1; fi
        ;;
    *) echo "unknown: $tool" >&2; exit 2 ;;
    esac
done
exit $status
