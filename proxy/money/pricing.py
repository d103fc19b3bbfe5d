"""What calls cost.

LLM prices come from genai-prices' table, the one in force at the call's own time, with cached input at its own rate. A
model that the table does not have has no price: None, never 0. SLM prices come from the settings.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import datetime

import genai_prices
from genai_prices.types import Usage as PricedUsage

from proxy.wire.usage import Usage


@dataclass(frozen=True)
class LlmPrices:
    """Prices of one upstream's models.

    Attributes:
        upstream_url: tells the provider by its host. Behind a host that no provider is known by (a gateway, a test
            server) the model's name tells it.
    """

    upstream_url: str

    def price(self, model: str | None, usage: Usage, at: datetime) -> float | None:
        """US dollars for one call.

        Args:
            model: as requested or as reported; the table knows dated and undated names.
            usage: counts of tokens; without both input and output counts there is no price.
            at: when the call was made; prices change.

        Returns:
            None when the model or the tokens are unknown.
        """
        if not model or usage.input_tokens is None:
            return None
        provider = _provider(model, self.upstream_url)
        if provider is None:
            return None
        cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
        written = min(usage.cache_write_tokens or 0, usage.input_tokens - cached)
        priced = PricedUsage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=cached or None,
            cache_write_tokens=written or None,
            output_tokens=usage.output_tokens or 0,
        )
        name = model.partition("/")[2] if provider.prefixed else model
        try:
            calculated = genai_prices.calc_price(
                priced, name, provider_id=provider.provider_id, genai_request_timestamp=at
            )
        except (LookupError, ValueError):
            return None
        return float(calculated.total_price)


@dataclass(frozen=True, slots=True)
class Provider:
    """Who sells a model.

    Attributes:
        provider_id: in genai-prices.
        prefixed: the model's name begins with the provider's (`anthropic/claude-…`), and its prices are looked up
            without it.
    """

    provider_id: str
    prefixed: bool = False


# Bounded, because model names are chosen by clients.
@functools.lru_cache(maxsize=1024)
def _provider(model: str, upstream_url: str) -> Provider | None:
    """Who sells `model`, as far as its host or its name tell; None when nobody is known to."""
    from genai_prices.data_snapshot import DataSnapshot, get_snapshot

    # A table of its own for every question: the library remembers each name that was ever asked for.
    table = DataSnapshot(get_snapshot().providers, from_auto_update=False)

    def known(name: str, provider_id: str | None = None, url: str | None = None) -> str | None:
        try:
            return table.find_provider_model(name, None, provider_id, url)[0].id
        except LookupError:
            return None

    def host() -> str | None:
        try:
            return table.find_provider(None, None, upstream_url).id
        except LookupError:
            return None

    if (seller := host()) is not None:
        return Provider(seller) if known(model, seller) else None
    if (seller := known(model) or known(model, "openai")) is not None:
        return Provider(seller)
    vendor, separator, name = model.partition("/")
    if separator and known(name, vendor):
        return Provider(vendor, prefixed=True)
    return None


@dataclass(frozen=True, slots=True)
class SlmPrices:
    """Prices of the SLM servers, from the settings.

    Attributes:
        input_usd, output_usd: per token. A GPU's time is no cost of any one call: see `savings.py`.
    """

    input_usd: float
    output_usd: float

    def price(self, usage: Usage) -> float:
        """US dollars for one answer, served or wasted."""
        return (usage.input_tokens or 0) * self.input_usd + (usage.output_tokens or 0) * self.output_usd
