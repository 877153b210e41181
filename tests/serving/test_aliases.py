"""Other names of models: used everywhere a name is, listed, and told to those who name none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from twinlens.errors import InputError
from twinlens.serving.aliases import Alias, read_aliases
from twinlens.serving.settings import ServerSettings

BUILT_IN = "text-embedding-3-small"


def test_an_alias_names_a_model_and_may_promise_a_width() -> None:
    told = read_aliases(["a=photos", "ViT-B-32__openai=photos:512"])
    assert told["a"] == Alias("a", "photos")
    assert told["ViT-B-32__openai"].width == 512


@pytest.mark.parametrize("text", ["a", "a=", "=b", "a=b:0", "a=b:x", "a=b:999999", "a b=c"])
def test_a_malformed_alias_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="text-embedding-3-small=photos"):
        read_aliases([text])


def test_a_client_s_built_in_name_is_answered_by_the_model(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(ServerSettings(aliases=(f"{BUILT_IN}=colours",)))
    told = client.post("/v1/embeddings", json={"input": "red", "model": BUILT_IN})
    assert told.status_code == 200
    assert told.json()["model"] == "colours"
    names = [one["id"] for one in client.get("/v1/models").json()["data"]]
    assert names == ["colours", BUILT_IN]
    assert [one["name"] for one in client.get("/v1/models").json()["models"]] == names


def test_an_unknown_name_lists_the_known_and_the_remedy(
    make_client: Callable[..., TestClient],
) -> None:
    client = make_client(ServerSettings(aliases=(f"{BUILT_IN}=colours", "lost=nowhere")))
    for name in ("gpt", "lost"):
        told = client.post("/v1/embeddings", json={"input": "red", "model": name})
        assert told.status_code == 404
        message = told.json()["error"]["message"]
        assert "colours" in message
        assert BUILT_IN in message
        assert "--alias" in message
