#!/usr/bin/env bash
# The AMX code on a CPU without AMX: the tile instructions are C functions (amx.h), all else is the same.
#
#   bash tests/stress/amx.sh
#
# In a copy of the tree the module is built for the best instruction set of this CPU, of which it takes the
# place, and the tests of bf16 are run on it. PYTHON names the interpreter, which needs the packages of the
# extra "test" and Cython.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/fastbp" "$root/tests" "$root/setup.py" "$root/pyproject.toml" "$root/README.md" \
    "$root/LICENSE" "$work"
cd "$work"
find fastbp -name '*.so' -delete
cpu_has() { grep -qs -m 1 -w "$1" /proc/cpuinfo; }
if cpu_has avx512_bf16; then # with the real instructions beside the tiles
    module=amx/bf16 place=avx512_bf16/bf16
elif cpu_has avx2 && cpu_has fma; then
    module=avx2/bf16 place=avx2/bf16
else
    module=baseline/bf16 place=baseline/bf16
fi
FASTBP_MODULES="baseline/float32 $module" CFLAGS="-DFASTBP_EMULATE_TILES -Wno-psabi" FASTBP_OPTIMIZE=-O1 FASTBP_REQUIRE_NATIVE=1 \
    "$python" setup.py -q build_ext --inplace >build.log 2>&1 || { tail build.log; exit 1; }
if [ $module != $place ]; then
    mkdir -p fastbp/engines/native/$place
    mv fastbp/engines/native/$module/engine.*.so fastbp/engines/native/$place
fi
PYTHONPATH=$work "$python" -m pytest -q -p no:cacheprovider -k "not reference" \
    tests/test_engine_bf16.py tests/test_stage_bf16.py tests/test_bf16.py
