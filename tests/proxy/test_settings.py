"""Settings come from the environment and one TOML file, and nothing that was set is silently ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from proxy.errors import SettingsInvalid
from proxy.settings import Settings, load_settings


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
        ("http://one/v1?x=y", {"slm": "http://one/v1?x=y"}),
        ("", {}),
    ],
)
def test_slm_servers_are_names_and_urls(text: str, servers: dict[str, str]) -> None:
    assert load_settings({"UNDERSTUDY_SLM_URL": text}).slm_url == servers


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("UNDERSTUDY_UPSTREM_URL", "http://x", "no such setting; known are UNDERSTUDY_ADMIN_TOKEN, "),
        ("UNDERSTUDY_UPSTREAM_URL", "api.openai.com", "must begin with http:// or https://, not 'api.openai.com'"),
        ("UNDERSTUDY_RISK", "1.5", "'1.5': Input should be less than 1"),
        ("UNDERSTUDY_RETENTION_DAYS", "soon", "'soon': Input should be a valid integer"),
        ("UNDERSTUDY_LOG_BODIES", "some", "'full', 'redacted', 'metadata' or 'off'"),
        ("UNDERSTUDY_SLM_URL", "a=http://one,a=http://two", "server name 'a' is given twice"),
        ("UNDERSTUDY_SLM_URL", "a=one", "must begin with http:// or https://, not 'one'"),
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


def test_settings_cannot_be_changed_after_they_were_read() -> None:
    with pytest.raises(ValidationError):
        load_settings({}).risk = 0.5  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
