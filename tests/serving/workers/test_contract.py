"""What the paths answer, asked of two HTTP processes: the tests of one process, run again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.serving.routes import (
    test_classifiers,
    test_doubt,
    test_embed,
    test_similarity,
    test_tag,
    test_zeroshot,
)
from tests.serving.routes.dialects import (
    test_cohere_voyage,
    test_immich,
    test_infinity,
    test_openai,
    test_rerank,
    test_tei,
)
from tests.serving.workers.conftest import ColourFamily

_GIVEN = {"client", "image", "uri"}
_MODULES = (
    *(test_classifiers, test_doubt, test_embed, test_similarity, test_tag, test_zeroshot),
    *(test_cohere_voyage, test_immich, test_infinity, test_openai, test_rerank, test_tei),
)


def _list_tests() -> list[Any]:
    """Return the tests that only ask a server, and change nothing in it by hand."""
    found = []
    for module in _MODULES:
        for name, test in vars(module).items():
            if not name.startswith("test_") or not inspect.isfunction(test):
                continue
            wanted = set(inspect.signature(test).parameters)
            is_foreign = hasattr(test, "pytestmark") or "client.service" in inspect.getsource(test)
            if "client" in wanted and wanted <= _GIVEN and not is_foreign:
                found.append(pytest.param(test, id=name))
    return found


@pytest.mark.parametrize("test", _list_tests())
def test_two_workers_answer_as_one_process_does(
    test: Callable[..., None],
    colours: ColourFamily,
    image: Callable[..., bytes],
    uri: Callable[..., str],
) -> None:
    given = {"client": colours.client, "image": image, "uri": uri}
    test(**{name: given[name] for name in inspect.signature(test).parameters})


def test_many_tests_are_run_again() -> None:
    assert len(_list_tests()) >= 50


def test_a_client_of_each_process_is_answered_alike(colours: ColourFamily) -> None:
    rows = []
    for _ in range(4):  # the keeper deals connections out in turn
        with httpx.Client(base_url=colours.url) as client:
            rows.append(client.post("/embed", json={"texts": ["red"]}).json()["embeddings"])
            rows.append(client.post("/embed", json={"texts": ["red"]}).json()["embeddings"])
    assert all(row == rows[0] for row in rows)
