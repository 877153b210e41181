"""`twinlens serve --workers N`: prepares what many processes serve, and starts them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from twinlens.cli.serving.collections import find_place, following, index_images, read_named

if TYPE_CHECKING:
    from twinlens.cli.serving.collections import Images
    from twinlens.serving.launch import ListenAddress
    from twinlens.serving.settings import ServerSettings
    from twinlens.serving.workers.family import Openers


def serve_family(
    settings: ServerSettings,
    openers: Openers,
    address: ListenAddress,
    workers: int,
    named: dict[str, str],
    collections: list[str],
    images: Images | None,
) -> None:
    """Serve with many processes until a signal."""
    from twinlens.cli.serving.serve import pull_models, start_tracer
    from twinlens.serving.files import own_folder
    from twinlens.serving.launch import bind_port
    from twinlens.serving.observe.logs import configure_logs
    from twinlens.serving.workers.family_launch import FamilyPlan, run_apart, run_family

    configure_logs(settings.log_format, requests=settings.log_requests)
    address.check()
    opened = {name: Path(path) for name, path in read_named(collections)}
    with own_folder(settings.data), bind_port(address.host, address.port) as listener:
        named = run_apart(partial(pull_models, named, settings.precisions))
        first = next(iter(named.values()))
        if images is not None:
            run_apart(lambda: {"images": str(index_images(images, settings.data, first))})
            opened["images"] = find_place(images, settings.data, first)
        plan = FamilyPlan(
            settings,
            openers,
            address,
            workers,
            named,
            opened,
            partial(start_tracer, settings),
            partial(following, images, settings.data, first),
        )
        run_family(plan, listener)
