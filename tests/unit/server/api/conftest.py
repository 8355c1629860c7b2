"""One web process for a module's tests; each test that writes takes a project of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.server.api.web import Web


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    with Web(tmp_path_factory.mktemp("web") / "home", max_body_bytes=1 << 16) as running:
        yield running


@pytest.fixture
def project(web: Web, request: pytest.FixtureRequest) -> str:
    """A project of this test alone."""
    return web.project(f"p{abs(hash(request.node.nodeid)) % 10**12}")
