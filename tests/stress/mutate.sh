#!/usr/bin/env bash
# Mutation testing: change one thing in a module at a time, and see whether its tests notice.
#
#   bash tests/stress/mutate.sh MODULE 'TESTS'    e.g. fastbp/_safetensors.py tests/test_model_file.py
#
# It works in a copy of the tree. PYTHON names an interpreter that has mutmut below version 3.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$root/fastbp" "$root/tests" "$root/pyproject.toml" "$work"
cd "$work"
export PYTHONPATH=$work
"$python" -m mutmut run --no-progress --simple-output --paths-to-mutate "$1" --tests-dir tests \
    --runner "$python -m pytest -x -q -p no:cacheprovider --assert=plain -k 'not killed' $2" || true
"$python" -m mutmut results
for id in $("$python" -m mutmut result-ids survived); do
    "$python" -m mutmut show "$id"
done
