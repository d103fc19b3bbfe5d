# ruff: noqa: SIM905 - lists of words read better as text
"""Names and dates of a person's life where the words around them say so. For all other names there are models.

What is masked of dates and ages is what the HIPAA privacy rule names: days of birth, death, admission and discharge,
and ages over 89 (45 CFR 164.514(b)(2)(i)). Other dates are what most agents' tasks are about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

from router.learning.curation.findings import Finding

_NAME_WORD = r"\p{Lu}(?:\.|[\p{L}\p{M}]*(?:['’\-]\p{L}[\p{L}\p{M}]*)*)"
_PARTICLE = r"(?:van|von|der|den|de|del|della|da|di|dos|du|la|le|el|al|bin|ibn|ter|ten|zu)"
_NAME = rf"{_NAME_WORD}(?: {{1,2}}(?:{_PARTICLE} )*{_NAME_WORD}){{0,3}}(?<![.]|['’]s)"
_FULL_NAME = rf"{_NAME_WORD}(?: {{1,2}}(?:{_PARTICLE} )*{_NAME_WORD}){{1,3}}(?<![.]|['’]s)"
_HONORIFIC = (
    r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Herr|Frau|Mme|Mlle|Monsieur|Madame|Señora?|Sra?|Sig|Signora?|Rev|Hon|Sgt|Capt|Lt)"
)
_WHOSE = (
    r"(?:my|his|her|their|whose|your|customer|client|patient|user|caller|guest|passenger|employee|full|first|last|given|"
    r"family|sur|maiden|middle|legal|account holder|cardholder|contact|sender|recipient)"
)
_BEARER = r"(?:cardholder|account holder|patient|customer|client|passenger|attn|beneficiary|(?:bill|shipp)ing address)"
_DETAILS = r"(?:address|phone|mobile|e-?mail|age|dob|date of birth|born|gender|ssn|passport)"
#: Who is called so is said just before.
_INTRODUCED = (
    regex.compile(rf"(?<!\p{{L}}){_HONORIFIC}\b\.? (?P<name>{_NAME})"),
    # in a sentence
    regex.compile(
        rf"\b(?i:{_WHOSE}['’]?s? name(?:['’]s| is| was)|(?:named|called) (?:him|her)|"
        rf"name on the (?:account|card|order)(?: is|\?)(?: \w+:)?) [\"'“]?(?P<name>{_NAME})"
    ),
    # in a form: the name, and nothing behind it
    regex.compile(
        rf"\b(?i:{_WHOSE}['’]?s?[ _]?name|{_BEARER})[\"']?(?::| =|=)\s{{0,4}}[\"'“]?(?P<name>{_NAME})"
        r"(?=\s*(?:$|[.,;!?\"'”)<\n]|\\[nrt]))"
    ),
    # in a list of somebody's details
    regex.compile(rf"(?m)^[ \t>*-]*(?i:name):?\s{{1,8}}(?P<name>{_FULL_NAME})[ \t]*(?=\n[ \t>*-]*(?i:{_DETAILS})\b)"),
    # at the head and the foot of a letter
    regex.compile(
        rf"(?m)^(?:Dear|Hi|Hello|Hey|Hallo|Lieber?|Bonjour|Hola) (?:{_HONORIFIC}\.? )?(?P<name>{_NAME})(?=[,!:]|$)"
    ),
    regex.compile(
        rf"(?i:\b(?:(?:kind |best |warm )?regards|sincerely(?: yours)?|cheers|many thanks|mit freundlichen grüßen|"
        rf"cordialement|saludos)),?\s*\n\s*(?P<name>{_NAME})(?=\s*$|\s*\n)"
    ),
    regex.compile(
        rf"\b(?:I am|I['’]m|[Tt]his is|[Hh]ere is) (?P<name>{_FULL_NAME})(?=[,.!;]|$| (?:and|from|here|calling|with))"
    ),
    regex.compile(rf"(?P<name>{_FULL_NAME}) ?<(?=[^<>\s]+@[^<>\s]+>)"),
)
#: What begins with a capital in those places is nobody's name if it has one of these words.
_NOT_NAMES = frozenset(
    "the a an team all everyone everybody there sir madam support customer user assistant agent bot ai gpt claude i "
    "you we it he she they this that what who whom your my our no none null true false unknown sales human hiring "
    "manager friend colleague colleagues valued world string tool engine api service system search project task group "
    "inc llc ltd gmbh corp company university institute department office bank resources".split()
)
_DATE = (
    r"(?:\d{1,2}[./ -]\d{1,2}[./ -]\d{2,4}|\d{4}-\d{2}-\d{2}|(?:\d{1,2}(?:st|nd|rd|th)?\.? (?:of )?)?\p{L}{3,9}\.? "
    r"(?:\d{1,2}(?:st|nd|rd|th)?,? )?\d{4})"
)
_LIFE = regex.compile(
    rf"(?i)\b(?:born(?: on| in)?|d\.?o\.?b\.?|(?:date|day) of (?:birth|death)|birth[ _]?(?:date|day)|geboren(?: am)?|"
    rf"geburtsdatum|née? le|date de naissance|fecha de nacimiento|data di nascita|died(?: on)?|deceased(?: on)?|"
    rf"admitted(?: on)?|admission(?: date)?|discharged?(?: on| date)?)\W{{0,3}}"
    rf"(?:(?:it['’]?s|is|was|on|:)\W{{0,2}}){{0,2}}"
    rf"(?P<date>{_DATE})"
)
_OLD = re.compile(
    r"(?i)(?:\b(?:aged?(?: of)?|turned|turns|i['’]?m|she['’]?s|he['’]?s)[ :=]{1,3}(?P<before>9\d|1[01]\d)\b(?![.,%]\d)|"
    r"\b(?P<after>9\d|1[01]\d)(?=[ -](?:years?[ -]old|y/?o\b|year[ -]old)))"
)


class People:
    """Introduced names, dates of a life, great ages."""

    def find(self, text: str) -> Iterator[Finding]:
        """Look through a text."""
        for pattern in _INTRODUCED:
            for found in pattern.finditer(text, concurrent=False):
                name = found["name"]
                if _NOT_NAMES.isdisjoint(name.casefold().split()) and not (name.isupper() and len(name) < 4):
                    yield Finding(found.start("name"), found.end("name"), "PERSON")
        for found in _LIFE.finditer(text):
            yield Finding(found.start("date"), found.end("date"), "DATE")
        for aged in _OLD.finditer(text):
            yield Finding(*aged.span(aged.lastgroup or 0), "AGE")
