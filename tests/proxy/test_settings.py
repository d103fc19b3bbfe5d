"""Settings come from the environment and one TOML file, and nothing that was set is silently ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.errors import SettingsInvalid
from proxy.settings import PREFIX, Settings, load_settings


def test_everything_has_a_default() -> None:
    settings = load_settings({})
    assert settings.upstream_url == "https://api.openai.com/v1"
    assert settings.upstream_api_key is None
    assert settings.slm_url == {}
    assert settings.database == "sqlite:///understudy-data/understudy.db"
    assert (settings.risk, settings.confidence, settings.audit_share) == (0.05, 0.95, 0.02)
    assert (settings.log_bodies, settings.retention_days) == ("full", 90)


def test_the_environment_wins_over_the_file_and_an_option_over_both(tmp_path: Path) -> None:
    file = tmp_path / "understudy.toml"
    file.write_text('risk = 0.1\nretention_days = 7\nconfidence = 0.9\n[slm_url]\nmain = "http://a/v1"\n')
    environment = {"UNDERSTUDY_CONFIG": str(file), "UNDERSTUDY_RISK": "0.2", "UNDERSTUDY_CONFIDENCE": "0.8"}
    settings = load_settings(environment, confidence=0.99, audit_share=None)
    assert (settings.retention_days, settings.risk, settings.confidence) == (7, 0.2, 0.99)
    assert settings.slm_url == {"main": "http://a/v1"}


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("http://one:8000/v1", {"slm": "http://one:8000/v1"}),
        ("a=http://one/v1, b=https://two/v1/", {"a": "http://one/v1", "b": "https://two/v1"}),
        ("http://one/x=y/v1", {"slm": "http://one/x=y/v1"}),
        ("", {}),
    ],
)
def test_slm_servers_are_names_and_urls(text: str, servers: dict[str, str]) -> None:
    assert load_settings({"UNDERSTUDY_SLM_URL": text}).slm_url == servers


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("UNDERSTUDY_UPSTREM_URL", "http://x", "no such setting; known are UNDERSTUDY_ADAPTERS_DIR, "),
        ("UNDERSTUDY_UPSTREAM_URL", "api.openai.com", "'api.openai.com': must begin with http:// or https://"),
        ("UNDERSTUDY_RISK", "1.5", "'1.5': Input should be less than 1"),
        ("UNDERSTUDY_RETENTION_DAYS", "soon", "'soon': Input should be a valid integer"),
        ("UNDERSTUDY_LOG_BODIES", "some", "'full', 'redacted', 'metadata' or 'off'"),
        ("UNDERSTUDY_SLM_URL", "a=http://one,a=http://two", "server name 'a' is given twice"),
        ("UNDERSTUDY_SLM_URL", "a=one", "'a=one': server 'a': must begin with http:// or https://"),
        ("UNDERSTUDY_SLM_URL", "=http://one", "not ''"),
        ("UNDERSTUDY_SLM_URL", "a=http://one:99999/v1", "Port out of range"),
        ("UNDERSTUDY_SLM_URL", "a=http://one/v1?x=y", "must have no query"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://", "must name a host"),
        ("UNDERSTUDY_UPSTREAM_URL", "http:///v1", "must name a host"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://a..b/v1", "must name a host"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h:/v1", "must have a port"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h:0/v1", "must have a port"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h:x/v1", "Port could not be cast"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h:65536/v1", "Port out of range"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://[::1/v1", "Invalid IPv6"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h/v1?key=1", "must have no query"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h/v1#part", "no fragment"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h/vä", "a path in ASCII"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h/v 1", "white space"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://h/v1\r\nx: y", "control characters"),
        ("UNDERSTUDY_UPSTREAM_URL", "http://u:pw@h/v1", "=***: must hold no credentials"),
        ("UNDERSTUDY_SLM_URL", "a=http://u:pw@h/v1", "=***: server 'a': must hold no credentials"),
        ("UNDERSTUDY_DATA_DIR", "", "must name a directory"),
        ("UNDERSTUDY_DATA_DIR", " ", "must name a directory"),
        ("UNDERSTUDY_DATABASE_URL", "foo", "is not a database's URL"),
        ("UNDERSTUDY_DATABASE_URL", "postgresql://h:port/x", "is not a database's URL"),
        ("UNDERSTUDY_DATABASE_URL", "oracle://h/x", "not oracle"),
        ("UNDERSTUDY_DATABASE_URL", "mysql://u:pw@h/x", "=***: databases are sqlite:///FILE or postgresql://"),
        ("UNDERSTUDY_DATABASE_URL", "postgresql+none://h/x", "is not a database's URL"),
        ("UNDERSTUDY_DATABASE_URL", "postgresql+psycopg2://h/x", "its driver is not installed"),
        ("UNDERSTUDY_DATABASE_URL", "postgresql+asyncpg://h/x", "asynchronous"),
        ("UNDERSTUDY_DATABASE_URL", "sqlite://", "must name a file"),
        ("UNDERSTUDY_DRAIN_SECONDS", "inf", "finite"),
        ("UNDERSTUDY_DRAIN_SECONDS", "nan", "finite"),
        ("UNDERSTUDY_DRAIN_SECONDS", "1e9", "less than or equal to 86400"),
        ("UNDERSTUDY_RETENTION_DAYS", "999999999999", "less than or equal to 36500"),
        ("UNDERSTUDY_RETENTION_DAYS", "9" * 5000, "9…: "),
        ("UNDERSTUDY_UPSTREAM_API_KEY", "sk-1\r\nx-evil: 1", "=***: must be one word"),
        ("UNDERSTUDY_SLM_API_KEY", "two words", "=***: must be one word"),
        ("UNDERSTUDY_ADMIN_TOKEN", "schlüssel", "=***: must be one word"),
        ("UNDERSTUDY_CONFIG", "/nowhere/at/all.toml", "can't be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_the_settings_name(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({name: value})
    message = str(caught.value)
    assert message.startswith(name)
    assert said in message
    assert "\n" not in message


def test_an_unknown_name_in_the_file_is_an_error_too(tmp_path: Path) -> None:
    file = tmp_path / "understudy.toml"
    file.write_text("riks = 0.1\n")
    with pytest.raises(SettingsInvalid, match="UNDERSTUDY_RIKS: no such setting"):
        load_settings({"UNDERSTUDY_CONFIG": str(file)})


def test_secrets_are_not_shown_in_messages() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({}, admin_token=["s3cret"])
    assert "s3cret" not in str(caught.value)


def test_a_key_from_a_file_loses_its_line_break_and_an_empty_one_is_none() -> None:
    settings = load_settings({"UNDERSTUDY_UPSTREAM_API_KEY": " sk-1\r\n", "UNDERSTUDY_ADMIN_TOKEN": "t\n"})
    assert (settings.upstream_api_key, settings.admin_token) == ("sk-1", "t")
    assert load_settings({"UNDERSTUDY_UPSTREAM_API_KEY": "\n"}).upstream_api_key is None


@pytest.mark.parametrize("bound", ["inf", "-inf", "nan", "1e300", "-1"])
def test_every_number_is_bounded(bound: str) -> None:
    for name, field in Settings.model_fields.items():
        if field.annotation in (int, float):
            with pytest.raises(SettingsInvalid, match=f"^{PREFIX}{name.upper()}=") as caught:
                load_settings({PREFIX + name.upper(): bound})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8001/v1", "https://[::1]:1/v1", "http://vllm_1/", "https://bücher.example/v1/%C3%A4"]
)
def test_honest_urls_are_accepted_and_lose_their_last_slash(url: str) -> None:
    assert load_settings({"UNDERSTUDY_UPSTREAM_URL": f"{url}\n"}).upstream_url == url.rstrip("/")


@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgresql://u:p@h:5432/x", "postgresql+psycopg://h/x", ""])
def test_honest_database_urls_are_accepted(url: str) -> None:
    assert load_settings({"UNDERSTUDY_DATABASE_URL": url}).database_url == (url or None)


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    with pytest.raises(ValidationError):
        load_settings({}).risk = 0.5  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
