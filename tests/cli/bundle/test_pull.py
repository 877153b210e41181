"""`twinlens pull`, and sources wherever a bundle may stand, through a hub and without torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import onnx
import pytest

from tests.bundle.pull.hub import COMMIT, ModelHub, serve_hub
from tests.bundle.pull.terminal import Terminal
from tests.bundle.pull.tiny_model import make_files, write_folder

Run = Callable[..., tuple[int, str, str]]

NAME = "tiny/clip"
SOURCE = f"hf:{NAME}"
TOWER = f"{NAME}/onnx/vision_model.onnx"
FILES = make_files(ballast=2_500_000)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ModelHub]:
    with serve_hub(tmp_path / "repositories") as served:
        served.add(NAME, FILES)
        yield served


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ModelHub]:
    """Another hub, which nobody should ask."""
    with serve_hub(tmp_path / "others") as served:
        yield served


@pytest.fixture
def terminal(hub: ModelHub, tmp_path: Path) -> Terminal:
    return Terminal(tmp_path, hub.url)


def list_files(folder: Path) -> list[str]:
    """Return what a failed pull left behind; locks do not count, nor what the client keeps."""
    if not folder.exists():
        return []
    found = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    return sorted(str(path) for path in found if "locks" not in path.parts)


def only_line(ran: subprocess.CompletedProcess[str]) -> str:
    """Return the error of a command that failed as a user's mistake does."""
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert ran.stdout == ""
    errors = [line for line in ran.stderr.splitlines() if line.startswith("error:")]
    assert errors == ran.stderr.splitlines()[-1:], ran.stderr
    return errors[0]


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.02)


