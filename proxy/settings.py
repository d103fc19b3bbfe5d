"""All settings: variables `UNDERSTUDY_*`, or a TOML file named by `UNDERSTUDY_CONFIG`.

The environment wins. Read once, validated, frozen, passed down. An unknown name is an error: a misspelt setting must
not be silently ignored. What is accepted here works later, or fails for reasons that lie outside: a malformed value
ends the command in one line that names its variable.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from proxy.base_url import checked_base_url
from proxy.errors import SettingsInvalid
from router.progress import Autopilot

PREFIX = "UNDERSTUDY_"
_DAY_SECONDS = 86_400.0
_CENTURY_DAYS = 36_500
_MAX_USD = 1e6
_MAX_SHOWN_CHARS = 200
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _checked_secret(value: str | None) -> str | None:
    """A credential as it can stand in a header. Keys often come from files, with the line's end; an empty one is none.

    Raises:
        ValueError: what is inside would end the header, or be read as two words.
    """
    value = (value or "").strip()
    if value and not _TOKEN.fullmatch(value):
        raise ValueError("must be one word of visible ASCII characters: no spaces, line breaks or control characters")
    return value or None


#: What goes after `Bearer`; unset when empty.
Secret = Annotated[str | None, AfterValidator(_checked_secret)]
#: A duration in seconds, more than none.
Timeout = Annotated[float, Field(gt=0, le=_DAY_SECONDS)]
#: A price in US dollars.
Usd = Annotated[float, Field(ge=0, le=_MAX_USD)]


class Settings(BaseModel):
    """What can be configured. Field `x` is `UNDERSTUDY_X` in the environment and `x` in the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    upstream_url: str = Field("https://api.openai.com/v1", description="base URL of the LLM")
    upstream_api_key: Secret = Field(
        None, description="key for the LLM; unset: the client's own `Authorization` is forwarded"
    )
    upstream_allows_training: bool = Field(
        True, description="whether the LLM's terms allow training on its answers; false: `export` refuses"
    )
    require_key: bool = Field(
        False, description="whether calls without one of the proxy's own keys are refused with 401"
    )
    slm_url: dict[str, str] = Field(default_factory=dict, description="base URL(s) of vLLM servers: `name=url,…`")
    slm_api_key: Secret = Field(None, description="key for the SLM servers, where they want one")
    data_dir: Path = Field(Path("understudy-data"), description="spool, artifacts, embedded database, keys")
    adapters_dir: Path = Field(
        default_factory=lambda before: before["data_dir"] / "adapters",
        description="fine-tuned models, as the SLM servers load them; they must see it under the same path. "
        "Unset: `adapters` in the data directory",
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of SQLite or PostgreSQL; unset: SQLite in the data directory"
    )
    admin_token: Secret = Field(
        None,
        description="admin API and console; unset: generated on first start, kept in the data directory (mode 600)",
    )
    encoder: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", description="sentence-transformers model, by name or path"
    )
    model_catalogue: Path | None = Field(
        None, description="TOML file of base models beside those that come along, in the form of their `catalogue.toml`"
    )
    risk: float = Field(0.05, gt=0, lt=1, description="promised bound on served disagreement (α)")
    confidence: float = Field(0.95, gt=0, lt=1, description="confidence of that bound (1 − δ)")
    audit_share: float = Field(0.02, ge=0, le=1, description="share of SLM-served calls also sent to the LLM")
    shadow_share: float = Field(
        1.0, ge=0, le=1, description="share of the calls that an SLM in shadow or a canary is to prove itself on"
    )
    judge_model: str | None = Field(
        None,
        description="model of the LLM that compares free texts, with `UNDERSTUDY_UPSTREAM_API_KEY`; "
        "unset: the encoder does",
    )
    copy_usd_per_day: Usd = Field(
        5.0, description="known cost of shadow and audit copies, and of judging them, in a day (UTC), over all workers"
    )
    copies_at_once: int = Field(4, ge=1, le=1024, description="shadow and audit copies in flight, for each worker")
    names_model: str | None = Field(
        None,
        description="token-classification model that finds the names which no words introduce, for masking samples; "
        "hub name or directory",
    )
    autopilot: Autopilot = Field(
        Autopilot.PROPOSE, description="`off`, `propose` or `on`: what happens to steps that the evidence allows"
    )
    log_bodies: Literal["full", "redacted", "metadata", "off"] = Field(
        "full", description="how much of the calls is kept"
    )
    retention_days: int = Field(90, ge=1, le=_CENTURY_DAYS, description="calls older than this are deleted")
    max_body_bytes: int = Field(64 * 2**20, ge=1024, le=2**40, description="larger request bodies are refused with 413")
    connect_timeout_seconds: Timeout = Field(5.0, description="to open a connection to an upstream")
    first_token_timeout_seconds: Timeout = Field(600.0, description="from dispatch to the LLM's first byte")
    idle_timeout_seconds: Timeout = Field(120.0, description="between two pieces of an answer")
    total_timeout_seconds: Timeout = Field(3600.0, description="for one call, fallback included")
    slm_timeout_seconds: Timeout = Field(30.0, description="for an SLM's whole answer, before the LLM is asked")
    slm_min_confidence: float = Field(
        0.0, ge=0, le=1, description="mean token probability under which an SLM's answer is not served"
    )
    slm_input_usd_per_million_tokens: Usd = Field(
        0.0, description="what an SLM server charges for input; 0: nothing per token"
    )
    slm_output_usd_per_million_tokens: Usd = Field(
        0.0, description="what an SLM server charges for output; 0: nothing per token"
    )
    slm_gpu_usd_per_hour: Usd = Field(
        0.0, description="what each SLM server's GPU costs, busy or idle; 0: left out of the cost"
    )
    training_usd_per_hour: Usd = Field(
        0.0, description="what the machine costs while it trains, charged to each run in full; 0: left out of the cost"
    )
    learn_every_hours: float = Field(
        24.0, ge=0, le=_CENTURY_DAYS, description="hours between two looks for new tasks, if the log grew; 0: never"
    )
    runs_at_once: int = Field(
        1, ge=1, le=64, description="runs that a learner does at a time, each with a core and the memory that it takes"
    )
    otel_endpoint: str | None = Field(
        None, description="OpenTelemetry collector (OTLP/HTTP, `http://host:4318`) that gets a span of each call"
    )
    drain_seconds: float = Field(30.0, ge=0, le=_DAY_SECONDS, description="time that running calls get at shutdown")

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
        url = checked_base_url(value.strip())
        if "@" in url:
            raise ValueError("must hold no credentials; the key goes into UNDERSTUDY_UPSTREAM_API_KEY")
        return url

    @field_validator("judge_model")
    @classmethod
    def _check_judge(cls, value: str | None, before: ValidationInfo) -> str | None:
        value = (value or "").strip() or None
        if value and not before.data.get("upstream_api_key"):
            raise ValueError("needs UNDERSTUDY_UPSTREAM_API_KEY: nobody else's key is used to judge")
        return value

    @field_validator("otel_endpoint")
    @classmethod
    def _check_otel_endpoint(cls, value: str | None) -> str | None:
        return checked_base_url(value.strip()) if value and value.strip() else None

    @field_validator("slm_url")
    @classmethod
    def _check_urls(cls, value: dict[str, str]) -> dict[str, str]:
        checked = {}
        for name, url in value.items():
            if not _TOKEN.fullmatch(name):
                raise ValueError(f"server names are words of visible ASCII characters, not {name!r}")
            try:
                checked[name] = checked_base_url(url.strip())
            except ValueError as error:
                raise ValueError(f"server {name!r}: {error}") from error
            if "@" in checked[name]:
                raise ValueError(f"server {name!r}: must hold no credentials; the key goes into UNDERSTUDY_SLM_API_KEY")
        return checked

    @field_validator("data_dir", "adapters_dir", mode="before")
    @classmethod
    def _refuse_empty_directory(cls, value: Any) -> Any:
        """An empty path would be the working directory, which would then be closed to other users."""
        if isinstance(value, str) and not value.strip():
            raise ValueError("must name a directory")
        return value

    @field_validator("data_dir", "adapters_dir")
    @classmethod
    def _check_directory(cls, value: Path) -> Path:
        if _CONTROL.search(str(value)):
            raise ValueError("must not contain control characters")
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, value: str | None) -> str | None:
        value = (value or "").strip()
        if value:
            from storage.database import check_url  # SQLAlchemy takes 0.2 s to import: only where it is needed

            check_url(value)
        return value or None

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
            said = first["msg"].removeprefix("Value error, ")
            message = f"{PREFIX}{name.upper()}={_shown(name, first['input'])}: {said}"
        raise SettingsInvalid(message) from error


def _shown(name: str, value: object) -> str:
    """A value as an error message may show it: in one line, not endless, and no secret."""
    shown = repr(value)
    if "key" in name or "token" in name or "@" in shown:  # user:password@host
        return "***"
    return shown if len(shown) <= _MAX_SHOWN_CHARS else f"{shown[:_MAX_SHOWN_CHARS]}…"
