#!/usr/bin/env bash
# The native engine on 64-bit ARM (NEON), emulated: a wheel is built by Debian's cross compiler, and tried
# and tested under qemu with Debian's Python for arm64.
#
#   bash tests/stress/arm.sh FOLDER [pytest's arguments ...]      (as root, on Debian)
#
# FOLDER keeps the system of arm64 for the next time, which takes seconds instead of minutes to begin.
# PYTHON names the interpreter that builds: it needs what builds the package, and build. WHEEL names a
# wheel to take instead of building one.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-python3}
folder=$(mkdir -p "$1" && realpath "$1")
shift
system=$folder/system
qemu=$(command -v qemu-aarch64-static) || { echo "needs qemu-user-static" >&2; exit 2; }

if [ ! -e "$folder/made" ]; then
    command -v mmdebstrap >/dev/null || { echo "needs mmdebstrap" >&2; exit 2; }
    rm -rf "$system"
    # The same mirror and release as this system's.
    mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
        awk '/^URIs:/ { print $2; exit } /^deb / { print $2; exit }')
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mmdebstrap --arch=arm64 --variant=extract --mode=root --skip=check/qemu \
        --include=python3,libc6,libstdc++6,libgcc-s1,zlib1g "$release" "$system" "$mirror"
    touch "$folder/made"
fi
interpreter=$(cd "$system" && ls usr/bin/python3.?? | head -n 1)
version=${interpreter##*python}

if [ -z "${WHEEL:-}" ]; then
    rm -rf "$folder/dist" "$folder/tree"
    mkdir "$folder/tree"
    git -C "$root" ls-files -z --cached --others --exclude-standard |
        tar -C "$root" --null -T - -cf - | tar -C "$folder/tree" -xf -
    CC=aarch64-linux-gnu-gcc LDSHARED="aarch64-linux-gnu-gcc -shared" CFLAGS=-fwrapv \
        _PYTHON_HOST_PLATFORM=linux-aarch64 FASTBP_REQUIRE_NATIVE=1 \
        "$python" -m build --wheel --no-isolation --outdir "$folder/dist" "$folder/tree" \
        >"$folder/build.log" 2>&1 || { tail -n 20 "$folder/build.log"; exit 1; }
    WHEEL=$(ls "$folder"/dist/*.whl)
fi

packages=$system/packages
if [ ! -d "$packages" ]; then
    platforms=()
    for old in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${old}_aarch64"); done
    "$python" -m pip install --quiet --only-binary :all: --implementation cp --python-version "$version" \
        "${platforms[@]}" --platform any --target "$packages" numpy pytest hypothesis safetensors
fi
rm -rf "$packages"/fastbp* "$system/project"
"$python" -m zipfile -e "$WHEEL" "$packages"
mkdir "$system/project"
cp -r "$root/tests" "$root/tools" "$root/pyproject.toml" "$root/README.md" "$system/project"

# qemu finds the program's libraries below -L; what it opens itself are paths of this system.
emulate() {
    (cd "$system/project" && HOME=$folder PYTHONHOME=$system/usr PYTHONPATH=$packages \
        "$qemu" -L "$system" "$system/$interpreter" -P "$@")
}
[ -n "${FASTBP_MODULES:-}" ] || emulate tools/try_wheel.py # a wheel of some modules is not whole
emulate -m pytest -q -p no:cacheprovider "${@:-tests/test_engine_contract.py}"
