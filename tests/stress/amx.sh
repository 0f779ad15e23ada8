#!/usr/bin/env bash
# The AMX code on a CPU without AMX: the tile instructions are C functions (amx.h), all else is the same.
#
#   bash tests/stress/amx.sh
#
# In a copy of the tree its module takes the place of the AVX-512 BF16 one, and the tests of bf16 are run
# on it. PYTHON names the interpreter, which needs the packages of the extra "test" and Cython.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/fastbp" "$root/tests" "$root/setup.py" "$root/pyproject.toml" "$root/README.md" \
    "$root/LICENSE" "$work"
cd "$work"
find fastbp -name '*.so' -delete
CFLAGS=-DFASTBP_EMULATE_TILES FASTBP_REQUIRE_NATIVE=1 \
    "$python" setup.py -q build_ext --inplace >build.log 2>&1 || { tail build.log; exit 1; }
mv fastbp/engines/native/amx/bf16/engine.*.so fastbp/engines/native/avx512_bf16/bf16/
PYTHONPATH=$work "$python" -m pytest -q -p no:cacheprovider tests/test_engine_bf16.py tests/test_bf16.py
