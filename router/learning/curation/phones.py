# ruff: noqa: SIM905 - lists of words read better as text
"""Phone numbers of all countries, by the grouping and length that each country's numbering plan has.

Nearly every run of ten digits is a number that could be dialled somewhere. So a number counts when it says so itself (a
country code), when a word beside it says so, or when it is grouped in the way in which a country writes its numbers.

The plans are libphonenumber's: https://github.com/google/libphonenumber
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import phonenumbers
from phonenumbers import Leniency, PhoneNumberMatcher

from router.learning.curation.context import mentions, words_before
from router.learning.curation.findings import Finding

_CANDIDATE = re.compile(
    r"(?<![\w./$€£#-])(?<!\d[,:])(?:\+|00)?\(?\d{1,5}\)?(?:(?:[ \u00a0]?[-./][ \u00a0]?|[ \u00a0])?\(?\d{1,7}\)?){1,6}"
    r"(?:\s?(?:x|ext\.?|extension|#)\s?\d{1,6})?(?![\w%]|[.,:/-]\d)"
)
_DATE = re.compile(
    r"(?:19|20)\d\d[-./ ]?[01]?\d[-./ ]?[0-3]?\d(?:\D.*)?|[0-3]?\d[-./ ][0-3]?\d[-./ ](?:19|20)?\d\d|"
    r"\d{1,3}(?:\.\d{1,3}){3}|(?:19|20)\d\d ?[-–/] ?(?:19|20)\d\d"
)
#: Beside these any number of that length counts.
_LABELS = frozenset(
    "phone phones telephone tel tele mobile cell cellphone cellular fax landline hotline whatsapp viber pager sms "
    "msisdn telefon telefono teléfono téléphone telefone móvil movil celular portable handy natel ph mob".split()
)
#: Beside these it must be written in groups: they stand in many other places.
_HINTS = frozenset("call calling called dial texting reach contact answering messages voicemail desk office".split())
#: A label of its own, nearer than one for a phone.
_OTHER_LABELS = frozenset(
    "timestamp time date epoch id ids qid sku asin isbn order invoice tracking amount total price account".split()
)
_COUNTRIES = (
    "US", "GB", "DE", "FR", "IT", "ES", "NL", "BE", "CH", "AT", "SE", "NO", "DK", "FI", "PL", "CZ", "PT", "BR", "MX",
    "AU", "NZ", "IN", "ZA", "IE", "SI", "HU", "JP", "KR", "CN", "SG", "IL", "AE", "RU", "UA", "RO", "GR", "TR", "AR",
    "CL", "CO",
)  # fmt: skip
_MIN_DIGITS, _MAX_DIGITS = 7, 15
_GROUPED = re.compile(r"\d\D+\d")


class Phones:
    """Phone and fax numbers with their extensions."""

    def find(self, text: str) -> Iterator[Finding]:
        """Look through a text."""
        for found in _CANDIDATE.finditer(text):
            value = found[0]
            digits = sum(character.isdigit() for character in re.split(r"(?:x|ext|#)", value)[0])
            if not _MIN_DIGITS <= digits <= _MAX_DIGITS or _DATE.fullmatch(value):
                continue
            if _is_said(text, found.start(), found.end(), bool(_GROUPED.search(value))) or _written_as_one(value):
                yield Finding(found.start(), found.end(), "PHONE")


def _is_said(text: str, start: int, end: int, grouped: bool) -> bool:
    """Whether the words beside it call it a phone number."""
    if not _OTHER_LABELS.isdisjoint(words_before(text, start, 1)):
        return False
    return mentions(text, start, end, _LABELS) or (grouped and mentions(text, start, end, _HINTS))


@lru_cache(65536)
def _written_as_one(value: str) -> bool:
    """Whether a country writes its numbers so, or the country is named."""
    grouped = _GROUPED.search(value)
    if value.startswith("+") or (grouped and value.startswith("00")):
        try:
            return phonenumbers.is_possible_number(phonenumbers.parse(re.sub(r"^00", "+", value)))
        except phonenumbers.NumberParseException:
            return False
    if not grouped:
        return False
    return any(
        match.raw_string == value or match.end - match.start >= len(value) - 1
        for country in _COUNTRIES
        for match in PhoneNumberMatcher(value, country, leniency=Leniency.EXACT_GROUPING)
    )
