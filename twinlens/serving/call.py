"""One request on its way through the stages: its deadline, and the time spent in each stage."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Protocol

from twinlens.errors import InputError, TooLargeError
from twinlens.serving.clock import Clock

STAGES = ("receive", "fetch", "decode", "queue", "encode", "score", "answer")


_numbers = count(1)
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


class Priority(IntEnum):
    """The order of queued items: small requests, then large ones, then background work."""

    SMALL = 0
    LARGE = 1
    BACKGROUND = 2


class QueueReservation(Protocol):
    """The places in a queue that were reserved when a request was admitted."""

    address: str  # of the client, as `name_client` returns it
    has_place: bool  # its body has arrived

    def arrive(self) -> None:
        """Note that the body has arrived; raise if no place is left."""
        ...

    def settle(self) -> None:
        """End the reservation: the request has entered the queue, or never will."""
        ...


@dataclass(slots=True)
class Call:
    """What a request carries through the stages besides its input."""

    clock: Clock
    deadline: float
    pixels_left: int
    wait_gone: Callable[[], Awaitable[None]] | None = None  # returns when the client has left
    reservation: QueueReservation | None = None  # made at admission
    client: str = ""  # as `name_client` returns it, for fair shares
    priority: Priority = Priority.SMALL
    number: int = field(default_factory=_numbers.__next__)  # of the request, for fair turns
    cost: float = 0.0  # seconds that its work takes, as far as that is known
    rank: float = math.inf  # arrival plus cost of a large one
    is_planned: bool = False  # the time for its work is promised
    model: str = ""  # that answered
    items: int = 0
    input_type: str | None = None  # what the texts are for, where the bundle has prompts
    failed_items: int = 0
    body_bytes: int = 0  # held for this request
    received_bytes: int = 0  # of its body, once it has ended
    refused_at: tuple[str, str] = ("", "other")  # model and queue that had no room
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Add time to a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def spend_pixels(self, pixels: int) -> None:
        """Count decoded pixels against the request's limit."""
        self.pixels_left -= pixels
        if self.pixels_left < 0:
            raise TooLargeError("the images of this request together exceed the pixel limit")

    def settle(self) -> None:
        """End the reservation: the request has entered the queue, or never will."""
        if self.reservation is not None:
            self.reservation.settle()

    @property
    def remaining(self) -> float:
        """Return the seconds until the deadline, never below zero."""
        return max(0.0, self.deadline - self.clock.now())


def name_client(address: str) -> str:
    """Return the name that a client is counted under: its IPv4 address, or its IPv6 /64 network."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), 64), strict=False))


def read_seconds(text: str) -> float:
    """Return the seconds that a Twinlens-Timeout header names."""
    if not _SECONDS.fullmatch(text):
        raise InputError(
            f"Twinlens-Timeout is {text[:40]!r}; it must be seconds, such as 2.5",
            field="Twinlens-Timeout",
        )
    return float(text)
