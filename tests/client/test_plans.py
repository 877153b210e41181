"""What each call sends and how its answers are joined, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinlens.client.plans import CallPlanner, ServerError, check, choose_wait, is_retried
from twinlens.errors import InputError

PLANNER = CallPlanner("m", part=4)


def answer_rows(rows: np.ndarray[Any, Any], failed: list[int]) -> httpx.Response:
    headers = {"twinlens-shape": f"{len(rows)},{rows.shape[1]}"}
    if failed:
        headers["twinlens-failed-indices"] = ",".join(map(str, failed))
    return httpx.Response(200, headers=headers, content=rows.astype("<f4").tobytes())


@given(st.integers(0, 30), st.sets(st.integers(0, 29)))
def test_images_go_in_parts_and_rows_come_back_in_order(count: int, bad: set[int]) -> None:
    bad = {index for index in bad if index < count}
    images = [bytes([i]) for i in range(count)]
    plan = PLANNER.embed_images(images, "nan", {"dimensions": None})
    answers, sent = [], []
    for ask in plan.requests:
        part = [content for _, content in ask.options["files"]]
        assert ask.count == len(part) <= 4
        assert ask.options["data"] == {"model": "m"}  # what was not given is not sent
        rows = np.array([[content[0], 1.0] for content in part])
        failed = [i for i, content in enumerate(part) if content[0] in bad]
        rows[failed] = np.nan
        answers.append(answer_rows(rows, failed))
        sent += part
    rows = plan.join(answers)
    assert sent == images
    assert [int(i) for i in np.flatnonzero(np.isnan(rows[:, 0]))] == sorted(bad) if count else True
    assert [int(row[0]) for i, row in enumerate(rows) if i not in bad] == [
        i for i in range(count) if i not in bad
    ]


def test_failed_items_are_numbered_over_all_parts() -> None:
    plan = PLANNER.embed_images([b"x"] * 8, "raise", {})
    answers = [answer_rows(np.ones((4, 2)), [1]), answer_rows(np.ones((4, 2)), [0, 3])]
    with pytest.raises(InputError, match="items 1, 4, 7 could not be embedded"):
        plan.join(answers)


def test_labels_are_numbered_through(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"pixels")
    plan = PLANNER.zero_shot([tmp_path / "a.png", b"x", b"y", b"z", b"w"], {"classes": ["cat"]})
    assert plan.requests[0].options["files"][0] == ("images", b"pixels")
    answers = [
        httpx.Response(200, json={"data": [{"index": i, "labels": []} for i in range(ask.count)]})
        for ask in plan.requests
    ]
    assert [entry["index"] for entry in plan.join(answers)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("one", ["red", b"pixels"])
def test_a_single_item_without_a_list_is_refused(one: Any) -> None:
    with pytest.raises(InputError, match=r"wrap a single item as \[item\]"):
        PLANNER.embed_images(one, "raise", {})


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (429, None, True),
        (503, None, True),
        (503, "false", False),
        (500, None, False),
        (500, "true", True),
        (400, None, False),
    ],
)
def test_the_server_says_what_is_retried(status: int, said: str | None, expected: bool) -> None:
    headers = {} if said is None else {"x-should-retry": said}
    assert is_retried(httpx.Response(status, headers=headers)) == expected


@given(st.integers(0, 60_000), st.sampled_from(["retry-after-ms", "retry-after"]))
def test_a_client_waits_as_long_as_it_is_told_and_a_little_of_its_own(
    said: int, header: str
) -> None:
    told = min(30.0, said * (0.001 if header.endswith("ms") else 1.0))
    wait = choose_wait(httpx.Response(429, headers={header: str(said)}), attempt=0)
    assert told <= wait <= 1.25 * told


@given(st.integers(0, 40))
def test_untold_waits_double_up_to_a_limit(attempt: int) -> None:
    longest = min(30.0, 0.25 * 2**attempt)
    for answer in (None, httpx.Response(503, headers={"retry-after": "tomorrow"})):
        assert longest / 2 <= choose_wait(answer, attempt) <= longest


def test_an_error_carries_what_the_server_said() -> None:
    said = {"error": {"message": "is too large", "param": "inputs[3]", "code": "too_large"}}
    with pytest.raises(ServerError, match=r"inputs\[3\]: is too large") as caught:
        check(httpx.Response(413, json=said, headers={"x-request-id": "r1"}))
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (
        413,
        "too_large",
        "r1",
    )
    with pytest.raises(ServerError, match="the server answered 502"):
        check(httpx.Response(502, text="<html>bad gateway</html>"))


def test_the_purpose_of_texts_is_sent_with_every_part() -> None:
    texts = [str(i) for i in range(40)]
    plan = PLANNER.embed_texts(texts, "raise", {"input_type": "query"})
    assert [ask.options["json"]["input_type"] for ask in plan.requests] == ["query", "query"]
    assert "input_type" not in PLANNER.embed_texts(texts, "raise", {}).requests[0].options["json"]
