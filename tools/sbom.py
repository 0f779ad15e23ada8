"""The bill of materials of wheels and source distributions, in CycloneDX's JSON, to standard output.

    python tools/sbom.py dist/* > sbom.cdx.json

fastbp contains no other library: what it is made of is its own code, which Cython turns into C, and the
digits. What it needs at run time is what pyproject.toml says. Needs Python alone.
"""

import hashlib
import json
import sys
import tomllib
from pathlib import Path

from release import ROOT, version


def main() -> None:
    """Print the bill of the files that the command line names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    own = f"pkg:pypi/fastbp@{version()}"
    required = [r.partition(">=")[0] for r in project["project"]["dependencies"]]
    builders = [r.partition(">=")[0] for r in project["build-system"]["requires"]]
    files = [
        {
            "type": "file",
            "name": path.name,
            "hashes": [
                {"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}
            ],
        }
        for path in map(Path, sys.argv[1:])
    ]
    digits = {
        "type": "data",
        "bom-ref": "digits",
        "name": "Optical Recognition of Handwritten Digits",
        "licenses": [{"license": {"id": "CC-BY-4.0"}}],
        "externalReferences": [{"type": "website", "url": "https://doi.org/10.24432/C50P49"}],
    }
    others = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}",
            "name": name,
            "purl": f"pkg:pypi/{name}",
            "scope": scope,
        }
        for scope, names in (("required", required), ("excluded", builders))
        for name in names
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": "fastbp",
                "version": version(),
                "purl": own,
                "licenses": [{"expression": project["project"]["license"]}],
                "components": files,
            }
        },
        "components": [digits, *others],
        "dependencies": [
            {"ref": own, "dependsOn": ["digits", *(f"pkg:pypi/{name}" for name in required)]}
        ],
    }
    print(json.dumps(bill, indent=2))


if __name__ == "__main__":
    main()
