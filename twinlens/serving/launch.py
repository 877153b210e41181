"""Starts and stops a server: opens and verifies its bundles, listens, drains on SIGTERM.

What must stay true: no connection is accepted before every bundle has reproduced its golden
vectors.
"""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, MappingProxyType

import uvicorn
from fastapi import APIRouter
from starlette.types import ASGIApp

from twinlens.bundle.encoder import find_bundle, open_bundle
from twinlens.bundle.image.preprocessing import ImageLimits
from twinlens.bundle.manifest import Manifest
from twinlens.bundle.model_card import read_card
from twinlens.errors import InputError
from twinlens.serving.admission.middleware import RequestMiddleware
from twinlens.serving.admission.origin_guard import list_hosts
from twinlens.serving.admission.protocol import build_protocol
from twinlens.serving.app import add_middleware, build_app
from twinlens.serving.contracts import StagedEncoder
from twinlens.serving.engine.memory import freeze_objects
from twinlens.serving.observe.logs import configure_logs
from twinlens.serving.service import Opener, Service
from twinlens.serving.settings import ServerSettings

log = logging.getLogger("twinlens.serving")

_EXAMPLE = Path("examples/heart.png")  # exists in a checkout, where `make serve` runs


@dataclass(frozen=True)
class ListenAddress:
    """Where a server listens, and the files that make it answer HTTPS."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    @property
    def scheme(self) -> str:
        """Return `https` where there is a certificate."""
        return "http" if self.certificate is None else "https"

    @property
    def ssl_files(self) -> dict[str, str]:
        """Return what uvicorn needs to answer HTTPS; nothing for HTTP."""
        if self.certificate is None:
            return {}
        return {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}

    def check(self) -> None:
        """Refuse a certificate that does not work, before any bundle is opened."""
        if (self.certificate is None) != (self.key is None):
            raise InputError("--tls-cert and --tls-key belong together; give both or neither")
        if self.certificate is None:
            return
        for option, path in (("--tls-cert", self.certificate), ("--tls-key", self.key)):
            if path is None or not path.is_file():
                raise InputError(f"{option} {str(path)!r} is not a file")
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self.certificate, self.key, password=lambda: ""
            )
        except ssl.SSLError as error:
            raise InputError(
                f"--tls-cert {str(self.certificate)!r} and --tls-key {str(self.key)!r} are not a "
                f"PEM certificate and its unencrypted key: {error.reason or error}"
            ) from None


def build_opener(
    settings: ServerSettings,
    *,
    device: str = "auto",
    threads: int | None = None,
    engine: str = "auto",
    fast: bool = False,
    device_memory: float | None = None,
) -> Opener:
    """Return a function that opens a bundle and verifies it by its golden vectors."""
    limits = ImageLimits(
        max_bytes=settings.limits.image_bytes, max_pixels=settings.limits.image_pixels
    )

    def open_encoder(source: str, precision: str) -> StagedEncoder:
        folder = find_bundle(source, settings.precisions, tell=log.info)
        encoder = open_bundle(
            folder,
            precision=precision,
            device=device,
            threads=threads,
            engine=engine,
            fast=fast,
            limits=limits,
            device_memory=device_memory,
        )
        encoder.check()
        encoder.warm_up()
        return encoder

    return open_encoder


def bind_port(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address, not yet listening; port 0 picks a free port.

    Bound before any bundle is opened, so that a port in use is reported at once.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise InputError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --port "
            "or --host"
        ) from None
    return listener


def run_server(
    service: Service,
    listener: socket.socket,
    more: Sequence[APIRouter] = (),
    ssl_files: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Serve until a signal asks to stop; return when the server has drained."""
    configure_logs(service.settings.log_format, requests=service.settings.log_requests)
    hosts = list_hosts(listener.getsockname()[0], service.settings.hosts)
    app = add_middleware(build_app(service, more), hosts)
    config = configure_server(app, app, ssl_files)
    freeze_objects()
    DrainingServer(config, service).run([listener])


def configure_server(
    app: ASGIApp,
    middleware: RequestMiddleware,
    ssl_files: Mapping[str, str] = MappingProxyType({}),
) -> uvicorn.Config:
    """Return how an application is served; `middleware` is the layer that admits requests."""
    watch = middleware.service.settings.watch
    return uvicorn.Config(
        app,
        http=build_protocol(middleware),
        ws="none",  # no WebSocket endpoints
        log_config=None,
        access_log=False,
        proxy_headers=False,  # client addresses are not used
        server_header=False,
        timeout_graceful_shutdown=max(1, round(watch.drain_seconds)),
        backlog=2048,
        ssl_certfile=ssl_files.get("ssl_certfile"),
        ssl_keyfile=ssl_files.get("ssl_keyfile"),
    )


class DrainingServer(uvicorn.Server):
    """A server that announces its shutdown before it stops.

    The first signal turns readiness off at once and keeps serving for the notice, so that a load
    balancer can stop sending traffic; then the socket closes and requests in flight finish, within
    the limit. A second signal ends the wait.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._timer: threading.Timer | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining at the first signal, stop at the second."""
        if self._service.is_draining or sig == signal.SIGINT:
            super().handle_exit(sig, frame)
            return
        self._service.is_draining = True
        log.info("draining: readiness is off")
        self._timer = threading.Timer(
            self._service.settings.watch.drain_notice, self._stop_listening
        )
        self._timer.daemon = True
        self._timer.start()

    def _stop_listening(self) -> None:
        self.should_exit = True


def announce(service: Service, listener: socket.socket, scheme: str = "http") -> None:
    """Print what is served and where."""
    named = [(name, service.registry.find(name).default) for name in service.registry.names]
    models = [ServedBundle(name, m.encoder.manifest, m.encoder.provider) for name, m in named]
    announce_models(models, service.settings.log_format, listener, scheme)


@dataclass(frozen=True)
class ServedBundle:
    """A served bundle, as the message at the start describes it."""

    name: str
    manifest: Manifest
    provider: str

    def describe(self) -> list[str]:
        """Return a line about it, and the headline of its card if it has one."""
        manifest = self.manifest
        line = f"{self.name}: {manifest.name} {manifest.revision[:12]} on {self.provider}"
        card = read_card(manifest)
        return [line, f"  {card.headline}"] if card and card.headline else [line]


def announce_models(
    models: Sequence[ServedBundle], log_format: str, listener: socket.socket, scheme: str
) -> None:
    """Print what is served and where: text for people, or one log line for machines."""
    host, port = listener.getsockname()[:2]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    url = f"{scheme}://{shown}:{port}"
    if log_format == "json":
        told = {
            one.name: {"bundle": one.manifest.name, "revision": one.manifest.revision}
            for one in models
        }
        log.info("listening on %s", url, extra={"url": url, "models": told})
        return
    lines = [line for one in models for line in one.describe()]
    lines.append(f"listening on {url}  (the page; /docs, /metrics, /readyz)")
    lines.append(f"try: {suggest_call(url, _EXAMPLE)}")
    print("\n".join(lines), file=sys.stderr, flush=True)  # noqa: T201


def suggest_call(url: str, picture: Path) -> str:
    """Return a curl command that works unchanged: with `picture` if it exists, else with text.

    `picture` exists if the server was started from a checkout.
    """
    if picture.is_file():
        return f'curl {url}/zeroshot -F images=@{picture} -F "classes=red heart" -F classes=sun'
    body = '{"inputs": [{"text": "a red heart"}]}'
    return f"curl {url}/embed -H 'content-type: application/json' -d '{body}'"
