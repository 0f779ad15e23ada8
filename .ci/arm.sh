#!/usr/bin/env bash
# The native engine for 64-bit ARM (NEON): a wheel by zig cc, which comes from the package index; and where
# there are qemu and mmdebstrap, for root, the contract's tests with a Python for ARM. More: tests/stress/arm.sh.
#
#   .ci/arm.sh PYTHON FOLDER     (whose environment has what builds the package; FOLDER is for what is made)
set -euo pipefail
export FASTBP_MODULES="baseline/float32 baseline/float64"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mapfile -t wheels < <(cd "$root" && "$1" -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["wheels"], sep="\n")')
"$1" -m pip install --quiet "${wheels[@]}"
PYTHON=$1 bash "$root/tests/stress/wheels.sh" "$2" manylinux2014_aarch64
if [ "$(id -u)" != 0 ] || ! command -v qemu-aarch64-static mmdebstrap >/dev/null; then
    echo "left out: tests of it need root, qemu-user-static and mmdebstrap"
    exit 0
fi
PYTHON=$1 WHEEL=$(echo "$2"/*.whl) bash "$root/tests/stress/arm.sh" "$2" tests/test_engine_contract.py \
    -k "native and not bf16"
