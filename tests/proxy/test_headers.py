"""Which headers cross."""

import base64

import pytest

from proxy.headers import for_upstream

SECRET = b"us-admin-1"
LOGGED_IN = b"Basic " + base64.b64encode(b"me:us-admin-1")


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer us-admin-1"),
        (b"authorization", b"bearer \tus-admin-1"),
        (b"authorization", b"Bearer\tus-admin-1"),
        (b"authorization", b"us-admin-1"),
        (b"authorization", LOGGED_IN),  # a browser that is logged in at the start page
        (b"authorization", LOGGED_IN.replace(b"Basic", b"basic")),
        (b"x-api-key", b"us-admin-1"),
    ],
)
def test_the_admin_token_stays_here_in_whatever_form(header: tuple[bytes, bytes]) -> None:
    assert for_upstream([(b"accept", b"*/*"), header], None, SECRET) == [(b"accept", b"*/*")]


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer sk-mine"),
        (b"authorization", b"Basic " + base64.b64encode(b"me:mine")),
        (b"authorization", b"Basic n:ot*base64"),
        (b"authorization", b""),
        (b"x-tag", b"not-us-admin-1"),
    ],
)
def test_what_is_the_clients_own_crosses(header: tuple[bytes, bytes]) -> None:
    assert for_upstream([header], None, SECRET) == [header]


def test_a_configured_credential_takes_the_place_of_all_of_the_clients() -> None:
    headers = [(b"authorization", b"Bearer sk-1"), (b"authorization", b"Bearer sk-2")]
    assert for_upstream(headers, b"Bearer ours", SECRET) == [(b"authorization", b"Bearer ours")]
