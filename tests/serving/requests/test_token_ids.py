"""Token ids become text again where their vocabulary lies, and are refused clearly where not."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from twinlens.serving.requests import token_ids

TOKENS = ["red", " heart", "a", "\u00e9".encode()[:1].decode("latin-1")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    token_ids.read_vocabulary.cache_clear()
    return tmp_path


@pytest.fixture
def vocabulary(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small file in the place and form of the published one."""
    lines = [
        base64.b64encode(token.encode("latin-1")) + b" %d" % rank
        for rank, token in enumerate(TOKENS)
    ]
    content = b"\n".join(lines) + b"\n"
    monkeypatch.setattr(token_ids, "_SHA256", hashlib.sha256(content).hexdigest())
    path = token_ids.find_vocabulary()
    path.write_bytes(content)
    return path


def embed(client: TestClient, value: Any) -> Any:
    return client.post("/v1/embeddings", json={"input": value})


def test_ids_are_embedded_as_the_text_that_they_stand_for(
    client: TestClient, vocabulary: Path
) -> None:
    told = embed(client, [[0, 1], [2.0]]).json()["data"]
    plain = embed(client, ["red heart", "a"]).json()["data"]
    assert told == plain
    assert embed(client, [0, 1]).json()["data"] == plain[:1]


def test_half_a_character_does_not_fail(client: TestClient, vocabulary: Path) -> None:
    assert embed(client, [[3]]).status_code == 200


def test_an_id_beyond_the_vocabulary_is_named(client: TestClient, vocabulary: Path) -> None:
    told = embed(client, [[0], [0, 4]]).json()["error"]
    assert (told["param"], told["code"]) == ("input[1]", "token_ids")
    assert "ends at 3" in told["message"]


def test_without_the_vocabulary_the_error_names_the_remedies(
    client: TestClient, folder: Path
) -> None:
    told = embed(client, [[0, 1]])
    assert told.status_code == 400
    message = told.json()["error"]["message"]
    assert "check_embedding_ctx_length=False" in message
    assert "tiktoken" in message


def test_a_file_with_other_content_is_not_read(client: TestClient, vocabulary: Path) -> None:
    vocabulary.write_bytes(b"cmVk 0\n")
    assert embed(client, [[0]]).status_code == 400


def test_a_vocabulary_that_comes_later_is_found(
    client: TestClient, folder: Path, request: pytest.FixtureRequest
) -> None:
    assert embed(client, [[0]]).status_code == 400
    request.getfixturevalue("vocabulary")
    assert embed(client, [[0]]).status_code == 200
