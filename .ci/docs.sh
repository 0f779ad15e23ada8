#!/usr/bin/env bash
# Builds the site into docs/_build/html; every warning is an error. Checks that its links lead somewhere and
# that its pages fetch nothing.
#
#   .ci/docs.sh [PYTHON]     (of an environment with fastbp[docs]; python3)
set -euo pipefail
python=${1:-python3}
docs=$(cd "$(dirname "${BASH_SOURCE[0]}")/../docs" && pwd)
export MPLBACKEND=agg
"$python" -P -m sphinx -b html -W --keep-going -q -j auto "$docs" "$docs/_build/html"
"$python" -P "$docs/_ext/check_site.py" "$docs/_build/html"
