#!/usr/bin/env bash
# A wheel for Windows, tried and tested under wine.
#
#   bash tests/stress/windows.sh WHEEL WINDOWS_PYTHON [pytest's arguments ...]
#
# WINDOWS_PYTHON is a folder with python.exe, as the "embeddable package" of python.org has it. PYTHON names
# an interpreter of this system, with pip. Wine is not Windows: this shows that the modules load, that
# threads, memory and arithmetic do what they should, not how fast they are there. What wine 8 lacks for
# today's NumPy, and what was done about it: docs/building.md.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
wheel=$(realpath "$1") windows=$(realpath "$2")
shift 2
work=$(mktemp -d)
export WINEPREFIX=$work/wine WINEDEBUG=-all
trap 'wineserver -k || true; rm -rf "$work"' EXIT
cp -r "$windows" "$work/python"
version=$(basename "$(ls "$work"/python/python3??.dll)" .dll)
version=${version#python3}
rm -f "$work"/python/*._pth # it would keep the packages out
rm -f "$work"/python/_wmi.pyd # Python asks it for the system's version, where it is; wine's is unfinished
"$python" -m pip install --quiet --only-binary :all: --implementation cp --python-version "3.$version" \
    --platform win_amd64 --target "$work/packages" numpy pytest hypothesis colorama
"$python" -m zipfile -e "$wheel" "$work/packages"
mkdir "$work/project"
cp -r "$root/tests" "$root/tools" "$root/pyproject.toml" "$root/README.md" "$work/project"
cd "$work/project"
export PYTHONPATH="Z:${work//\//\\}\\packages" PYTHONUTF8=1
# Python asks Windows about its standard streams in ways that wine has for pipes only.
emulate() { wine "$work/python/python.exe" -P "$@" 2>&1 | cat; }
emulate tools/try_wheel.py
emulate -m pytest -q -p no:cacheprovider "${@:-tests/test_engine_contract.py}"
