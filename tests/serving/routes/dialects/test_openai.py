"""`/v1/embeddings` in each dialect: golden requests as those clients send them, golden answers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from twinlens.serving.settings import Limits, ServerSettings


def ask(client: TestClient, path: str = "/v1/embeddings", **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_the_answer_has_openai_shape(client: TestClient) -> None:
    body = ask(client, model="colours", input=["red", "blue"])
    assert set(body) == {"object", "data", "model", "usage"}
    assert body["object"] == "list"
    assert body["model"] == "colours"
    assert body["usage"] == {"prompt_tokens": 11, "total_tokens": 11}
    assert [entry["index"] for entry in body["data"]] == [0, 1]
    assert {entry["object"] for entry in body["data"]} == {"embedding"}


def test_a_single_string_and_a_list_of_one_are_the_same(client: TestClient) -> None:
    assert ask(client, input="red") == ask(client, input=["red"])
    assert ask(client, "/embeddings", input="red") == ask(client, input="red")


def test_base64_is_little_endian_float32_to_the_bit(client: TestClient) -> None:
    plain = ask(client, input=["red"])["data"][0]["embedding"]
    coded = ask(client, input=["red"], encoding_format="base64")["data"][0]["embedding"]
    row = np.frombuffer(base64.b64decode(coded), "<f4")
    assert np.array_equal(row, np.array(plain, np.float32))


def test_dimensions_are_normalised_again(client: TestClient) -> None:
    row = ask(client, input="red", dimensions=8)["data"][0]["embedding"]
    assert len(row) == 8
    assert np.linalg.norm(row) == pytest.approx(1, abs=1e-6)


def test_fields_that_only_others_need_are_ignored(client: TestClient) -> None:
    ask(client, input="red", user="u", truncate=True, task="x", normalized=True, priority=0)


def test_infinity_sends_images_by_modality(client: TestClient, uri: Callable[..., str]) -> None:
    body = ask(client, modality="image", input=[uri()], encoding_format="base64", model="colours")
    row = np.frombuffer(base64.b64decode(body["data"][0]["embedding"]), "<f4")
    assert row @ np.array(ask(client, input="red")["data"][0]["embedding"]) > 0.99
    assert len(ask(client, modality="image", input=uri())["data"]) == 1


def test_jina_sends_objects_and_may_mix_them(client: TestClient, uri: Callable[..., str]) -> None:
    bare = uri().partition(",")[2]
    inputs = [{"text": "red"}, {"image": uri()}, {"image": bare}]
    body = ask(
        client,
        model="colours",
        dimensions=16,
        normalized=True,
        embedding_type="float",
        input=inputs,
    )
    rows = np.array([entry["embedding"] for entry in body["data"]])
    assert (rows @ rows.T).min() > 0.99
    assert np.array_equal(rows[1], rows[2])


def test_jina_may_ask_for_bits(client: TestClient) -> None:
    plain = np.array(ask(client, input="red")["data"][0]["embedding"])
    packed = np.packbits(plain >= 0).astype(int)
    for kind, expected in (("ubinary", packed), ("binary", packed - 128)):
        body = ask(client, input=[{"text": "red"}], embedding_type=kind)
        assert body["data"][0]["embedding"] == expected.tolist()


def test_vllm_sends_messages(client: TestClient, uri: Callable[..., str]) -> None:
    part = {"type": "image_url", "image_url": {"url": uri()}}
    one = ask(
        client,
        model="colours",
        messages=[{"role": "user", "content": [part]}],
        encoding_format="float",
    )
    assert len(one["data"]) == 1
    many = ask(
        client,
        messages=[
            [{"role": "user", "content": [part]}],
            [{"role": "user", "content": "red"}],
            [{"role": "user", "content": [{"type": "text", "text": "red"}]}],
        ],
    )
    rows = [entry["embedding"] for entry in many["data"]]
    assert rows[0] == one["data"][0]["embedding"]
    assert rows[1] == rows[2] == ask(client, input="red")["data"][0]["embedding"]


@pytest.mark.parametrize(("dtype", "code"), [("float32", "f4"), ("float16", "f2")])
@pytest.mark.parametrize(("endianness", "order"), [("little", "<"), ("big", ">"), ("native", "<")])
def test_vllm_may_ask_for_bytes(
    client: TestClient, dtype: str, code: str, endianness: str, order: str
) -> None:
    plain = np.array([e["embedding"] for e in ask(client, input=["red", "blue"])["data"]])
    answer = client.post(
        "/v1/embeddings",
        json={
            "input": ["red", "blue"],
            "encoding_format": "bytes",
            "embed_dtype": dtype,
            "endianness": endianness,
        },
    )
    entry = json.loads(answer.headers["metadata"])["data"][1]
    row = np.frombuffer(answer.content[entry["start"] : entry["end"]], f"{order}{code}")
    assert np.allclose(row, plain[1], atol=1e-3)
    assert len(answer.content) == entry["end"]


def test_one_bad_item_fails_the_request_and_is_named(
    client: TestClient, uri: Callable[..., str]
) -> None:
    answer = client.post(
        "/v1/embeddings", json={"modality": "image", "input": [uri(), uri(), "AAAA"]}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[2]"
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_an_error_has_all_four_keys_and_a_code_that_is_text(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": "a", "model": "gpt"})
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)


def test_two_thousand_texts_are_one_request(client: TestClient) -> None:
    texts = [f"red {i % 7}" for i in range(2048)]
    assert len(ask(client, input=texts)["data"]) == 2048
    many = client.post("/v1/embeddings", json={"input": [*texts, "red"]})
    assert (many.status_code, many.json()["error"]["param"]) == (413, "input")


def test_a_text_that_is_too_long_is_cut_and_what_is_read_is_counted(client: TestClient) -> None:
    told = ask(client, input=["red " * 40_000, "red"])
    assert told["usage"]["total_tokens"] == 77 + 5
    assert len(told["data"]) == 2


def test_the_characters_of_a_request_are_bounded(make_client: Callable[..., TestClient]) -> None:
    client = make_client(ServerSettings(limits=Limits(request_characters=10)))
    assert client.post("/v1/embeddings", json={"input": ["redred", "red"]}).status_code == 200
    told = client.post("/v1/embeddings", json={"input": ["redred", "redred"]})
    assert (told.status_code, told.json()["error"]["param"]) == (413, "input")


def test_images_are_fewer_than_texts_in_a_request(
    make_client: Callable[..., TestClient], uri: Callable[..., str]
) -> None:
    client = make_client(ServerSettings(limits=Limits(items=1)))
    body = {"input": [{"text": "red"}, {"image": uri()}, {"text": "red"}]}
    assert len(client.post("/v1/embeddings", json=body).json()["data"]) == 3
    told = client.post("/v1/embeddings", json={"modality": "image", "input": [uri(), uri()]})
    assert (told.status_code, told.json()["error"]["param"]) == (413, "input")


def test_a_message_with_a_text_and_an_image_is_the_mean_of_both(
    client: TestClient, uri: Callable[..., str]
) -> None:
    image = {"type": "image_url", "image_url": {"url": uri((0, 0, 255))}}
    parts = [{"type": "text", "text": "red"}, image]
    told = ask(client, messages=[{"role": "user", "content": parts}])["data"]
    single = ask(client, input=[{"text": "red"}, {"image": uri((0, 0, 255))}])["data"]
    mean = np.sum([one["embedding"] for one in single], axis=0)
    assert len(told) == 1
    assert told[0]["embedding"] == pytest.approx(list(mean / np.linalg.norm(mean)), abs=1e-6)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input[0]"),
        ({"input": [[1, "a"]]}, "input[0]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": [{}]}, "input[0]"),
        ({"input": "a", "encoding_format": "f16"}, "encoding_format"),
        ({"input": "a", "dimensions": -1}, "dimensions"),
        ({"input": "a", "modality": "audio"}, "modality"),
        ({"input": "a", "messages": [{"content": "a"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": [{"type": "audio"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"content": "a"}, {"content": []}]}, "messages[1].content"),
        ({"messages": [[]]}, "messages[0]"),
        ({"messages": [5]}, "messages[0]"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, body: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_models_are_listed_as_openai_lists_them(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert {"id", "object", "created", "owned_by"} <= set(model)
    assert model["id"] == "colours"
    assert isinstance(model["created"], int)
    assert client.get("/v1/models/colours").json() == model
    assert client.get("/v1/models/other").status_code == 404


def test_the_openai_client_retries_after_the_given_delay(
    run_server: Callable[..., Any], encoder: Any
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        statuses: list[int] = []

        async def note(response: httpx.Response) -> None:
            statuses.append(response.status_code)
            encoder.gate.set()  # the queue empties after the first answer

        encoder.gate.clear()
        waiting = asyncio.create_task(http.post("/embed", json={"texts": ["first"]}))
        while service.registry.models()[0].texts.batcher.room:
            await asyncio.sleep(0.005)
        http.event_hooks = {"response": [note]}
        client = openai.AsyncOpenAI(
            base_url="http://server/v1", api_key="none", http_client=http, max_retries=4
        )
        made = await client.embeddings.create(model="colours", input=["red"], dimensions=8)
        assert len(made.data[0].embedding) == 8
        assert statuses[0] == 429
        assert 200 in statuses
        assert (await waiting).status_code == 200
        assert await client.with_options(max_retries=4).models.retrieve("colours")
        statuses.clear()
        with pytest.raises(openai.NotFoundError):
            await client.embeddings.create(model="gpt", input=["red"])
        assert statuses == [404]  # permanent errors are not retried

    run_server(scenario, ServerSettings(limits=Limits(text_queue=1)))
