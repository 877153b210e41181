"""The line of a process to the keeper."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from twinlens.errors import InputError
from twinlens.serving.failures import EncodeError, UnavailableError
from twinlens.serving.workers.control import Control

Scenario = Callable[[Control, Control, list[str]], Awaitable[None]]


def run(scenario: Scenario) -> None:
    """Run a scenario with a process's line and the keeper's end, which passes nothing on."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        lost: list[str] = []
        process = Control(lambda: lost.append("process"))
        keeper = Control(lambda: lost.append("keeper"))
        await process.open(ours)
        await keeper.open(theirs)
        try:
            async with asyncio.timeout(20):
                await scenario(process, keeper, lost)
        finally:
            for control in (process, keeper):
                if control._transport is not None:
                    control._transport.close()
            await asyncio.sleep(0.01)

    asyncio.run(main())


async def _wait_forever(_: Any) -> None:
    await asyncio.Event().wait()


async def _fail(body: Any) -> None:
    raise InputError("width is 0", field="width") if body == "known" else KeyError("secret")


def test_a_question_is_answered_by_its_handler_and_a_message_by_nobody() -> None:
    async def scenario(process: Control, keeper: Control, _: list[str]) -> None:
        heard: list[Any] = []

        async def note(body: Any) -> Any:
            heard.append(body)
            return [body]

        process.handle("note", note)
        keeper._write({"id": 7, "what": "note", "body": {"a": 1}})
        keeper._write({"what": "note", "body": 2})
        answers: list[Any] = []
        keeper._take_answer = answers.append  # type: ignore[method-assign,assignment]
        while not answers or len(heard) < 2:
            await asyncio.sleep(0.005)
        assert heard == [{"a": 1}, 2]
        assert answers == [{"re": 7, "body": [{"a": 1}]}]

    run(scenario)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [("known", "InputError", "width is 0"), ("other", "EncodeError", "failed on this item")],
)
def test_an_error_of_a_handler_is_the_answer(body: str, kind: str, message: str) -> None:
    async def scenario(process: Control, keeper: Control, _: list[str]) -> None:
        process.handle("fail", _fail)
        answers: list[Any] = []
        keeper._take_answer = answers.append  # type: ignore[method-assign,assignment]
        keeper._write({"id": 1, "what": "fail", "body": body})
        while not answers:
            await asyncio.sleep(0.005)
        error = answers[0]["error"]
        assert error["kind"] == kind
        assert message in error["message"]
        assert "secret" not in str(answers[0])

    run(scenario)


def test_all_answers_come_back_or_the_first_error_is_raised() -> None:
    async def scenario(process: Control, keeper: Control, _: list[str]) -> None:
        asked = [asyncio.ensure_future(process.ask("http", "x")) for _ in range(2)]
        await asyncio.sleep(0)
        keeper._write({"re": 1, "errors": [], "bodies": ["a", "b"]})
        failed = {"kind": "EncodeError", "message": "no"}
        keeper._write({"re": 2, "errors": [failed], "bodies": []})
        keeper._write({"re": 9, "errors": [], "bodies": []})  # to a question of nobody
        assert await asked[0] == ["a", "b"]
        with pytest.raises(EncodeError, match="no"):
            await asked[1]

    run(scenario)


def test_when_the_keeper_has_ended_questions_fail_and_the_process_learns_of_it() -> None:
    async def scenario(process: Control, keeper: Control, lost: list[str]) -> None:
        keeper.handle("x", _wait_forever)
        asking = asyncio.ensure_future(asyncio.to_thread(process.ask_from_thread, "head", "x"))
        await asyncio.sleep(0.05)
        assert keeper._transport is not None
        keeper._transport.close()
        with pytest.raises(UnavailableError, match="shutting down"):
            await asking
        assert lost == ["process"] or sorted(lost) == ["keeper", "process"]

    run(scenario)
