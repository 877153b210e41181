"""Replicas of the server on Ray Serve, scaled by the number of requests.

A Serve config file names `build_application`. A replica answers whole requests, so no answer mixes
two revisions, even in a rolling upgrade. What must stay true: replicas share no folder that a
server writes, only bundles and collections that are read-only or in a store.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from twinlens.errors import InputError, MissingDependencyError
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.launch import build_opener
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings, override

if TYPE_CHECKING:
    from starlette.types import ASGIApp

NAME = "twinlens"
IMPORT_PATH = "twinlens.serving.ray_serve:build_application"
BUILTIN = {"builtin": "builtin"}
START_TRIES = 4  # Serve gives a proxy 15 s, in which a busy machine may not import it


@dataclass(frozen=True)
class ReplicaPlan:
    """What each replica serves, and how many there are.

    Ray runs `least` to `most` replicas, so that each has about `ongoing` requests, waiting ones
    included. `settings` are NAME=VALUE, as in `twinlens serve --set`.
    """

    bundles: Mapping[str, str] = field(default_factory=lambda: dict(BUILTIN))
    collections: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    least: int = 1
    most: int = 4
    ongoing: int = 8
    cpus: float = 1
    gpus: float = 0
    upgrade: str = ""  # in a config file: a changed text replaces the replicas one by one

    def check(self) -> None:
        """Refuse a plan that cannot work, before anything is started."""
        if not 1 <= self.least <= self.most:
            raise InputError(
                f"replicas are {self.least} to {self.most}; the minimum must be at least 1 and not"
                " above the maximum",
                field="replicas",
            )
        if self.ongoing < 1:
            raise InputError(f"ongoing is {self.ongoing}; it must be at least 1", field="ongoing")
        read_settings(self.settings)


def read_settings(options: tuple[str, ...]) -> ServerSettings:
    """Return the settings of a replica; raise if they name a data folder."""
    settings = ServerSettings()
    for option in options:
        name, sign, value = option.partition("=")
        if not sign:
            raise InputError(f"setting {option!r} has no value; write NAME=VALUE", field="settings")
        settings = override(settings, name.strip(), value.strip())
    if settings.data is not None:
        raise InputError(
            "replicas on Ray Serve share no folder: leave `data` out, and keep collections in a"
            " store",
            field="data",
        )
    return settings


def build_application(args: dict[str, Any]) -> Any:
    """Return the Serve application of these arguments: the fields of `ReplicaPlan`."""
    known = {**args, "settings": tuple(args.get("settings", ()))}
    try:
        plan = ReplicaPlan(**known)
    except TypeError as error:
        raise InputError(f"args of the Serve config: {error}", field="args") from None
    plan.check()
    serve = import_serve()
    drain = read_settings(plan.settings).watch.drain_seconds
    deployment = serve.deployment(
        name=NAME,
        ray_actor_options={"num_cpus": plan.cpus, "num_gpus": plan.gpus},
        autoscaling_config={
            "min_replicas": plan.least,
            "max_replicas": plan.most,
            "target_ongoing_requests": plan.ongoing,
        },
        max_ongoing_requests=8 * plan.ongoing,
        health_check_period_s=5,
        graceful_shutdown_wait_loop_s=1,
        graceful_shutdown_timeout_s=max(5.0, drain),
    )(serve.ingress(plan_replica(plan))())
    return deployment.bind()


def plan_replica(plan: ReplicaPlan) -> Callable[[], ASGIApp]:
    """Return the function that a replica runs once: it returns the application to serve."""

    def start() -> ASGIApp:
        settings = read_settings(plan.settings)
        opener = build_opener(settings, threads=max(1, int(plan.cpus)))
        service = Service(settings, opener)
        for name, path in plan.bundles.items():
            service.load(name, path)
        store = CollectionStore()
        for name, place in plan.collections.items():
            store.add(name, place)
        return add_middleware(build_app(service, build_routers(service, store)))

    return start


def deploy_replicas(plan: ReplicaPlan, address: str | None, host: str, port: int) -> None:
    """Start or upgrade the replicas; return once they answer."""
    plan.check()
    serve = import_serve()
    import ray

    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    _start_serve(serve, host, port)
    arguments = {**asdict(plan), "settings": list(plan.settings)}
    serve.run(build_application(arguments), name=NAME, route_prefix="/")


def _start_serve(serve: Any, host: str, port: int) -> None:
    """Start Serve; on a busy machine it replaces a proxy that was not ready in time."""
    from ray.exceptions import RayActorError

    for left in reversed(range(START_TRIES)):
        try:
            serve.start(http_options={"host": host, "port": port}, proxy_location="HeadOnly")
            return
        except (RayActorError, TimeoutError) as error:
            if not left:
                raise InputError(
                    f"the proxies of Ray Serve did not start in {START_TRIES} tries: the nodes are"
                    " busy; start the cluster with a larger"
                    " RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S (default: 5)",
                    field="address",
                ) from error


def write_config(plan: ReplicaPlan, host: str, port: int) -> str:
    """Return the Serve config file of a plan, as `serve deploy FILE` takes it."""
    lines = [
        "# serve deploy FILE; `args` are the fields of twinlens.serving.ray_serve.ReplicaPlan",
        "proxy_location: EveryNode",
        "http_options:",
        f"  host: {host}",
        f"  port: {port}",
        "applications:",
        f"  - name: {NAME}",
        "    route_prefix: /",
        f"    import_path: {IMPORT_PATH}",
        "    args:",
    ]
    lines += [f"      {name}: {json.dumps(value)}" for name, value in asdict(plan).items()]
    return "\n".join(lines) + "\n"


def import_serve() -> Any:
    """Return Ray Serve."""
    try:
        from ray import serve
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "`twinlens deploy ray` needs Ray Serve: pip install 'twinlens[ray]'"
        ) from None
    return serve
