#!/usr/bin/env bash
# Tests with the oldest versions that pyproject.toml admits: each ">=" of the dependencies and of the
# extras that users install is taken for "==".
#
#   .ci/oldest.sh WHEEL FOLDER     (FOLDER is made for the environment)
set -euo pipefail
python3 -m venv "$2"
mapfile -t oldest < <(python3 - <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
wanted = [*project["dependencies"], *extras["jit"], *extras["tables"], *extras["sklearn"]]
named = {requirement.partition(">=")[0] for requirement in wanted}
# What only the tests need comes after: its own bound counts where users have none.
# Those of the callbacks and of clusters are large, and have tests with their newest versions.
large = [*extras["callbacks"], *extras["mpi"], "distributed", "ray"]
named |= {requirement.partition(">=")[0] for requirement in large} - {"tqdm", "rich"}
wanted += [r for r in extras["test"] if r.partition(">=")[0] not in named]
for requirement in wanted:
    name, _, version = requirement.partition(",")[0].partition(">=")
    # the newest patch: what a first release got wrong is mended there
    print(f"{name}=={version}{'.0' if '.' not in version else ''}.*")
PYTHON
)
echo "${oldest[@]}"
# No source is compiled for this: versions older than this Python have no wheels.
if ! "$2/bin/python" -m pip install --quiet --only-binary :all: "$1" "${oldest[@]}"; then
    if python3 -c 'import sys; sys.exit(sys.version_info[:2] > (3, 11))'; then exit 1; fi
    echo "left out: not all of these versions have wheels for this Python; Python 3.11 has them"
    exit 0
fi
"$2/bin/pytest" -q -p no:cacheprovider tests/test_estimators_extras.py \
    tests/test_jit_functions.py tests/test_network.py tests/test_tables.py tests/test_encoding.py \
    tests/test_model_file.py tests/test_callbacks.py tests/test_plots.py \
    tests/test_report.py
