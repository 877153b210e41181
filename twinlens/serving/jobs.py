"""Jobs: long work beside live traffic, with progress, resumed after a restart.

A job's record is written before the job is acknowledged; a job that was interrupted by the end of
the process is resumed at the next start by the function registered for its kind.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from twinlens.errors import NotFoundError, OverloadedError, TwinlensError
from twinlens.serving.failures import DiskFullError
from twinlens.serving.files import write_file

log = logging.getLogger("twinlens.serving")

_MOST_FINISHED = 1000  # finished jobs that are listed
_MOST_OPEN = 64


@dataclass
class Job:
    """One piece of long work. `spec` holds all that a restart needs; clients do not see it."""

    kind: str
    spec: dict[str, Any]
    total: int
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = "queued"  # then running, then done or failed
    done: int = 0
    stage: str | None = None  # the current stage, if it has a name
    error: str | None = None
    result: dict[str, Any] | None = None
    created: float = field(default_factory=time.time)
    finished: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return the fields that a client may see."""
        shown = {name: value for name, value in asdict(self).items() if name != "spec"}
        return {"object": "job", **shown, "progress": self.done / max(1, self.total)}


Work = Callable[[Job], Awaitable[dict[str, Any]]]


class JobBook:
    """The jobs of a server; one runs at a time, in order."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._kinds: dict[str, Work] = {}
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()

    def register(self, kind: str, work: Work) -> None:
        """Register the function that runs jobs of a kind."""
        self._kinds[kind] = work

    def start(self, kind: str, spec: dict[str, Any], total: int) -> Job:
        """Record a job and queue it."""
        if sum(job.finished is None for job in self._jobs.values()) >= _MOST_OPEN:
            raise OverloadedError(f"{_MOST_OPEN} jobs are waiting already", retry_after=30)
        job = Job(kind, spec, total)
        self._record(job)
        self._launch(job)
        return job

    def find(self, name: str) -> Job:
        """Return a job by its id."""
        if name not in self._jobs:
            raise NotFoundError(f"there is no job {name[:40]!r}", field="id")
        return self._jobs[name]

    def all(self) -> list[Job]:
        """Return every known job, newest first."""
        return sorted(self._jobs.values(), key=lambda job: -job.created)

    def resume(self) -> None:
        """Read the records of an earlier process and resume its unfinished jobs."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob("*.json")):
            try:
                job = Job(**orjson.loads(path.read_bytes()))
            except (ValueError, TypeError):
                log.error("the record of job %s is damaged and is skipped", path.stem)
                continue
            self._jobs[job.id] = job
            if job.finished is None:
                self._launch(job)

    def partial_path(self, job: Job) -> Path | None:
        """Return the file for a job's partial result."""
        return None if self._folder is None else self._folder / f"{job.id}.partial.npz"

    async def close(self) -> None:
        """Stop running jobs; their records stay unfinished, so they are resumed later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _launch(self, job: Job) -> None:
        self._jobs[job.id] = job
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, job: Job) -> None:
        """Run a job in its turn and record how it ended."""
        async with self._turn:
            job.state = "running"
            try:
                job.result = await self._kinds[job.kind](job)
                job.state, job.done = "done", job.total
            except TwinlensError as error:
                job.state, job.error = "failed", error.message
            except Exception:
                log.exception("job %s failed", job.id)
                job.state, job.error = "failed", "internal error"
            job.finished = time.time()
            with suppress(DiskFullError):  # then it runs again at the next start
                self._record(job)
            partial = self.partial_path(job)
            if partial is not None:
                partial.unlink(missing_ok=True)
            self._forget_old()

    def _record(self, job: Job) -> None:
        if self._folder is not None:
            write_file(self._folder / f"{job.id}.json", orjson.dumps(asdict(job)))

    def _forget_old(self) -> None:
        finished = [job for job in self._jobs.values() if job.finished is not None]
        for job in sorted(finished, key=lambda job: job.created)[:-_MOST_FINISHED]:
            del self._jobs[job.id]
            if self._folder is not None:
                (self._folder / f"{job.id}.json").unlink(missing_ok=True)
