"""The LLM's client, where a relayed call does not show it."""

from __future__ import annotations

import pytest

from proxy.errors import UpstreamUnreachable
from proxy.transport.http1 import Pool


@pytest.mark.parametrize(("host", "shown"), [("::1", r"at \[::1\]:9 "), ("127.0.0.1", r"at 127\.0\.0\.1:9 ")])
async def test_an_address_is_written_as_in_a_url(host: str, shown: str) -> None:
    with pytest.raises(UpstreamUnreachable, match=shown):
        await Pool(host, 9, None, 5.0).take()
