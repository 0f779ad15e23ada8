"""The release checklist, as far as a program can check it; docs/releasing.md has the rest.

    python tools/release.py                     the sources, between releases
    python tools/release.py --tagged            the sources, where the tag of a release is checked out
    python tools/release.py --wheels *.whl      wheels that were built

Says what is wrong, one line each, and ends with 1 if anything is. Needs Python alone.
"""

import argparse
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_BYTES = 5_000_000  # of a wheel
FILES = ["LICENSE", "SECURITY.md", "CODE_OF_CONDUCT.md", "CITATION.cff", "CONTRIBUTING.md"]
ISA = {
    "x86_64": 4,
    "amd64": 4,
    "aarch64": 1,
    "arm64": 1,
}  # instruction sets of a platform, at least


def version() -> str:
    """The version, from the one place that says it."""
    text = (ROOT / "fastbp" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)[0]


def check_sources(tagged: bool) -> list[str]:
    """What is wrong with the sources; with `tagged`, as those of a release."""
    wrong = [f"{name} is missing" for name in FILES if not (ROOT / name).is_file()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    now = version()
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", now):
        wrong.append(f"fastbp.__version__ is {now!r}: not a version of the form 1.2.3 or 1.2.3rc1")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if tagged and f"## [{now}]" not in changes:
        wrong.append(f"CHANGELOG.md has no section [{now}]")
    if not tagged and "## [Unreleased]" not in changes and f"## [{now}]" not in changes:
        wrong.append("CHANGELOG.md has no section [Unreleased]")
    cited = re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    if cited != [now]:
        wrong.append(f"CITATION.cff says version {cited}, fastbp.__version__ {now}")
    wrong += [
        f"license-files: {name} is missing"
        for name in project["license-files"]
        if not (ROOT / name).is_file()
    ]
    for name, requirements in project["optional-dependencies"].items():
        for requirement in requirements:
            if requirement.startswith("scikit-learn") and "<" not in requirement:
                wrong.append(
                    f"extra {name}: scikit-learn has no upper bound (estimators/private.py)"
                )
    if tagged:
        if "urls" not in project:
            wrong.append("pyproject.toml has no [project.urls]: where the sources and issues are")
        tags = _git("tag", "--points-at", "HEAD").split()
        if f"v{now}" not in tags:
            wrong.append(f"HEAD is not tagged v{now}; its tags are {tags}")
        if _git("status", "--porcelain"):
            wrong.append("there are changes that are not committed")
    return wrong


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def check_wheel(path: Path) -> list[str]:
    """What is wrong with a wheel."""
    wrong = []
    name, built, python, abi, platform = path.stem.split("-")
    machine = next((m for m in ISA if platform.endswith(m)), None)
    names = zipfile.ZipFile(path).namelist()
    modules = [n for n in names if n.endswith((".so", ".pyd"))]
    sets = {module.split("/")[3] for module in modules}
    if (name, built) != ("fastbp", version()):
        wrong.append(f"it is {name} {built}, not fastbp {version()}")
    if abi not in (python, python + "t"):
        wrong.append(f"its tags are {python}-{abi}, not those of one version of Python")
    if machine is None or len(sets) < ISA[machine]:
        wrong.append(f"it has modules for {sorted(sets)} only")
    if path.stat().st_size > MOST_BYTES:
        wrong.append(f"it has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    if sum("/licenses/" in n for n in names) < 2:
        wrong.append("it lacks the licence files")
    if sources := [n for n in names if n.endswith((".c", ".o", ".so.new"))]:
        wrong.append(f"it has products of the build in it: {sources}")
    return [f"{path.name}: {each}" for each in wrong]


def main() -> int:
    """Check what the command line asks for."""
    parser = argparse.ArgumentParser(description="Check a release.")
    parser.add_argument("--tagged", action="store_true", help="the sources are those of a release")
    parser.add_argument("--wheels", nargs="+", type=Path, help="check these wheels instead")
    options = parser.parse_args()
    if options.wheels:
        wrong = [each for path in options.wheels for each in check_wheel(path)]
    else:
        wrong = check_sources(options.tagged)
    print(*wrong or ["nothing is wrong"], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
