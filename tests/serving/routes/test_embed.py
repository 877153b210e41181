"""`/embed`: every form of request and answer, and that a bad item fails alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from twinlens.serving.settings import Limits, ServerSettings

PNG = {"content-type": "image/png"}


def rows_of(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["embeddings"], dtype=np.float32)


def test_a_raw_image_gets_its_embedding_and_the_bundle_is_named(
    client: TestClient, image: Callable[..., bytes]
) -> None:
    answer = client.post("/embed", content=image(), headers=PNG)
    assert rows_of(answer).shape == (1, 16)
    assert np.linalg.norm(rows_of(answer)) == pytest.approx(1, abs=1e-6)
    body = answer.json()
    assert (body["model"], body["revision"]) == ("colours", "a" * 64)
    assert answer.headers["twinlens-model"] == "colours"
    assert answer.headers["twinlens-revision"] == "a" * 64


def test_raw_form_and_json_give_the_same_bytes(
    client: TestClient, image: Callable[..., bytes], uri: Callable[..., str]
) -> None:
    raw = client.post("/embed", content=image(), headers=PNG)
    form = client.post("/embed", files=[("images", ("x.png", image()))])
    encoded = base64.b64encode(image()).decode()
    wholes = [
        client.post("/embed", json={"inputs": [{"image": uri()}]}),
        client.post("/embed", json={"images": [encoded]}),
    ]
    for other in (form, *wholes):
        assert other.json()["embeddings"] == raw.json()["embeddings"]


def test_texts_and_images_mix_and_keep_their_order(
    client: TestClient, uri: Callable[..., str]
) -> None:
    inputs = [{"text": "red"}, {"image": uri((0, 255, 0))}, "blue", {"image": uri((255, 0, 0))}]
    rows = rows_of(client.post("/embed", json={"inputs": inputs}))
    cosines = rows @ rows.T
    assert cosines[0, 3] > 0.99
    assert cosines[1, [0, 2, 3]].max() < 0.5


def test_a_form_takes_many_files_and_texts(client: TestClient, image: Callable[..., bytes]) -> None:
    files = [("images", ("a", image((0, 0, 255)))), ("images", ("b", image((255, 0, 0))))]
    rows = rows_of(client.post("/embed", files=files, data={"texts": ["red"]}))
    assert rows.shape == (3, 16)
    assert rows[1] @ rows[2] > 0.99 > rows[0] @ rows[2]


def test_bytes_and_npy_hold_the_same_numbers_as_json(
    client: TestClient, image: Callable[..., bytes]
) -> None:
    plain = rows_of(client.post("/embed", content=image(), headers=PNG))
    accept = {**PNG, "accept": "application/octet-stream"}
    raw = client.post("/embed", content=image(), headers=accept)
    assert raw.headers["twinlens-shape"] == "1,16"
    assert np.array_equal(np.frombuffer(raw.content, "<f4").reshape(1, 16), plain)
    npy = client.post("/embed", content=image(), headers={**PNG, "accept": "application/x-npy"})
    assert np.array_equal(np.load(io.BytesIO(npy.content), allow_pickle=False), plain)


def test_shorter_embeddings_are_normalised_again(client: TestClient) -> None:
    full = rows_of(client.post("/embed", json={"texts": ["red"]}))
    short = rows_of(client.post("/embed", json={"texts": ["red"], "dimensions": 8}))
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-6)
    assert np.allclose(short[0], full[0, :8] / np.linalg.norm(full[0, :8]))


def test_a_length_that_the_bundle_does_not_offer_is_refused_with_those_it_does(
    client: TestClient,
) -> None:
    answer = client.post("/embed", json={"texts": ["red"], "dimensions": 9})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "dimensions"
    assert "offers 8, 16" in answer.json()["error"]["message"]


def test_int8_rows_keep_their_direction(client: TestClient) -> None:
    full = rows_of(client.post("/embed", json={"texts": ["red", "blue"]}))
    body = client.post("/embed", json={"texts": ["red", "blue"], "output": "int8"}).json()
    whole = np.array(body["embeddings"])
    assert np.abs(whole).max() == 127
    assert np.allclose(whole * np.array(body["scales"])[:, None], full, atol=0.004)


def test_ubinary_packs_the_signs_most_significant_bit_first(client: TestClient) -> None:
    full = rows_of(client.post("/embed", json={"texts": ["red"]}))
    answer = client.post("/embed", json={"texts": ["red"], "output": "ubinary"}).json()
    assert answer["embeddings"] == np.packbits(full >= 0, axis=1).tolist()


def test_a_bad_item_gets_an_error_and_the_rest_is_unchanged(
    client: TestClient, uri: Callable[..., str]
) -> None:
    good = [{"image": uri((255, 0, 0))}, {"image": uri((0, 0, 255))}]
    clean = client.post("/embed", json={"inputs": good}).json()["embeddings"]
    answer = client.post("/embed", json={"inputs": [good[0], {"image": "AAAA"}, good[1]]})
    assert answer.status_code == 200
    assert answer.headers["twinlens-failed-items"] == "1"
    first, failed, last = answer.json()["embeddings"]
    assert [first, last] == clean
    assert failed["error"]["param"] == "inputs[1]"
    assert failed["error"]["code"] == "image_decode_failed"


def test_a_failed_row_is_nan_in_bytes_and_named_in_a_header(
    client: TestClient, uri: Callable[..., str]
) -> None:
    answer = client.post(
        "/embed",
        json={"images": [uri(), "AAAA"]},
        headers={"accept": "application/octet-stream"},
    )
    rows = np.frombuffer(answer.content, "<f4").reshape(2, 16)
    assert np.isfinite(rows[0]).all()
    assert np.isnan(rows[1]).all()
    assert answer.headers["twinlens-failed-indices"] == "1"


@pytest.mark.parametrize("body", [{"images": ["AAAA"]}, {"images": ["AAAA", "BBBB"]}])
def test_a_request_in_which_all_items_fail_fails(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/embed", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "inputs[0]"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"texts": "red"}, "texts"),
        ({"inputs": ["a"], "normalize": False}, "normalize"),
        ({"inputs": ["a"], "truncation_direction": "left"}, "truncation_direction"),
        ({"inputs": [{}]}, "inputs[0]"),
        ({"inputs": [{"text": "a", "image": "b"}]}, "inputs[0]"),
        ({"inputs": [{"text": ""}]}, "inputs[0].text"),
        ({"inputs": [{"text": 5}]}, "inputs[0].text"),
        ({"inputs": [5]}, "inputs[0]"),
        ({"texts": ["a"], "images": ["b"]}, "inputs"),
        ({"texts": ["a"], "dimension": 8}, "dimension"),
        ({"texts": ["a"], "output": "float64"}, "output"),
        ({"texts": ["a"], "dimensions": "8"}, "dimensions"),
        ({"texts": ["a"], "precision": "int4"}, "precision"),
        ({"texts": ["a"], "model": 3}, "model"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, body: dict[str, Any], param: str) -> None:
    answer = client.post("/embed", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"1" * 5000])
def test_a_body_that_is_no_json_object_is_a_400(client: TestClient, body: bytes) -> None:
    answer = client.post("/embed", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_an_unknown_model_is_a_404_that_lists_the_known(client: TestClient) -> None:
    answer = client.post("/embed", json={"texts": ["a"], "model": "other"})
    assert answer.status_code == 404
    assert "colours" in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "model_not_found"


def test_another_type_of_body_is_a_415(client: TestClient) -> None:
    answer = client.post("/embed", content=b"x", headers={"content-type": "text/csv"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"--x",
        b"--x\r\n",
        b"--y\r\n\r\n",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1',
    ],
)
def test_a_broken_form_is_a_400(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/embed", content=body, headers=headers).status_code == 400
    assert client.post("/zeroshot", content=body, headers=headers).status_code == 400


def test_a_body_over_the_limit_is_a_413_before_it_is_read(
    make_client: Callable[..., TestClient], image: Callable[..., bytes]
) -> None:
    client = make_client(ServerSettings(limits=Limits(body_bytes=1000)))
    sent = 0

    def stream() -> Any:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 500

    answer = client.post("/embed", content=stream(), headers=PNG)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    answer = client.post("/embed", content=b"x" * 1001, headers=PNG)
    assert answer.status_code == 413
    assert client.post("/embed", content=image(), headers=PNG).status_code == 200


def test_limits_on_items_and_texts_are_enforced(make_client: Callable[..., TestClient]) -> None:
    client = make_client(ServerSettings(limits=Limits(items=1, texts=2, text_characters=5)))
    assert client.post("/embed", json={"texts": ["a", "b", "c"]}).status_code == 413
    assert client.post("/embed", json={"images": ["AAAA", "AAAA"]}).status_code == 413
    mixed = {"inputs": [{"image": "AAAA"}, {"image": "AAAA"}]}
    assert client.post("/embed", json=mixed).json()["error"]["param"] == "inputs"
    answer = client.post("/embed", json={"texts": ["fine", "too long"]})
    assert answer.json()["embeddings"][1]["error"]["code"] == "too_large"


def test_limits_on_pixels_apply_to_an_image_and_to_a_request(
    make_client: Callable[..., TestClient], image: Callable[..., bytes]
) -> None:
    client = make_client(ServerSettings(limits=Limits(image_pixels=500, request_pixels=900)))
    answer = client.post("/embed", content=image(size=(30, 30)), headers=PNG)
    assert answer.status_code == 413
    files = [("images", ("x", image(size=(20, 20)))) for _ in range(4)]
    body = client.post("/embed", files=files).json()["embeddings"]
    assert sum(isinstance(one, dict) for one in body) == 2


def test_only_formats_that_the_operator_allows_are_decoded(
    make_client: Callable[..., TestClient], image: Callable[..., bytes]
) -> None:
    client = make_client(ServerSettings(limits=Limits(formats=("jpeg", "webp"))))
    jpeg = {"content-type": "image/jpeg"}
    assert client.post("/embed", content=image(kind="JPEG"), headers=jpeg).status_code == 200
    answer = client.post("/embed", content=image(kind="PNG"), headers=jpeg)
    assert answer.status_code == 400
    assert "jpeg, webp" in answer.json()["error"]["message"]


@pytest.mark.parametrize("format", ["TIFF", "AVIF", "HEIC", "I;16"])
def test_pictures_of_phones_cameras_and_scanners_are_embedded(
    client: TestClient, format: str
) -> None:
    out = io.BytesIO()
    if format == "HEIC":
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.from_pillow(Image.new("RGB", (40, 30), "red")).save(out)
    elif format == "I;16":
        Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(out, "PNG")
    else:
        Image.new("RGB", (40, 30), "red").save(out, format)
    kind = {"content-type": "application/octet-stream"}
    assert client.post("/embed", content=out.getvalue(), headers=kind).status_code == 200
    uri = "data:application/octet-stream;base64," + base64.b64encode(out.getvalue()).decode()
    body = client.post("/embed", json={"images": [uri, uri[:-40]]}).json()["embeddings"]
    assert isinstance(body[0], list)


def test_the_same_text_is_encoded_once(client: TestClient, encoder: Any) -> None:
    client.post("/embed", json={"texts": ["red", "red", "blue"]})
    client.post("/embed", json={"texts": ["blue", "red"]})
    assert encoder.batches == [2]


def test_server_timing_names_the_stages(client: TestClient, image: Callable[..., bytes]) -> None:
    timing = client.post("/embed", content=image(), headers=PNG).headers["server-timing"]
    assert [part.split(";")[0] for part in timing.split(", ")] == [
        "receive",
        "decode",
        "queue",
        "encode",
        "answer",
    ]


def test_another_method_is_a_405(client: TestClient) -> None:
    answer = client.get("/embed")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_a_misspelt_option_of_a_raw_body_or_a_form_is_named(
    client: TestClient, image: Callable[..., bytes]
) -> None:
    png = {"content-type": "image/png"}
    raw = client.post("/embed?dimension=8", content=image(), headers=png)
    form = client.post("/embed", files={"a": image()}, data={"dimension": "8"})
    for answer in (raw, form):
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "dimension"
        assert "dimensions" in answer.json()["error"]["message"]
