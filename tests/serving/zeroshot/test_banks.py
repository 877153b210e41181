"""The neutral prompt, and what building a bank leaves in the cache."""

from __future__ import annotations

import time

import pytest
from starlette.testclient import TestClient

from twinlens.serving.zeroshot.banks import name_nothing


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        (["a photo of a {}", "a {} icon"], ["a photo of a ", "a  icon"]),
        (["{}", " {} ", "an emoji of {}"], ["an emoji of "]),
        (["{}"], ["something"]),
    ],
)
def test_no_prompt_is_ever_empty(templates: list[str], expected: list[str]) -> None:
    assert name_nothing(templates) == expected


def test_a_job_does_not_evict_cached_texts(client: TestClient) -> None:
    service = client.service  # type: ignore[attr-defined]
    client.post("/embed", json={"texts": ["red"]})
    used_before = service.cache.used_bytes
    body = {"classes": [f"thing {i}" for i in range(20)], "background": True}
    job = client.put("/classifiers/things", json=body).json()["job"]["id"]
    end = time.monotonic() + 10
    while client.get(f"/jobs/{job}").json()["state"] != "done":
        assert time.monotonic() < end
        time.sleep(0.01)
    assert service.cache.used_bytes == used_before