def is_ready(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/readyz").status_code == 200
    return False


def test_a_pulled_bundle_is_checked_and_says_where_it_comes_from(
    hub: ModelHub, terminal: Terminal, tmp_path: Path
) -> None:
    out = tmp_path / "clip"
    ran = terminal.run("pull", SOURCE, "-o", out, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["bundle"] == str(out)
    assert "pytorch_model.bin" not in hub.fetched()
    checked = terminal.run("check", out)
    assert checked.returncode == 0, checked.stderr
    manifest = json.loads((out / "bundle.json").read_text())
    told = json.dumps([manifest["provenance"], manifest["extensions"]])
    for part in (NAME, COMMIT, "mit", f"{hub.url}/{NAME}"):
        assert part in told


def test_a_source_is_pulled_once_and_opens_without_the_hub_afterwards(
    hub: ModelHub, terminal: Terminal, tmp_path: Path
) -> None:
    embed = ("embed", "-t", "red", "--bundle", SOURCE, "--json")
    first = terminal.run(*embed)
    assert first.returncode == 0, first.stderr
    count = len(hub.asked)
    assert terminal.run("info", SOURCE).returncode == 0
    assert len(hub.asked) == count
    hub.close()
    (tmp_path / "hub_home").rename(tmp_path / "moved")
    again = terminal.run(*embed)
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
    checked = terminal.run("check", SOURCE)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_library_opens_a_source_without_torch(terminal: Terminal) -> None:
    ran = terminal.run_python(
        "import sys, twinlens\n"
        f"encoder = twinlens.open_bundle({SOURCE!r})\n"
        "print(encoder.embed_texts(['red']).shape, encoder.check().count > 0)\n"
        "print({'torch', 'transformers'} & set(sys.modules))\n"
    )
    assert ran.stdout == "(1, 16) True\nset()\n", ran.stderr


def test_what_needs_no_hub_never_imports_its_client(terminal: Terminal) -> None:
    ran = terminal.run_python(
        "import sys, twinlens\n"
        "twinlens.open_bundle('builtin')\n"
        "from twinlens.cli.main import build_app\n"
        "try: build_app()(['pull', '--help'])\n"
        "except SystemExit: pass\n"
        "print('huggingface_hub' in sys.modules)\n"
    )
    assert ran.stdout.splitlines()[-1] == "False", ran.stderr


def test_a_folder_of_a_model_is_a_source(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINLENS_CACHE", str(tmp_path / "cache"))
    folder = write_folder(tmp_path / "model", make_files())
    code, first, told = cli("embed", "-t", "red", "--bundle", folder, "--json")
    assert (code, told) == (0, "")
    assert len(list((tmp_path / "cache" / "models").glob("model-*"))) == 1
    (folder / "config.json").touch()
    assert cli("embed", "-t", "red", "-b", folder, "--json") == (0, first, "")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("hf:tiny/none", "hf:tiny/none does not exist on"),
        (f"{SOURCE}@v9", "revision 'v9' of hf:tiny/clip does not exist"),
    ],
)
def test_a_source_that_is_missing_is_one_line_and_leaves_nothing(
    terminal: Terminal, tmp_path: Path, source: str, said: str
) -> None:
    options = ("-o", tmp_path / "out") if "@" in source else ()
    assert said in only_line(terminal.run("pull", source, *options))
    assert not (tmp_path / "out").exists()
    assert list_files(terminal.cache) == []


def test_a_bundle_and_an_empty_folder_are_no_sources(
    cli: Run, toy_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for source, said in (
        (toy_bundle, "is a bundle already"),
        ("nowhere", "is neither a folder nor a source"),
        (tmp_path / "empty", "holds no model: neither ONNX files, nor weights with a config.json"),
    ):
        code, printed, told = cli("pull", source, "-o", tmp_path / "out")
        assert (code, printed) == (2, "")
        assert f"error: '{source}' {said}" in told
    assert "is not hf:OWNER/NAME[@REVISION]" in cli("pull", "hf:clip")[2]
    assert cli("pull", "hf:a/b", "-o", tmp_path)[0] == 2  # it exists: nobody is asked
    assert cli("pull", "hf:a/b@v1", "--revision", "v2")[2].startswith("error: --revision 'v2' does")


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_is_one_line_and_leaves_nothing(
    hub: ModelHub, terminal: Terminal, status: int
) -> None:
    hub.faults.gated[NAME] = status
    command = ("pull", SOURCE) if status == 401 else ("embed", "-t", "a", "-b", SOURCE)
    assert f"is gated ({status})" in only_line(terminal.run(*command))
    assert list_files(terminal.cache) == []


def test_a_pull_that_was_killed_goes_on_where_it_was(
    hub: ModelHub, terminal: Terminal, tmp_path: Path
) -> None:
    hub.faults.stalled[TOWER] = 1_250_000
    out = tmp_path / "bundles" / "clip"
    killed = terminal.start("pull", SOURCE, "-o", out)
    blobs = tmp_path / "hub_home" / "hub" / "models--tiny--clip" / "blobs"
    wait_for(lambda: any(p.stat().st_size == 1_250_000 for p in blobs.glob("*.incomplete")))
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list_files(out.parent) == []
    hub.faults.stalled.clear()
    hub.quiet.set()
    hub.asked.clear()
    ran = terminal.run("pull", SOURCE, "-o", out)
    assert ran.returncode == 0, ran.stderr
    assert [a.range for a in hub.asked if a.path == f"/store/{TOWER}"] == ["bytes=1250000-"]
    assert [p.name for p in blobs.glob("*.incomplete")] == []
    assert terminal.run("check", out).returncode == 0


def test_wrong_content_is_one_line_and_leaves_nothing(
    hub: ModelHub, terminal: Terminal, tmp_path: Path
) -> None:
    hub.faults.replaced[TOWER] = FILES["onnx/vision_model.onnx"][:-1] + b"?"
    line = only_line(terminal.run("pull", SOURCE, "-o", tmp_path / "out"))
    assert "'onnx/vision_model.onnx' of hf:tiny/clip does not have the SHA-256" in line
    assert not (tmp_path / "out").exists()
    hub.faults.replaced.clear()
    assert terminal.run("pull", SOURCE, "-o", tmp_path / "out").returncode == 0


def test_a_model_of_pickles_only_is_one_line_and_no_pickle_travels(
    hub: ModelHub, terminal: Terminal, tmp_path: Path
) -> None:
    files = {path: content for path, content in FILES.items() if not path.endswith(".onnx")}
    hub.add("tiny/pickles", files)
    line = only_line(terminal.run("pull", "hf:tiny/pickles", "-o", tmp_path / "out"))
    assert "hf:tiny/pickles holds only pickles (pytorch_model.bin)" in line
    assert hub.fetched() == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["../../secret", "/etc/passwd", "missing.data"])
def test_weights_outside_of_the_repository_are_one_line(
    cli: Run, tmp_path: Path, where: str
) -> None:
    graph = onnx.load_model_from_string(FILES["onnx/text_model.onnx"])
    weight = graph.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=where)
    folder = tmp_path / "far"
    write_folder(folder, FILES | {"onnx/text_model.onnx": graph.SerializeToString()})
    code, printed, told = cli("pull", folder, "-o", tmp_path / "out")
    assert (code, printed) == (2, "")
    assert where in told and "onnx/text_model.onnx" in told and told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["far"]


