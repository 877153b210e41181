"""Decodes the frames of videos that clients send: one video at a time, until the deadline.

Decoding costs far more than receiving, so few may wait for it, and each decoder has one thread.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from twinlens.bundle.image.video import (
    NONE,
    FrameSampling,
    SampledFrame,
    VideoLimits,
    parse_sampling,
    sample_frames,
)
from twinlens.errors import InputError, OverloadedError
from twinlens.serving.call import Call
from twinlens.serving.failures import DeadlineError
from twinlens.serving.settings import Limits

MOST_WAITING = 8


class VideoReader:
    """Decodes the videos of a server's requests."""

    def __init__(self, limits: Limits) -> None:
        self._frames = limits.video_frames
        self._limits = VideoLimits(
            limits.body_bytes, limits.video_seconds, limits.image_pixels, threads=1
        )
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="video")
        self._waiting = 0

    async def read(self, body: bytes, frames: str | None, call: Call) -> list[SampledFrame]:
        """Return the frames of a video: every two seconds, or as `frames` says."""
        sampling = FrameSampling() if frames is None else parse_sampling(frames)
        if sampling is None:
            raise InputError(f"frames is {NONE}: nothing would be embedded", field="frames")
        if self._waiting >= MOST_WAITING:
            raise OverloadedError(f"{MOST_WAITING} videos wait to be decoded already")
        self._waiting += 1
        try:
            began = call.clock.now()
            found = await asyncio.get_running_loop().run_in_executor(
                self._pool, self._sample, body, replace(sampling, most=self._frames), call
            )
            call.add("decode", call.clock.now() - began)
            return found
        finally:
            self._waiting -= 1

    def _sample(self, body: bytes, sampling: FrameSampling, call: Call) -> list[SampledFrame]:
        def check() -> None:
            if call.remaining <= 0:
                raise DeadlineError("the request's deadline passed before its video was decoded")

        check()
        return list(sample_frames(body, sampling, self._limits, check))
