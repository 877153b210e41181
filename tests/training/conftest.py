"""What all training tests share: a cache of their own, for what frozen models have answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = str(tmp_path_factory.mktemp("cache"))
    with mock.patch.dict(os.environ, {"TWINLENS_CACHE": folder}):
        yield
