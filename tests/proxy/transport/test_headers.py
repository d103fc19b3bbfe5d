"""Which headers cross."""

import base64

import pytest

from proxy.transport.headers import for_upstream

SECRET = b"us-admin-1"
AS_PASSWORD = b"Basic " + base64.b64encode(b"me:us-admin-1")


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer us-admin-1"),
        (b"authorization", b"bearer \tus-admin-1"),
        (b"authorization", b"Bearer\tus-admin-1"),
        (b"authorization", b"us-admin-1"),
        (b"authorization", AS_PASSWORD),
        (b"authorization", AS_PASSWORD.replace(b"Basic", b"basic")),
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
        (b"cookie", b"a=1; b=2"),
        (b"cookie", b"not_understudy_session=1"),
        (b"authorization", b""),
        (b"x-tag", b"not-us-admin-1"),
    ],
)
def test_what_is_the_clients_own_crosses(header: tuple[bytes, bytes]) -> None:
    assert for_upstream([header], None, SECRET) == [header]


@pytest.mark.parametrize(
    ("sent", "crosses"),
    [
        (b"understudy_session=secret.mac", []),
        (b"a=1; understudy_session=secret.mac", [(b"cookie", b"a=1")]),
        (b"understudy_session=secret.mac;b=2", [(b"cookie", b"b=2")]),
        (b"a=1; understudy_session=x; b=2; understudy_session=y", [(b"cookie", b"a=1; b=2")]),
    ],
)
def test_who_is_logged_in_at_the_console_stays_here(sent: bytes, crosses: list[tuple[bytes, bytes]]) -> None:
    assert for_upstream([(b"cookie", sent)], None, SECRET) == crosses


def test_a_configured_credential_takes_the_place_of_all_of_the_clients() -> None:
    headers = [(b"authorization", b"Bearer sk-1"), (b"authorization", b"Bearer sk-2")]
    assert for_upstream(headers, b"Bearer ours", SECRET) == [(b"authorization", b"Bearer ours")]
