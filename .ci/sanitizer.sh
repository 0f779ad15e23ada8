#!/usr/bin/env bash
# The native engine's simplest modules under AddressSanitizer and UndefinedBehaviorSanitizer.
#
#   .ci/sanitizer.sh PYTHON     (whose environment has the extra "test" and what builds the package)
set -euo pipefail
probe=$(mktemp -d)
trap 'rm -rf "$probe"' EXIT
echo 'int main(void) { return 0; }' >"$probe/probe.c"
flags="-fsanitize=address,undefined"
if ! gcc $flags "$probe/probe.c" -o "$probe/probe" 2>/dev/null || ! "$probe/probe"; then
    echo "left out: there is no gcc here with $flags"
    exit 0
fi
export PYTHON=$1 FASTBP_MODULES="baseline/float32 baseline/float64"
# What threads may change is the thread sanitizer's to find.
TESTS="test_stage_scale.py test_stage_sparse.py" PYTEST_ADDOPTS="-k 'not threads'" \
    bash tests/stress/sanitize.sh address
