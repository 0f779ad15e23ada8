#!/usr/bin/env bash
# The AMX code, its tile instructions emulated in C.
#
#   .ci/amx.sh PYTHON     (whose environment has the extra "test" and what builds the package)
set -euo pipefail
PYTHON=$1 bash tests/stress/amx.sh