def test_a_hub_that_is_gone_is_one_line(hub: ModelHub, terminal: Terminal) -> None:
    hub.close()
    assert f"{hub.url} could not be reached for {SOURCE}" in only_line(terminal.run("pull", SOURCE))
    assert list_files(terminal.cache) == []


def test_offline_the_cached_files_are_enough(
    hub: ModelHub, terminal: Terminal, tmp_path: Path
) -> None:
    offline = Terminal(tmp_path, hub.url, {"HF_HUB_OFFLINE": "1"})
    line = only_line(offline.run("pull", SOURCE, "-o", tmp_path / "out"))
    assert "is not in the cache, and HF_HUB_OFFLINE is set" in line
    assert hub.asked == []
    assert terminal.run("pull", SOURCE, "-o", tmp_path / "first").returncode == 0
    count = len(hub.asked)
    ran = offline.run("pull", SOURCE, "-o", tmp_path / "out")
    assert ran.returncode == 0, ran.stderr
    assert len(hub.asked) == count
    revisions = {
        json.loads((tmp_path / name / "bundle.json").read_text())["revision"]
        for name in ("first", "out")
    }
    assert len(revisions) == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(terminal: Terminal, tmp_path: Path) -> None:
    """The kernel's own error: what arrives is written to /dev/full."""
    blobs = tmp_path / "hub_home" / "hub" / "models--tiny--clip" / "blobs"
    blobs.mkdir(parents=True)
    digest = hashlib.sha256(FILES["onnx/vision_model.onnx"]).hexdigest()
    (blobs / f"{digest}.incomplete").symlink_to("/dev/full")
    line = only_line(terminal.run("pull", SOURCE))
    assert "no space left on the disk" in line and "TWINLENS_CACHE" in line
    assert list_files(terminal.cache) == []


