"""Numbers that stand for a person, an account or a device, by Presidio's recognisers and their checksums.

Presidio's own engine wants a language model to see words in context, and then lets a checksum of one digit speak for
itself: every tenth order number is then somebody's tax number. Here its recognisers are asked one by one, without an
engine, and what is only digits counts only beside a word that says so.

https://microsoft.github.io/presidio/supported_entities/
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from presidio_analyzer import Pattern, PatternRecognizer, predefined_recognizers

from router.learning.curation.context import mentions, words
from router.learning.curation.findings import Finding

#: From this score on, a pattern that isn't only digits needs no word beside it. A checksum that is right scores 1.
_ALONE = 0.5

_EMAIL = r"(?<![\w.+%'-])\w(?:[\w.+%'-]{0,62}\w)?@(?:[\w-]+\.)+[^\W\d_][\w-]+\b"
#: Twelve to nineteen digits, in groups or not; the network's own digits and lengths decide (ISO/IEC 7812).
_CARD = r"(?<![\w./=-])\d{3,6}(?:[ -]?\d{2,7}){1,5}(?![\w-])"
_CARD_NETWORKS = (
    (re.compile(r"4"), {13, 16, 18, 19}),  # Visa
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),  # Mastercard
    (re.compile(r"3[47]"), {15}),  # American Express
    (re.compile(r"3(?:0[0-5]|[689])"), {14, 16, 17, 18, 19}),  # Diners Club
    (re.compile(r"35"), {16, 17, 18, 19}),  # JCB
    (re.compile(r"1800|2131"), {15}),  # JCB's old numbers
    (re.compile(r"6(?:011|22|4[4-9]|5)"), {16, 17, 18, 19}),  # Discover, UnionPay
    (re.compile(r"5[0678]|6"), set(range(12, 20))),  # Maestro
)
#: What stands before four numbers with points that are no address: `Chrome/91.0.44.12`.
_VERSION = re.compile(r"(?:[^\W\d_]/|\bv|version[ :=]{0,3})$", re.IGNORECASE)
#: `a[2::4]` is a slice.
_MAX_SLICE_COLONS = 2
#: Domains that belong to nobody (RFC 2606, RFC 6761).
_NOBODYS = re.compile(r"(?:^|[@.])(?:example(?:\.(?:com|net|org))?|test|invalid|localhost|local)$", re.IGNORECASE)
#: Presidio's own takes two thirds of all the time. The fourth letter says who holds it.
_INDIAN_PAN = r"\b[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]\b"
_MEDICAL = (
    r"(?<=\b(?:mrn|medical record|patient|chart|health plan|member|subscriber|beneficiary|insurance|policy)"
    r"(?: ?(?:#|no\.?|num(?:ber)?|id|identifier|_id|_number))?\s?[:#=]\s?)(?=[A-Z-]*\d)[A-Z0-9][A-Z0-9-]{3,19}\b"
)
_MEDICAL_WORDS = (
    "mrn", "medical", "patient", "chart", "health", "member", "subscriber", "beneficiary", "insurance", "policy",
)  # fmt: skip
_POSTCODE = (
    r"(?<=\b(?:zip|zip[ _]?code|postal[ _]?code|post[ _]?code|plz|cep|codice postale|c[oó]digo postal|code postal)"
    r"(?: is| are|:| :|=|\x22:)?\s{0,4})(?=[A-Z]{0,2}\d)[A-Z0-9]{2,5}(?:[ -][A-Z0-9]{2,4})?\b"
)
_POSTCODE_WORDS = ("zip", "zipcode", "postal", "postale", "post", "postcode", "plz", "cep")


@dataclass(frozen=True)
class _Kind:
    """How one of Presidio's recognisers is read.

    Attributes:
        kind: the placeholder's name.
        words: that make a pattern count which does not stand alone; Presidio's own among them.
        alone: whether a match that scores enough counts without a word.
    """

    kind: str
    recogniser: PatternRecognizer
    words: frozenset[str]
    alone: bool


def _kind(kind: str, name: str, words: Sequence[str] = (), *, alone: bool = False) -> _Kind:
    recogniser: PatternRecognizer = getattr(predefined_recognizers, name)()
    said = {word for phrase in recogniser.context or () for word in re.findall(r"[^\W\d_]{2,}", phrase.casefold())}
    return _Kind(kind, recogniser, frozenset(said.difference(_TOO_COMMON).union(words)), alone)


def _pattern(kind: str, pattern: str, words: Sequence[str] = (), flags: int = re.IGNORECASE) -> _Kind:
    recogniser = PatternRecognizer(kind, patterns=[Pattern(kind, pattern, 1.0)], global_regex_flags=flags)
    return _Kind(kind, recogniser, frozenset(words), not words)


#: Words of Presidio's lists that say next to nothing beside a number in an agent's prompt.
_TOO_COMMON = frozenset({
    "number", "no", "id", "code", "key", "document", "identification", "registration", "payment", "order", "company",
    "business", "check", "save", "debit", "transaction", "card", "state", "country", "travel", "vehicle", "car",
    "plate", "la", "de", "di", "el", "en", "tax", "and", "of", "the", "for", "issued", "book", "security", "us",
    "united", "states",
})  # fmt: skip


class Identifiers:
    """Accounts, documents, addresses of devices and the like."""

    def __init__(self) -> None:
        cards = predefined_recognizers.CreditCardRecognizer(patterns=[Pattern("card", _CARD, 0.3)])
        ibans = predefined_recognizers.IbanRecognizer(regex_flags=re.IGNORECASE)
        self._kinds = (
            _pattern("EMAIL", _EMAIL),
            _Kind("CARD", cards, frozenset(), True),
            _Kind("IBAN", ibans, frozenset(), True),
            _kind("CRYPTO_WALLET", "CryptoRecognizer", alone=True),
            _kind("IP_ADDRESS", "IpRecognizer", alone=True),
            _kind("MAC_ADDRESS", "MacAddressRecognizer", alone=True),
            _kind("SSN", "UsSsnRecognizer", alone=True),
            _kind("TAX_ID", "UsItinRecognizer", ("itin", "taxpayer")),
            _kind("PASSPORT", "UsPassportRecognizer"),
            _kind("DRIVER_LICENSE", "UsLicenseRecognizer", ("licence",)),
            _kind("BANK_ACCOUNT", "UsBankRecognizer", ("account", "acct", "konto", "cuenta", "compte")),
            _kind("ROUTING_NUMBER", "AbaRoutingRecognizer", ("aba", "routing")),
            _kind("MEDICARE_ID", "UsMbiRecognizer", alone=True),
            _kind("NPI", "UsNpiRecognizer"),
            _kind("MEDICAL_LICENSE", "MedicalLicenseRecognizer", ("dea",)),
            _kind("NATIONAL_ID", "UkNinoRecognizer", alone=True),
            _kind("NATIONAL_ID", "EsNifRecognizer", alone=True),
            _kind("NATIONAL_ID", "EsNieRecognizer", alone=True),
            _kind("NATIONAL_ID", "ItFiscalCodeRecognizer", alone=True),
            _kind("NATIONAL_ID", "FiPersonalIdentityCodeRecognizer", alone=True),
            _kind("NATIONAL_ID", "SgFinRecognizer", alone=True),
            _pattern("NATIONAL_ID", _INDIAN_PAN, flags=re.NOFLAG),
            _kind("NATIONAL_ID", "InAadhaarRecognizer", ("aadhaar", "uidai")),
            _kind("NATIONAL_ID", "PlPeselRecognizer", ("pesel",)),
            _kind("NATIONAL_ID", "KrRrnRecognizer"),
            _kind("NATIONAL_ID", "ThTninRecognizer"),
            _kind("NATIONAL_ID", "SePersonnummerRecognizer"),
            _kind("NATIONAL_ID", "TrNationalIdRecognizer"),
            _kind("NATIONAL_ID", "ZaIdNumberRecognizer"),
            _kind("TAX_ID", "DeTaxIdRecognizer", ("steuer",)),
            _kind("TAX_ID", "AuTfnRecognizer", ("tfn",)),
            _kind("TAX_ID", "CaSinRecognizer", ("sin",)),
            _kind("HEALTH_ID", "NhsRecognizer", ("nhs",)),
            _kind("HEALTH_ID", "AuMedicareRecognizer", ("medicare",)),
            _kind("HEALTH_ID", "DeHealthInsuranceRecognizer"),
            _pattern("HEALTH_ID", _MEDICAL, _MEDICAL_WORDS),
            _pattern("POSTCODE", _POSTCODE, _POSTCODE_WORDS),
        )

    def find(self, text: str) -> Iterator[Finding]:
        """Look through a text."""
        said = words(text)
        for kind in self._kinds:
            if not kind.alone and kind.words.isdisjoint(said):
                continue
            for found in kind.recogniser.analyze(text, kind.recogniser.supported_entities, None):
                start, end = found.start, found.end
                value = text[start:end]
                alone = kind.alone and found.score >= _ALONE and (kind.kind != "NATIONAL_ID" or value.isupper())
                if _is_somebodys(kind.kind, text, start, end) and (alone or mentions(text, start, end, kind.words)):
                    yield Finding(start, end, kind.kind)


def _is_somebodys(kind: str, text: str, start: int, end: int) -> bool:
    """Whether a well-formed value can belong to anybody: not an example, not a version, not one's own machine."""
    value = text[start:end]
    match kind:
        case "EMAIL":
            return not _NOBODYS.search(value)
        case "CARD":
            digits = re.sub(r"\D", "", value)
            return any(begins.match(digits) and len(digits) in lengths for begins, lengths in _CARD_NETWORKS)
        case "IP_ADDRESS":
            address = ipaddress.ip_interface(value).ip
            whole = address.version == 4 or value.count(":") > _MAX_SLICE_COLONS
            section = text[start - 1 : start] == "." or re.match(r"\.\d", text[end : end + 2])
            version = _VERSION.search(text[max(0, start - 12) : start])
            return whole and address.is_global and not section and not version
        case "MAC_ADDRESS":
            return text[start - 1 : start] != value[2] and text[end : end + 1] != value[2]  # a part of a key
        case "NATIONAL_ID" | "DRIVER_LICENSE" | "PASSPORT":
            return any(character.isdigit() for character in value)
    return True
