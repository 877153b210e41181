"""Write the table of paths into `docs/serve.md`, from what the route files declare.

    python docs/draw_routes.py         # rewrites what stands between the page's markers

What must stay true: the table says what the OpenAPI document says, in the same words.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, NoReturn

from twinlens.serving.app import build_app
from twinlens.serving.collections.store import CollectionStore
from twinlens.serving.openapi.document import list_operations
from twinlens.serving.routes.collections.lifecycle import build_routers
from twinlens.serving.service import Service
from twinlens.serving.settings import ServerSettings

PAGE = Path(__file__).with_name("serve.md")
START = "<!-- paths: made by python docs/draw_routes.py -->\n"
END = "<!-- end of paths -->"

Operations = dict[tuple[str, str], dict[str, Any]]


def read_operations(*, collections: bool = True) -> Operations:
    """Return what a server declares, by method and path; one without collections has fewer."""
    return list_operations(read_document(collections=collections))


def read_document(*, collections: bool = True) -> dict[str, Any]:
    """Return the OpenAPI document of a server that serves nothing yet."""
    service = Service(ServerSettings(), _open_nothing)
    routers = build_routers(service, CollectionStore(None)) if collections else []
    document = build_app(service, routers).openapi()
    service.close()
    return document


def draw_table(operations: Operations) -> str:
    """Return the table: a line for each method of a path, the paths of a topic together."""
    topics: defaultdict[str, list[str]] = defaultdict(list)
    for (method, path), operation in operations.items():
        says = operation["description"].partition("\n")[0]
        topics[operation["tags"][-1]].append(f"| `{method.upper()} {path}` | {says} |")
    lines = ["| path | what it does |", "|---|---|"]
    return "\n".join([*lines, *(line for topic in sorted(topics) for line in topics[topic])])


def write_table(page: str, operations: Operations) -> str:
    """Return the page with the table made anew."""
    before, _, rest = page.partition(START)
    return f"{before}{START}{draw_table(operations)}\n{END}{rest.partition(END)[2]}"


def _open_nothing(source: str, precision: str) -> NoReturn:
    raise LookupError("no bundle is opened for a table")


if __name__ == "__main__":
    PAGE.write_text(write_table(PAGE.read_text(encoding="utf-8"), read_operations()))