def test_a_place_that_cannot_be_written_to_is_one_line(terminal: Terminal, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("a file in its place")
    for variable in ("TWINLENS_CACHE", "HF_HOME"):
        user = Terminal(tmp_path, terminal.endpoint, {variable: str(taken)})
        line = only_line(user.run("embed", "-t", "a", "-b", SOURCE))
        assert f"{taken}" in line and "cannot be used (" in line and f"point {variable}" in line
    line = only_line(terminal.run("pull", SOURCE, "-o", taken / "out"))
    assert f"{taken} cannot be used (" in line and "point -o" in line


def test_two_processes_pull_once(hub: ModelHub, terminal: Terminal) -> None:
    hub.faults.stalled[TOWER] = 1_250_000
    first = terminal.start("embed", "-t", "red", "-b", SOURCE)
    wait_for(lambda: any(a.path == f"/store/{TOWER}" for a in hub.asked))
    second = terminal.start("embed", "-t", "red", "-b", SOURCE)
    assert second.stderr is not None
    assert second.stderr.readline() == f"another process pulls {SOURCE}; waiting for it\n"
    hub.faults.stalled.clear()
    hub.quiet.set()
    outputs = [process.communicate()[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0]
    assert outputs[0] == outputs[1] != ""
    assert len([a for a in hub.asked if a.path.startswith("/api/")]) == 1


@pytest.mark.slow
def test_pulling_anew_asks_the_hub_for_its_revision_again(
    hub: ModelHub, terminal: Terminal
) -> None:
    first = terminal.run("pull", SOURCE, "--json")
    assert first.returncode == 0, first.stderr
    hub.add(NAME, make_files(ballast=1))
    hub.commit = "d" * 40
    kept = terminal.run("info", SOURCE, "--json")
    assert json.loads(kept.stdout)["revision"] == json.loads(first.stdout)["revision"]
    anew = terminal.run("pull", SOURCE, "--json")
    assert anew.returncode == 0, anew.stderr
    assert json.loads(anew.stdout)["bundle"] != json.loads(first.stdout)["bundle"]
    now = terminal.run("info", SOURCE, "--json")
    assert json.loads(now.stdout)["revision"] == json.loads(anew.stdout)["revision"]
    pinned = terminal.run("info", f"{SOURCE}@{COMMIT}", "--json")
    assert json.loads(pinned.stdout)["revision"] == json.loads(first.stdout)["revision"]


def test_a_pull_asks_the_hub_for_nothing_but_the_model(
    hub: ModelHub, tmp_path: Path, other: ModelHub
) -> None:
    """Whatever else is contacted would ask the proxy, which is another hub here."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), other.url)
    apart = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    ran = Terminal(tmp_path, hub.url, proxies | apart).run("pull", SOURCE)
    assert ran.returncode == 0, ran.stderr
    assert other.asked == []
    assert {a.path.partition("/resolve/")[0] for a in hub.asked} <= {
        f"/api/models/{NAME}",
        f"/{NAME}",
        f"/store/{TOWER}",
    }
    for asked in hub.asked:
        words = {part.strip().partition("/")[0] for part in asked.agent.split(";")}
        assert words <= {"unknown", "hf_hub", "python"}


def test_a_server_pulls_what_it_serves_and_what_an_admin_names(
    hub: ModelHub, terminal: Terminal, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("admin:a-secret-of-the-admin\n")
    arguments = (SOURCE, "--port", "0", "--keys", keys, "--allow-pull", "--drain-notice", "0")
    server = terminal.start("serve", *arguments)
    try:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        url = next(found[1] for line in lines if (found := re.search(r"(http://\S+)  \(", line)))
        wait_for(lambda: is_ready(url))
        headers = {"authorization": "Bearer a-secret-of-the-admin"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
            answer = client.post("/embed", json={"texts": ["red"]}).json()
            assert answer["model"] == "clip"
            count = len(hub.asked)
            named = client.put("/v1/models/again", json={"bundle": f"{SOURCE}@{COMMIT}"})
            assert (named.status_code, len(hub.asked)) == (200, count)
            assert named.json()["revision"] == answer["revision"]
            missing = client.put("/v1/models/x", json={"bundle": "hf:tiny/none"})
            assert missing.status_code == 404
            assert "hf:tiny/none does not exist on" in missing.json()["error"]["message"]
            hub.close()
            gone = client.put("/v1/models/x", json={"bundle": "hf:tiny/other"})
            assert (gone.status_code, gone.json()["error"]["code"]) == (502, "unreachable")
    finally:
        server.terminate()
        server.communicate()


@pytest.mark.slow
def test_an_index_is_built_with_a_source(
    terminal: Terminal, tmp_path: Path, squares: dict[str, bytes]
) -> None:
    corpus = write_folder(tmp_path / "corpus", {f"{c}.png": b for c, b in squares.items()})
    index = tmp_path / "photos.index"
    built = terminal.run("index", "build", corpus, "-o", index, "--bundle", SOURCE)
    assert built.returncode == 0, built.stderr
    found = terminal.run("search", index, "green", "-k", "1", "--json")
    assert found.returncode == 0, found.stderr
    assert "green" in json.loads(found.stdout)[0]["id"]


@pytest.mark.slow
def test_nothing_of_a_pull_is_left_in_temporary_folders(terminal: Terminal, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    quiet = Terminal(tmp_path, terminal.endpoint, {"TMPDIR": str(scratch)})
    assert quiet.run("pull", SOURCE, "-o", tmp_path / "out").returncode == 0
    assert list(scratch.iterdir()) == []
