"""What is installed: the package and the files to drop in, and nothing of the tests or tools."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BUILT_FROM = [
    *("pyproject.toml", "setup.py", "setup.cfg", "README.rst", "LICENSE"),
    *("wsgi_persist", "deploy", "tests", "tools"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that the build leaves nothing in the working tree."""
    copy = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def files_below(folder: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def build(source: Path, command: str, target: Path) -> Path:
    subprocess.run(
        [sys.executable, "setup.py", "-q", command, "--dist-dir", str(target)],
        cwd=source,
        check=True,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    return next(target.iterdir())


def test_wheel(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(build(source, "bdist_wheel", tmp_path)) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    deployed = {f"wsgi_persist/{name}" for name in files_below("deploy")}
    assert found == files_below("wsgi_persist") | deployed


def test_sdist(source: Path, tmp_path: Path) -> None:
    with tarfile.open(build(source, "sdist", tmp_path)) as sdist:
        found = {"/".join(name.split("/")[1:]) for name in sdist.getnames()}
    assert files_below("wsgi_persist") | files_below("deploy") <= found
    assert not {name for name in found if name.startswith(("tests", "tools"))}


def test_pip_builds_it_without_a_deprecation(source: Path, tmp_path: Path) -> None:
    """By pyproject.toml: where there is none, pip takes a way that it is about to give up."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=True)
    assert [path.suffix for path in tmp_path.iterdir()] == [".whl"]
    assert "pyproject.toml" in done.stdout
    assert "DEPRECATION" not in done.stdout + done.stderr
