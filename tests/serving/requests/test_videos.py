"""Videos at `POST /embed`: rows with seconds; bad, long and slow ones are refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from tests.bundle.image.videos import BLUE, GREEN, RED, make_video
from twinlens.errors import OverloadedError
from twinlens.serving.call import Call
from twinlens.serving.clock import Clock
from twinlens.serving.failures import DeadlineError
from twinlens.serving.requests import videos
from twinlens.serving.requests.videos import VideoReader
from twinlens.serving.settings import Limits, ServerSettings

CLIP = [(RED, 1.0), (GREEN, 1.0), (BLUE, 1.0)]
MP4 = {"content-type": "video/mp4"}


def post(client: TestClient, raw: bytes, query: str = "", **headers: str) -> Any:
    return client.post(f"/embed{query}", content=raw, headers={**MP4, **headers})


@pytest.mark.parametrize(("format", "codec"), [("mp4", "mpeg4"), ("webm", "libvpx-vp9")])
def test_each_frame_has_a_row_and_a_second(client: TestClient, format: str, codec: str) -> None:
    raw = make_video(CLIP, format, codec)
    answer = post(client, raw, "?frames=1")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["seconds"] == [0.0, 1.0, 2.0]
    texts = client.post("/embed", json={"texts": ["red", "green", "blue"]}).json()["embeddings"]
    near = np.asarray(body["embeddings"]) @ np.asarray(texts).T
    assert near.argmax(axis=1).tolist() == [0, 1, 2]
    assert post(client, raw, "?frames=scenes").json()["seconds"] == [0.0, 1.0, 2.0]
    assert post(client, raw).json()["seconds"] == [0.0, 2.0]
    told = post(client, raw, "?frames=1", accept="application/octet-stream")
    assert told.headers["twinlens-seconds"] == "0.0,1.0,2.0"
    assert "seconds" not in client.post("/embed", json={"texts": ["red"]}).json()


@pytest.mark.parametrize(
    ("raw", "query", "status", "where"),
    [
        (b"no video", "", 400, "image_decode_failed"),
        (b"", "", 400, "image_decode_failed"),
        (None, "?frames=none", 400, "frames"),
        (None, "?frames=0", 400, "frames"),
        (None, "?frame=1", 400, "unknown_field"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    client: TestClient, raw: bytes | None, query: str, status: int, where: str
) -> None:
    answer = post(client, make_video(CLIP) if raw is None else raw, query)
    error = answer.json()["error"]
    assert (answer.status_code, where in (error["code"], error["param"])) == (status, True)


def test_limits_of_a_video_are_settings(make_client: Callable[..., TestClient]) -> None:
    raw = make_video(CLIP)
    client = make_client(ServerSettings(limits=Limits(video_seconds=2)))
    assert post(client, raw).status_code == 413
    client = make_client(ServerSettings(limits=Limits(video_frames=2)))
    assert post(client, raw, "?frames=0.1").json()["seconds"] == [0.0, 1.5]


def make_call(seconds: float) -> Call:
    clock = Clock()
    return Call(clock, deadline=clock.now() + seconds, pixels_left=0)


def test_decoding_ends_at_the_deadline() -> None:
    raw = make_video(CLIP)
    with pytest.raises(DeadlineError):
        asyncio.run(VideoReader(Limits()).read(raw, None, make_call(0)))


def test_few_videos_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "MOST_WAITING", 2)

    def take_a_while(*_: object) -> list[object]:
        time.sleep(0.2)
        return []

    monkeypatch.setattr(videos, "sample_frames", take_a_while)

    async def main() -> list[Any]:
        reader = VideoReader(Limits())
        waiting = [reader.read(b"", None, make_call(9)) for _ in range(3)]
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    first, second, third = asyncio.run(main())
    assert (first, second) == ([], [])
    assert isinstance(third, OverloadedError)
