"""The process that starts all others, passes connections to them, and restarts those that end.

It opens no bundle and answers no request. What must stay true: whichever other process ends, the
sockets and the table of models outlive it; and when this one ends, all others do.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twinlens.errors import TwinlensError
from twinlens.serving.workers.exchange import Exchange
from twinlens.serving.workers.family import ENCODER, HEAD, HTTP, Family
from twinlens.serving.workers.hand_out import ConnectionDealer
from twinlens.serving.workers.items.frames import build_error
from twinlens.serving.workers.members import Main, Member, fork_member
from twinlens.serving.workers.metric_sums import add_dumps, keep_counted
from twinlens.serving.workers.restarts import Restarts
from twinlens.serving.workers.table import ModelTable, make_entry, make_keys

log = logging.getLogger("twinlens.serving")

_TICK_SECONDS = 0.1
_LATE_SECONDS = 5.0  # beyond the time for draining, until a process is killed
_ORDER = (HTTP, HEAD, ENCODER)  # in which processes end: each needs those behind it

Mains = Mapping[str, Callable[[int], Main]]  # by kind: what the process of an index runs


class Keeper:
    """The family of one server."""

    def __init__(self, family: Family, dealer: ConnectionDealer, mains: Mains) -> None:
        self._family = family
        self._dealer = dealer
        self._mains = mains
        self._members: dict[int, Member] = {}  # by descriptor
        self._exchange = Exchange()
        self._poll = select.poll()
        self._table = ModelTable()
        self._told: dict[str, Any] = {"faults": ["the server is starting"], "draining": False}
        self._departed: list[Any] = []  # what ended processes have counted
        self._signals: list[int] = []
        self._error: TwinlensError | None = None
        self._is_dealing = False
        self._is_draining = False
        self._ending: set[str] = set()  # kinds of processes that are not needed any more
        self._restarts = Restarts(_ORDER)

    @property
    def table(self) -> ModelTable:
        """What is served."""
        return self._table

    def start(self) -> None:
        """Start all processes; return when each serves every bundle, or raise why not."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda found, _: self._signals.append(found))
        for index in range(len(self._family.openers.devices)):
            self._start(ENCODER, index)
        self._start(HEAD, 0)
        for index in range(self._family.workers):
            self._start(HTTP, index)
        for name, source in self._family.named.items():
            self._open(name, source)
        self._apply(self._table.write())
        self._wait(lambda: all(member.is_ready for member in self._members.values()))

    def serve(self) -> int:
        """Deal out connections until a signal; return it once all processes have ended."""
        self._dealer.listen()
        self._is_dealing = True
        self._poll.register(self._dealer.sockets[0], select.POLLIN)
        self._wait(lambda: bool(self._signals))
        self._drain()
        return self._signals[0]

    def stop(self) -> None:
        """End whatever still runs."""
        for member in list(self._members.values()):
            member.kill()
            os.waitpid(member.pid, 0)

    def _start(self, kind: str, index: int) -> None:
        foreign = [member.end for member in self._members.values()]
        foreign += self._dealer.sockets
        member = fork_member(kind, index, self._mains[kind](index), foreign)
        self._members[member.end.fileno()] = member
        self._poll.register(member.end, select.POLLIN)
        member.send({"what": "state", "body": self._told})
        if self._table.entries:
            self._ask([member], "models", self._table.write(), self._note_ready(member))

    def _open(self, name: str, source: str) -> None:
        """Open a bundle in the encoder processes, and add it to the table."""
        body = {
            "name": name,
            "source": source,
            "keys": make_keys(name, self._family.settings.precisions),
        }
        found: list[Any] = []
        self._ask(self._of(ENCODER), "open", body, lambda *answer: found.append(answer))
        self._wait(lambda: bool(found))
        bodies, errors = found[0]
        if errors or not bodies:
            raise build_error(errors[0]) if errors else _died(name)
        self._table = self._table.replace(make_entry(name, source, bodies))

    def _apply(self, body: Any) -> None:
        for member in list(self._members.values()):
            self._ask([member], "models", body, self._note_ready(member))

    def _note_ready(self, member: Member) -> Callable[[list[Any], list[Any]], None]:
        def note(bodies: list[Any], errors: list[Any]) -> None:
            if bodies:
                member.is_ready = True
            elif errors:
                log.error("%s cannot serve: %s", member.name, errors[0]["message"])
                self._error = self._error or build_error(errors[0])
                member.kill()

        return note

    def _ask(
        self,
        members: Iterable[Member],
        what: str,
        body: Any,
        done: Callable[[list[Any], list[Any]], None],
    ) -> None:
        self._exchange.ask(members, what, body, done)

    def _of(self, *kinds: str) -> list[Member]:
        return [member for member in self._members.values() if member.kind in kinds]

    def _wait(self, is_done: Callable[[], bool]) -> None:
        """Run until a condition holds; raise the error that ended a start."""
        while not is_done():
            self._turn()
            if self._error is not None and not self._is_dealing:
                raise self._error
            if self._signals and not self._is_dealing:
                raise KeyboardInterrupt

    def _turn(self) -> None:
        """Handle messages, connections and ended processes once."""
        for member in self._members.values():
            self._poll.modify(
                member.end, select.POLLIN | (select.POLLOUT if member.has_unsent else 0)
            )
        for descriptor, event in self._poll.poll(_TICK_SECONDS * 1000):
            found = self._members.get(descriptor)
            if found is not None:
                if event & select.POLLOUT:
                    found.flush()
                for message in found.receive():
                    self._take(found, message)
            elif self._is_dealing:
                self._dealer.deal({m.index for m in self._of(HTTP) if m.is_ready})
        self._bury()
        self._kill_silent()
        self._start_due()
        self._tell_state()

    def _take(self, member: Member, message: dict[str, Any]) -> None:
        if "re" in message:
            self._exchange.take(member, message)
        elif message["what"] == "faults":
            member.faults = message["body"]
        elif "id" in message:
            self._pass_on(member, message)

    def _pass_on(self, member: Member, message: dict[str, Any]) -> None:
        """Pass a process's question on to others."""
        number, to, what, body = (message[name] for name in ("id", "to", "what", "body"))

        def reply(bodies: list[Any], errors: list[Any]) -> None:
            member.send({"re": number, "bodies": bodies, "errors": errors})

        if what == "metrics":
            self._gather_metrics(lambda dump: reply([dump], []))
            return
        if what == "models":
            self._table = ModelTable.parse(body)
        asked = list(self._members.values()) if to == "all" else self._of(to)
        self._ask(asked, what, body, reply)

    def _gather_metrics(self, done: Callable[[Any], None]) -> None:
        """Sum the metrics of all processes, and of those that have ended."""
        members = list(self._members.values())
        left = [len(members)]

        def note(member: Member) -> Callable[[list[Any], list[Any]], None]:
            def take(bodies: list[Any], errors: list[Any]) -> None:
                if bodies:
                    member.counted = bodies[0]
                left[0] -= 1
                if not left[0]:
                    dumps = [one.counted for one in members]
                    done(add_dumps([*dumps, self._departed, self._restarts.describe()]))

            return take

        for member in members:
            self._ask([member], "metrics", None, note(member))

    def _bury(self) -> None:
        """Note which processes have ended, and plan their restarts."""
        for member in list(self._members.values()):
            pid, status = os.waitpid(member.pid, os.WNOHANG)
            if not pid:
                continue
            self._poll.unregister(member.end)
            del self._members[member.end.fileno()]
            for message in member.receive():
                self._take(member, message)
            member.end.close()
            self._departed = add_dumps([self._departed, keep_counted(member.counted)])
            self._exchange.forget(member)
            if member.kind == HTTP:
                self._dealer.forget(member.index)
            if not member.is_stopping:
                self._plan_restart(member, os.waitstatus_to_exitcode(status))

    def _plan_restart(self, member: Member, code: int) -> None:
        log.error("%s ended with exit code %d; it will be restarted", member.name, code)
        if not self._is_dealing:
            self._error = self._error or _died(member.name)
        self._restarts.plan((member.kind, member.index), member.began)

    def _start_due(self) -> None:
        for kind, index in self._restarts.take_due(self._ending):
            self._start(kind, index)

    def _kill_silent(self) -> None:
        """Kill a process that has said nothing for as long as a batch may take."""
        since = time.monotonic() - self._family.settings.watch.stall_seconds
        for member in self._members.values():
            if member.is_ready and member.heard < since:
                log.error("%s does not answer and is killed", member.name)
                member.heard = time.monotonic()
                member.kill()

    def _tell_state(self) -> None:
        """Send the state of the server to every process, when it has changed."""
        state = {"faults": self._find_faults(), "draining": self._is_draining}
        if state != self._told:
            self._told = state
            for member in self._members.values():
                member.send({"what": "state", "body": state})

    def _find_faults(self) -> list[str]:
        faults = [fault for member in self._members.values() for fault in member.faults]
        ready = [(one.kind, one.index) for one in self._members.values() if one.is_ready]
        for index in range(len(self._family.openers.devices)):
            if (ENCODER, index) not in ready:
                faults.append("an encoder process is starting")
        if (HEAD, 0) not in ready:
            faults.append("the head process is starting")
        if not any(kind == HTTP for kind, _ in ready):
            faults.append("no HTTP process has started")
        return faults

    def _drain(self) -> None:
        """End all processes in order, each after it has answered its requests."""
        watch = self._family.settings.watch
        self._is_draining = True
        log.info("draining: readiness is off")
        seen = len(self._signals)
        if self._signals[0] == signal.SIGTERM:
            end = time.monotonic() + watch.drain_notice
            self._wait(lambda: time.monotonic() >= end or len(self._signals) > seen)
        self._poll.unregister(self._dealer.sockets[0])
        self._dealer.sockets[0].close()
        for kind in _ORDER:
            self._end(kind, watch.drain_seconds + _LATE_SECONDS, seen)

    def _end(self, kind: str, seconds: float, seen: int) -> None:
        self._ending.add(kind)
        for member in self._of(kind):
            member.is_stopping = True
            member.send({"what": "stop", "body": None})
        end = time.monotonic() + seconds
        self._wait(
            lambda: not self._of(kind) or time.monotonic() >= end or len(self._signals) > seen
        )
        for member in self._of(kind):
            member.kill()
        self._wait(lambda: not self._of(kind))


def _died(what: str) -> TwinlensError:
    return TwinlensError(f"{what} ended while it started; the lines above say why")
