"""Nothing leaves the machine unasked: no telemetry of ours, and none of the libraries'."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

SESSION = Path(__file__).with_name("offline_session.py")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")

# Reports what the environment says at the moment when something imports the library.
_WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == LIBRARY:
            print("at import:", os.environ.get(VARIABLE), flush=True)
sys.meta_path.insert(0, Watch())
"""


def clean_environment() -> dict[str, str]:
    """The environment of a user who has set nothing: what `import twinlens` set is removed."""
    root = str(Path(__file__).resolve().parent.parent)
    silenced = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED")
    kept = {key: value for key, value in os.environ.items() if key not in silenced}
    return kept | {"PYTHONPATH": root}


@pytest.mark.parametrize(
    ("library", "variable", "code"),
    [
        (
            "onnxruntime",
            "ORT_DISABLE_TELEMETRY",
            "import twinlens; twinlens.open_bundle('builtin')",
        ),
        ("onnxruntime", "ORT_DISABLE_TELEMETRY", "import twinlens.training.export.gate"),
        (
            "onnxruntime",
            "ORT_DISABLE_TELEMETRY",
            "from twinlens.cli.main import build_app; build_app()(['check', 'builtin'])",
        ),
    ],
)
def test_telemetry_is_off_before_the_runtime_is_imported(
    library: str, variable: str, code: str
) -> None:
    script = f"LIBRARY, VARIABLE = {library!r}, {variable!r}\n{_WATCH}\n{code}\n"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=clean_environment()
    )
    assert "at import: 1" in ran.stdout, ran.stdout + ran.stderr


def test_a_choice_of_the_user_is_kept() -> None:
    code = "import os, twinlens; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    environment = clean_environment() | {"ORT_DISABLE_TELEMETRY": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert ran.stdout == "0\n"


OPENVINO = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs twinlens[openvino]"
)
_EMBED_BY_OPENVINO = """
import sys, twinlens
encoder = twinlens.open_bundle("builtin", engine="openvino", threads=1)
assert encoder.engines == {"image": "openvino", "text": "openvino"}, encoder.engines
encoder.check()
assert "openvino" in sys.modules
"""

# Whatever a later version may do: no name is looked up, so nothing gets past the listener.
_IMPORT_UNSILENCED = """
import socket, time
look_up = socket.getaddrinfo
def look_up_loopback(host, *more, **options):
    if host != "127.0.0.1":
        raise OSError(f"{host} is not looked up in a test")
    return look_up(host, *more, **options)
socket.getaddrinfo = look_up_loopback
import openvino
time.sleep(3)
"""


def run_watched(code: str, folder: Path, url: str) -> list[str]:
    """Run `code` in a new home and working folder; return the files that it left there."""
    home = folder / "home"
    home.mkdir()
    # Not the CI's variables: OpenVINO is more silent there than on a user's machine.
    kept = {k: v for k, v in clean_environment().items() if k not in ("CI", "TF_BUILD")}
    changed = {"HOME": str(home), "TWINLENS_CACHE": str(folder / "cache"), "NO_PROXY": ""}
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=home,
        env=kept | dict.fromkeys(PROXIES, url) | changed,
    )
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@OPENVINO
def test_openvino_writes_nothing_and_asks_for_nothing(
    listener: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    url, asked = listener
    assert run_watched(_EMBED_BY_OPENVINO, tmp_path, url) == []
    assert asked == []


@OPENVINO
def test_openvino_leaves_only_the_record_of_its_trial(
    listener: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    url, asked = listener
    code = "import twinlens; twinlens.open_bundle('builtin', threads=1).check()"
    assert run_watched(code, tmp_path, url) == ["cache/engines.json"]
    assert asked == []


@OPENVINO
def test_the_watch_sees_what_openvino_does_when_nobody_silences_it(
    listener: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    """Else the two tests above could not fail. Its report goes to the listener, not out."""
    if importlib.util.find_spec("openvino_telemetry") is None:
        pytest.skip("openvino has no reporter here")
    url, asked = listener
    left = run_watched(_IMPORT_UNSILENCED, tmp_path, url)
    assert any(name.startswith("home/intel/") for name in left)
    assert any(b"CONNECT" in request for request in asked)


@OPENVINO
@pytest.mark.parametrize("what", ["engine='openvino'", "precision='bf16'"])
def test_openvino_finds_no_reporter_when_it_is_imported(what: str) -> None:
    code = (
        "import sys, twinlens\n"
        f"try: twinlens.open_bundle('builtin', {what})\n"
        "except twinlens.errors.InputError: pass\n"  # a CPU without bf16 was asked by OpenVINO
        "from openvino.tools.ovc.telemetry_utils import tm\n"
        "print(tm.__name__, [n for n in sys.modules if n.startswith('openvino_telemetry.')])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=clean_environment()
    )
    assert ran.stdout == "openvino.tools.ovc.telemetry_stub []\n", ran.stdout + ran.stderr


@pytest.fixture
def listener() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy on loopback that answers nothing and keeps what it was asked for."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def count() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed: the test is over
                    return
                with connection:
                    connection.settimeout(5)
                    asked.append(connection.recv(4096)[:200])

        threading.Thread(target=count, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_a_minute_of_work_asks_a_proxy_for_nothing(
    listener: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    url, asked = listener
    environment = clean_environment() | dict.fromkeys(PROXIES, url) | {"NO_PROXY": "127.0.0.1"}
    subprocess.run([sys.executable, SESSION, tmp_path], check=True, env=environment)
    assert asked == []


@pytest.mark.slow
def test_a_minute_of_work_sends_nothing_out_of_a_network_namespace(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-n", "true"], capture_output=True).returncode:
        pytest.skip("network namespaces are not permitted here")
    script = (
        "ip link set lo up && cat /proc/net/snmp > {0}/before && {1} {2} {0} "
        "&& cat /proc/net/snmp > {0}/after"
    )
    command = script.format(tmp_path, sys.executable, SESSION)
    subprocess.run([unshare, "-n", "sh", "-c", command], check=True, env=clean_environment())
    before, after = (count_unroutable(tmp_path / name) for name in ("before", "after"))
    assert after - before == 0


def count_unroutable(snmp: Path) -> int:
    """Packets for which the kernel had no route: lookups and connections that want to go out."""
    names, values = [line.split() for line in snmp.read_text().splitlines() if line[:3] == "Ip:"]
    return int(values[names.index("OutNoRoutes")])
