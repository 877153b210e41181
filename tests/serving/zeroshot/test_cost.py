"""Classes that a request's time cannot do are refused before the work, and cost nobody anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from twinlens.serving.engine.speed import LEAST_TOKENS, MeasuredSpeed
from twinlens.serving.settings import Limits, ServerSettings

SECONDS_A_TEXT = 0.001
TEMPLATES = [f"picture number {i} of the thing called {{}}" for i in range(80)]
CLASSES = [f"a very long name of class number {i}, and some more of it" for i in range(50)]
SETTINGS = ServerSettings(limits=Limits(request_seconds=2.0))


@pytest.fixture
def slow(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An encoder that takes a millisecond a text: four seconds for all prompts."""
    quick = encoder.encode_tokens

    def encode(tokens: Any) -> Any:
        time.sleep(SECONDS_A_TEXT * len(tokens))
        return quick(tokens)

    monkeypatch.setattr(encoder, "encode_tokens", encode)
    return encoder


async def classify(http: Any, uri: Any, **body: Any) -> Any:
    return await http.post("/zeroshot", json={"images": [uri()], "templates": TEMPLATES, **body})


def test_work_that_cannot_finish_in_time_is_refused_once_the_speed_is_known(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str]
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        began = time.monotonic()
        first = await classify(http, uri, classes=CLASSES)  # nothing is known yet
        assert (first.status_code, first.json()["error"]["code"]) == (413, "too_costly")
        assert time.monotonic() - began < 1.5
        assert sum(slow.batches) <= 2 * 256 + 80
        ran = sum(slow.batches)
        began = time.monotonic()
        answers = await asyncio.gather(
            *(classify(http, uri, classes=[f"{n} {c}" for c in CLASSES]) for n in range(4))
        )
        assert [answer.status_code for answer in answers] == [413] * 4
        assert time.monotonic() - began < 0.5
        assert sum(slow.batches) == ran
        assert service.promised_work.seconds == 0

    run_server(scenario, SETTINGS)


def test_work_that_would_fit_alone_is_refused_while_others_take_the_time(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str]
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        assert (await classify(http, uri, classes=CLASSES[:4])).status_code == 200
        answers = await asyncio.gather(
            *(classify(http, uri, classes=[f"{n} {c}" for c in CLASSES[:14]]) for n in range(4))
        )
        told = sorted(answer.status_code for answer in answers)
        assert told[0] == 200
        assert told[-1] == 429
        assert 504 not in told
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1

    run_server(scenario, SETTINGS)


def test_a_classifier_has_the_same_limit_and_may_become_a_job(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str]
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        assert (await classify(http, uri, classes=CLASSES[:4])).status_code == 200
        body = {"classes": CLASSES, "templates": TEMPLATES}
        told = await http.put("/classifiers/many", json=body)
        assert (told.status_code, told.json()["error"]["code"]) == (413, "too_costly")
        told = await http.put("/classifiers/many", json={**body, "background": True})
        assert told.status_code == 202

    run_server(scenario, SETTINGS)


def test_prompts_that_are_known_cost_nothing(
    run_server: Callable[..., Any], slow: Any, uri: Callable[..., str]
) -> None:
    async def scenario(http: Any, service: Any) -> None:
        for start in range(0, 50, 10):
            known = await classify(http, uri, classes=CLASSES[start : start + 10])
            assert known.status_code == 200
        assert (await classify(http, uri, classes=CLASSES)).status_code == 200

    run_server(scenario, SETTINGS)


def test_small_batches_are_not_measured() -> None:
    load = MeasuredSpeed(LEAST_TOKENS)
    for _ in range(9):
        load.observe(10, 1.0)
    assert load.seconds_for(1000) == 0


def test_nothing_is_estimated_before_four_batches_and_one_slow_batch_decides_nothing() -> None:
    load = MeasuredSpeed(LEAST_TOKENS)
    for _ in range(3):
        load.observe(1000, 1.0)
    assert load.seconds_for(1000) == 0
    load.observe(1000, 9.0)
    assert load.seconds_for(1000) == pytest.approx(1.0)
