#!/usr/bin/env bash
# The Python layer on the simplest instruction set. The engines' own tests run on every set of this CPU.
#
#   .ci/instruction_sets.sh PYTHON     (whose environment has fastbp and the extra "test")
set -euo pipefail
FASTBP_ISA=baseline "$1" -P -m pytest -q -p no:cacheprovider tests/test_network.py tests/test_bf16.py \
    tests/test_checkpoint.py tests/test_estimators_extras.py
