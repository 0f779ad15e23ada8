#!/usr/bin/env bash
# Tests where there is neither scikit-learn, Numba, pandas nor pyarrow: what needs them is skipped.
#
#   .ci/without_extras.sh WHEEL FOLDER     (FOLDER is made for the environment)
set -euo pipefail
python3 -m venv "$2"
"$2/bin/python" -m pip install --quiet "$1" "pytest>=8" "hypothesis>=6.100"
for absent in sklearn numba scipy joblib pandas pyarrow; do
    if "$2/bin/python" -c "import $absent" 2>/dev/null; then
        echo "$absent is there after all" >&2
        exit 1
    fi
done
"$2/bin/fastbp" train --quiet
"$2/bin/pytest" -q -p no:cacheprovider tests/test_network.py tests/test_network_inputs.py \
    tests/test_checkpoint.py tests/test_model_file.py tests/test_data.py tests/test_no_import.py
