"""The tools for language models, called by the protocol's own client: in memory, pipe, HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twinlens.bundle.encoder import open_bundle
from twinlens.cli.serving.mcp import read_folders
from twinlens.cli.serving.mcp_tools import Tools, build_server
from twinlens.errors import InputError
from twinlens.index.collection import Collection

mcp = pytest.importorskip("mcp", reason="the client is the protocol's own SDK: pip install mcp")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Run = Callable[..., tuple[int, str, str]]
NAMES = {"search_images", "similar", "classify_image", "embed", "collection_info"}


@pytest.fixture
def built(cli: Run, pictures: dict[str, Path], toy_bundle: Path, tmp_path: Path) -> Path:
    """Index the squares of the fixture into a collection."""
    folder = next(iter(pictures.values())).parent
    out = tmp_path / "squares.index"
    code, _, err = cli("index", "build", folder, "-o", out, "-b", toy_bundle)
    assert code == 0, err
    return out


@pytest.fixture
def tools(built: Path, toy_bundle: Path) -> Iterator[Tools]:
    opened = Tools({"squares": Collection(built)}, lambda source: open_bundle(toy_bundle))
    yield opened
    opened.close()


def ask(server: Any, scenario: Callable[[Any], Awaitable[None]]) -> None:
    """Run a scenario with the SDK's client connected to a server."""
    from mcp.client.client import Client

    async def run() -> None:
        async with Client(server) as client:
            await scenario(client)

    asyncio.run(run())


def read_texts(result: Any) -> list[Any]:
    return [json.loads(part.text) for part in result.content if part.type == "text"]


def test_the_client_finds_the_tools_and_their_arguments(tools: Tools) -> None:
    async def scenario(client: Any) -> None:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == NAMES
        search = listed["search_images"]
        assert search.input_schema["required"] == ["query"]
        assert "what `query` says" in (search.description or "")

    ask(build_server(tools), scenario)


def test_a_search_answers_hits_and_their_thumbnails(tools: Tools) -> None:
    async def scenario(client: Any) -> None:
        result = await client.call_tool("search_images", {"query": "red", "k": 2})
        assert not result.is_error
        hits = read_texts(result)
        assert len(hits) == 2
        assert hits[0]["score"] >= hits[1]["score"]
        images = [part for part in result.content if part.type == "image"]
        assert len(images) == 2
        assert base64.b64decode(images[0].data)[8:12] == b"WEBP"
        alike = await client.call_tool("similar", {"id": hits[0]["id"], "thumbnails": False})
        assert hits[0]["id"] not in [hit["id"] for hit in read_texts(alike)]

    ask(build_server(tools), scenario)


def test_an_image_is_classified_by_id_path_or_base64(
    tools: Tools, pictures: dict[str, Path]
) -> None:
    path = pictures["red"]
    raw = base64.b64encode(path.read_bytes()).decode()
    found = tools.search_images("red", thumbnails=False)
    by_id = next(hit["id"] for hit in found if Path(hit["path"]).name == path.name)

    async def scenario(client: Any) -> None:
        answers = []
        for image in (by_id, str(path), raw, f"data:image/png;base64,{raw}"):
            result = await client.call_tool(
                "classify_image", {"image": image, "classes": ["red", "blue"]}
            )
            answers += read_texts(result)
        assert len(answers) == 4
        assert all(answer == answers[0] for answer in answers)
        assert sum(answers[0].values()) == pytest.approx(1, abs=1e-4)

    ask(build_server(tools), scenario)


def test_what_a_caller_does_wrong_is_a_sentence(tools: Tools) -> None:
    async def scenario(client: Any) -> None:
        for name, arguments, message in (
            ("search_images", {"query": " "}, "query is empty"),
            ("search_images", {"query": "red", "k": 0}, "between 1 and 100"),
            ("search_images", {"query": "red", "collection": "x"}, "there are: squares"),
            ("search_images", {"query": "red", "where": "label ="}, "filter"),
            ("similar", {"id": "nobody"}, "nobody"),
            ("classify_image", {"image": "?", "classes": ["a"]}, "is not the id of an item"),
            ("classify_image", {"image": "?", "classes": [" "]}, "classes is empty"),
            ("embed", {}, "nothing to embed"),
        ):
            result = await client.call_tool(name, arguments)
            assert result.is_error, name
            assert message in result.content[0].text

    ask(build_server(tools), scenario)


def test_over_http_no_file_of_the_machine_is_read(
    built: Path, toy_bundle: Path, pictures: dict[str, Path]
) -> None:
    closed = Tools(
        {"squares": Collection(built)}, lambda source: open_bundle(toy_bundle), reads_files=False
    )
    with pytest.raises(InputError, match="is not the id of an item, or base64"):
        closed.classify_image(str(pictures["red"]), ["red"])
    closed.close()


def test_the_embeddings_are_the_encoders(tools: Tools, toy_bundle: Path) -> None:
    async def scenario(client: Any) -> None:
        result = await client.call_tool("embed", {"texts": ["red", "blue"]})
        (answer,) = read_texts(result)
        expected = open_bundle(toy_bundle).embed_texts(["red", "blue"])
        assert answer["embeddings"] == pytest.approx(expected, abs=1e-6)

    ask(build_server(tools), scenario)


def start(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "twinlens", "mcp", *map(str, arguments)]


def test_the_command_answers_by_standard_input_and_output(built: Path, toy_bundle: Path) -> None:
    from mcp.client.stdio import StdioServerParameters

    command = start(f"squares={built}", "-b", toy_bundle)
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))

    async def scenario(client: Any) -> None:
        result = await client.call_tool("collection_info", {})
        (info,) = read_texts(result)
        info = info[0] if isinstance(info, list) else info
        assert (info["name"], info["dimensions"]) == ("squares", 16)
        hits = await client.call_tool("search_images", {"query": "red", "thumbnails": False})
        assert read_texts(hits)

    ask(parameters, scenario)


def test_the_command_answers_http(built: Path, toy_bundle: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        start(f"squares={built}", "-b", toy_bundle, "--http", "--port", port),
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)

        async def scenario(client: Any) -> None:
            assert {tool.name for tool in (await client.list_tools()).tools} == NAMES
            result = await client.call_tool("search_images", {"query": "red", "k": 1})
            assert not result.is_error

        ask(f"http://127.0.0.1:{port}/mcp", scenario)
    finally:
        process.terminate()
        process.wait(20)


def test_folders_are_named_after_themselves() -> None:
    assert read_folders(["a/photos.index", "b=c"]) == {
        "photos": Path("a/photos.index"),
        "b": Path("c"),
    }
    with pytest.raises(InputError, match="two collections are called 'a'"):
        read_folders(["a=x", "a=y"])
    with pytest.raises(InputError, match="write DIR or NAME=DIR"):
        read_folders(["=x"])
