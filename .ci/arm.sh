#!/usr/bin/env bash
# 64-bit ARM, emulated, where the tools for it are: a wheel, its trial, and a few tests of the engine.
#
#   .ci/arm.sh PYTHON FOLDER     (whose environment has what builds the package; FOLDER is made)
set -euo pipefail
for tool in aarch64-linux-gnu-gcc qemu-aarch64-static mmdebstrap; do
    if ! command -v "$tool" >/dev/null; then
        echo "left out: there is no $tool here"
        exit 0
    fi
done
"$1" -m pip install --quiet "build>=1.2"
PYTHON=$1 FASTBP_OPTIMIZE=-O1 bash tests/stress/arm.sh "$2" tests/test_stage_scale.py
