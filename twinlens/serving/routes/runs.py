"""`/runs`: the training runs below the folder of `--runs`, and their numbers as they are logged.

What must stay true: only folders directly inside it are read; a line that is being written is left
for the next request; no code of training is imported.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from twinlens.errors import NotFoundError
from twinlens.serving.openapi.declaration import Name, answer, declare
from twinlens.serving.openapi.schemas import (
    COUNT,
    FLAG,
    NUMBER,
    STRING,
    array_of,
    closed_object,
    component,
    list_of,
    means,
)
from twinlens.serving.requests.answers import answer_json
from twinlens.serving.service import Service

LOG, CONFIG = "log.jsonl", "config.json"  # as a run on disk has them
LIVE_SECONDS = 90.0  # a run that logged a row within them counts as live
MOST_ROWS = 4000
RUN = component(
    "TrainingRun",
    closed_object(
        ["object", "name", "method", "is_live", "changed"],
        object={"const": "run"},
        name=means(STRING, "Name of its folder"),
        method=means(STRING, "Training method, e.g. `simclr`; empty if not recorded"),
        is_live=means(FLAG, f"Whether it logged within the last {LIVE_SECONDS:g} s"),
        changed=means(NUMBER, "When it logged last, in seconds since 1970"),
        steps=means(COUNT, "Planned steps; 0: not recorded"),
    ),
)
RUNS = list_of("TrainingRunList", RUN, "The runs, newest first")
ROWS = component(
    "TrainingLog",
    closed_object(
        ["object", "name", "rows"],
        object={"const": "run.log"},
        name=means(STRING, "Name of the run"),
        rows=means(
            array_of({"type": "object"}),
            f"Logged numbers by name, oldest first; thinned out evenly to at most {MOST_ROWS}",
        ),
    ),
)


def build_router(service: Service) -> APIRouter:
    """Return the router of this file."""
    router = APIRouter(tags=["runs"])
    folder = service.settings.runs

    @router.get("/runs", **declare({200: answer(RUNS, "The runs")}))
    async def get_runs(request: Request) -> Response:
        """List the training runs, newest first; none without --runs."""
        service.authorize(request, "read")
        data = await run_in_threadpool(_list_runs, folder)
        return answer_json({"object": "list", "data": data})

    @router.get("/runs/{name}/log", **declare({200: answer(ROWS, "The logged rows")}))
    async def get_log(
        name: Name,
        request: Request,
        after: Annotated[int, Query(description="Leave out rows up to this step")] = -1,
    ) -> Response:
        """Return the numbers that a run has logged after a step."""
        service.authorize(request, "read")
        rows = await run_in_threadpool(_read_rows, folder, name, after)
        told = {"object": "run.log", "name": name, "rows": rows}
        return answer_json(told)

    return router


def _find_logs(folder: Path | None) -> dict[str, Path]:
    """Return the logs of the runs by name."""
    if folder is None or not folder.is_dir():
        return {}
    return {one.name: one / LOG for one in sorted(folder.iterdir()) if (one / LOG).is_file()}


def _list_runs(folder: Path | None) -> list[dict[str, Any]]:
    found = []
    for name, log in _find_logs(folder).items():
        changed = log.stat().st_mtime
        config = _read_config(log.with_name(CONFIG))
        found.append(
            {
                "object": "run",
                "name": name,
                "method": str(config.get("method", "")),
                "is_live": time.time() - changed < LIVE_SECONDS,
                "changed": changed,
                "steps": _read_steps(config),
            }
        )
    return sorted(found, key=lambda one: -float(one["changed"]))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _read_steps(config: dict[str, Any]) -> int:
    """Return how many steps are planned, wherever the configuration holds them."""
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    return next((one["steps"] for one in parts if isinstance(one.get("steps"), int)), 0)


def _read_rows(folder: Path | None, name: str, after: int) -> list[dict[str, Any]]:
    log = _find_logs(folder).get(name)
    if log is None:
        raise NotFoundError(f"there is no run {name[:64]!r}; GET /runs lists them", field="name")
    rows = []
    for line in log.read_bytes().splitlines():
        try:
            row = orjson.loads(line)
        except ValueError:
            continue  # being written
        if isinstance(row, dict) and isinstance(row.get("step"), int) and row["step"] > after:
            rows.append(row)
    step = max(1, -(-len(rows) // MOST_ROWS))
    return rows[::-1][::step][::-1]  # the newest row is always there
