"""scikit-learn's own tests of its MLPs, run on fastbp's in their place."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

pytest.importorskip("sklearn", reason="the estimators need scikit-learn")

EXCUSED = {
    "test_gradient": "calls the private _loss_grad_lbfgs with scikit-learn's own work arrays",
}

PLUGIN = f"""
import fastbp
import sklearn.neural_network

sklearn.neural_network.MLPClassifier = fastbp.MLPClassifier
sklearn.neural_network.MLPRegressor = fastbp.MLPRegressor

def pytest_collection_modifyitems(items):
    excused = {set(EXCUSED)!r}
    missing = excused - {{item.name for item in items}}
    assert not missing, f"excused, but not there: {{missing}}"
    items[:] = [item for item in items if item.name not in excused]
"""


def test_scikit_learns_own_tests(tmp_path):
    (tmp_path / "in_place_of_sklearn.py").write_text(PLUGIN)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    report = tmp_path / "report.xml"
    arguments = [
        "-q",
        "-p",
        "in_place_of_sklearn",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
    ]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *arguments,
            "--pyargs",
            "sklearn.neural_network.tests.test_mlp",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout[-20_000:]
    suite = ET.parse(report).getroot().find("testsuite")
    assert suite is not None
    assert int(suite.attrib["tests"]) > 50  # it did run them
