"""All settings: variables `UNDERSTUDY_*`, or a TOML file named by `UNDERSTUDY_CONFIG`.

The environment wins. Read once, validated, frozen, passed down. An unknown name is an error: a misspelt setting must
not be silently ignored.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from proxy.errors import SettingsInvalid

PREFIX = "UNDERSTUDY_"


class Settings(BaseModel):
    """What can be configured. Field `x` is `UNDERSTUDY_X` in the environment and `x` in the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upstream_url: str = Field("https://api.openai.com/v1", description="base URL of the LLM")
    upstream_api_key: str | None = Field(
        None, description="key for the LLM; unset: the client's own `Authorization` is forwarded"
    )
    slm_url: dict[str, str] = Field(default_factory=dict, description="base URL(s) of vLLM servers: `name=url,…`")
    slm_api_key: str | None = Field(None, description="key for the SLM servers, where they want one")
    data_dir: Path = Field(Path("understudy-data"), description="spool, artifacts, embedded database, keys")
    database_url: str | None = Field(None, description="any SQLAlchemy URL; unset: SQLite in the data directory")
    admin_token: str | None = Field(
        None,
        description="admin API and console; unset: generated on first start, kept in the data directory (mode 600)",
    )
    encoder: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", description="sentence-transformers model, by name or path"
    )
    risk: float = Field(0.05, gt=0, lt=1, description="promised bound on served disagreement (α)")
    confidence: float = Field(0.95, gt=0, lt=1, description="confidence of that bound (1 − δ)")
    audit_share: float = Field(0.02, ge=0, le=1, description="share of SLM-served calls also sent to the LLM")
    log_bodies: Literal["full", "redacted", "metadata", "off"] = Field(
        "full", description="how much of the calls is kept"
    )
    retention_days: int = Field(90, ge=1, description="calls older than this are deleted")
    max_body_bytes: int = Field(64 * 2**20, ge=1024, description="larger request bodies are refused with 413")
    connect_timeout_seconds: float = Field(5.0, gt=0, description="to open a connection to an upstream")
    first_token_timeout_seconds: float = Field(600.0, gt=0, description="from dispatch to the LLM's first byte")
    idle_timeout_seconds: float = Field(120.0, gt=0, description="between two pieces of an answer")
    total_timeout_seconds: float = Field(3600.0, gt=0, description="for one call, fallback included")
    slm_timeout_seconds: float = Field(30.0, gt=0, description="for an SLM's whole answer, before the LLM is asked")
    slm_min_confidence: float = Field(
        0.0, ge=0, le=1, description="mean token probability under which an SLM's answer is not served"
    )
    slm_input_usd_per_million_tokens: float = Field(
        0.0, ge=0, description="what an SLM server charges for input; 0: nothing per token"
    )
    slm_output_usd_per_million_tokens: float = Field(
        0.0, ge=0, description="what an SLM server charges for output; 0: nothing per token"
    )
    slm_gpu_usd_per_hour: float = Field(
        0.0, ge=0, description="what each SLM server's GPU costs, busy or idle; 0: left out of the cost"
    )
    drain_seconds: float = Field(30.0, ge=0, description="time that running calls get at shutdown")

    @field_validator("slm_url", mode="before")
    @classmethod
    def _parse_slm_url(cls, value: Any) -> Any:
        """`a=http://h1/v1,b=http://h2/v1`, or one bare URL, which is then called `slm`."""
        if not isinstance(value, str):
            return value
        servers: dict[str, str] = {}
        for part in filter(None, (p.strip() for p in value.split(","))):
            name, separator, url = part.partition("=")
            if not separator or "/" in name:
                name, url = "slm", part
            if name in servers:
                raise ValueError(f"server name {name!r} is given twice")
            servers[name] = url
        return servers

    @field_validator("upstream_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"must begin with http:// or https://, not {value!r}")
        return value.rstrip("/")

    @field_validator("slm_url")
    @classmethod
    def _check_urls(cls, value: dict[str, str]) -> dict[str, str]:
        return {name: cls._check_url(url) for name, url in value.items()}

    @property
    def database(self) -> str:
        """The SQLAlchemy URL in force."""
        return self.database_url or f"sqlite:///{self.data_dir / 'understudy.db'}"

    @property
    def spool_dir(self) -> Path:
        """Where logged calls wait for the shipper."""
        return self.data_dir / "spool"

    @property
    def artifacts_dir(self) -> Path:
        """Snapshots and adapters."""
        return self.data_dir / "artifacts"


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    Args:
        environ: the environment; `os.environ` by default.
        overrides: values that win over both sources (a command's options).

    Raises:
        SettingsInvalid: an unknown name, a value of the wrong form, or a configuration file that can't be read. The
            message names the setting, the value and what is expected.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    config = environ.get(f"{PREFIX}CONFIG")
    if config:
        try:
            values.update(tomllib.loads(Path(config).read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{PREFIX}CONFIG={config}: can't be read: {error}") from error
    for name, value in environ.items():
        if name.startswith(PREFIX) and name != f"{PREFIX}CONFIG":
            values[name.removeprefix(PREFIX).lower()] = value
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "?"
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(PREFIX + field.upper() for field in Settings.model_fields))
            message = f"{PREFIX}{name.upper()}: no such setting; known are {known}"
        else:
            shown = "***" if "key" in name or "token" in name else repr(first["input"])
            message = f"{PREFIX}{name.upper()}={shown}: {first['msg']}"
        raise SettingsInvalid(message) from error
