#!/usr/bin/env bash
# The AMX code on a CPU without AMX: the tile instructions are C functions (amx.h), all else is the same.
#
#   bash tests/stress/amx.sh
#
# The module is built under the name of the AVX-512 BF16 one, in a copy of the tree, and the tests of bf16
# are run on it. PYTHON names the interpreter, which needs the packages of the extra "test" and Cython.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/fastbp" "$root/tests" "$root/setup.py" "$root/pyproject.toml" "$root/README.md" \
    "$root/LICENSE" "$work"
cd "$work"
find fastbp -name '*.so' -delete
FASTBP_REQUIRE_NATIVE=1 "$python" setup.py -q build_ext --inplace >build.log 2>&1 ||
    { tail build.log; exit 1; }
module=$(ls fastbp/engines/native/avx512_bf16/bf16/engine.*.so)
flags=$(grep -o -- '-mavx2 .*-mamx-bf16' build.log | head -n 1)
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
gcc -shared -fPIC -O3 -std=gnu11 -fno-math-errno -fno-trapping-math -fno-strict-aliasing \
    $flags -DFASTBP_BF16=1 -DFASTBP_EMULATE_TILES -Ifastbp/engines/native -I"$include" \
    fastbp/engines/native/engine.c -o "$module" -lm -pthread
PYTHONPATH=$work "$python" -m pytest -q -p no:cacheprovider tests/test_engine_bf16.py tests/test_bf16.py
