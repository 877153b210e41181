"""Questions from one process to others, passed on by the keeper, and their answers gathered.

What must stay true: a question ends when all that were asked have answered or ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from twinlens.serving.workers.members import Member

Done = Callable[[list[Any], list[Any]], None]  # bodies, errors


@dataclass
class _Question:
    """One question and those that have not answered it."""

    done: Done
    waiting: set[int]  # pids
    bodies: list[Any] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)


class Exchange:
    """The open questions."""

    def __init__(self) -> None:
        self._open: dict[int, _Question] = {}
        self._numbers = count(1)

    def ask(self, members: Iterable[Member], what: str, body: Any, done: Done) -> None:
        """Ask processes; `done` is called with all answers and errors."""
        asked = list(members)
        number = next(self._numbers)
        self._open[number] = _Question(done, {member.pid for member in asked})
        for member in asked:
            member.send({"id": number, "what": what, "body": body})
        self._end_if_complete(number)

    def take(self, member: Member, message: dict[str, Any]) -> None:
        """Take an answer."""
        question = self._open.get(message["re"])
        if question is None:
            return
        if "error" in message:
            question.errors.append(message["error"])
        else:
            question.bodies.append(message["body"])
        question.waiting.discard(member.pid)
        self._end_if_complete(message["re"])

    def forget(self, member: Member) -> None:
        """Expect nothing more of a process that has ended."""
        for number, question in list(self._open.items()):
            question.waiting.discard(member.pid)
            self._end_if_complete(number)

    def _end_if_complete(self, number: int) -> None:
        question = self._open.get(number)
        if question is not None and not question.waiting:
            del self._open[number]
            question.done(question.bodies, question.errors)
