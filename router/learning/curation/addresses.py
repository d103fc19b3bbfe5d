"""Where somebody lives: a house number beside a street's word, in the order and the languages in which it is written.

Cities and countries alone identify nobody, and are what many tasks are about: they stay, unless they stand inside an
address.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

from router.learning.curation.findings import Finding

_WORD = r"[\p{Lu}\d][\p{L}\p{M}'’.\-]*"
_NUMBER = r"\d{1,5}(?:[ -]?[A-Za-z]\b|[/-]\d{1,4})?"
_UNIT = r"(?:[ ,]+\n?\s*(?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Rm|Room|Building|Bldg|#)\.?\s?#?\d+[A-Za-z]?)"
#: After the name: 33 Main Street.
_TYPE_LAST = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Square|Sq|Place|Pl|Terrace|Ter|Way|"
    r"Highway|Hwy|Parkway|Pkwy|Circle|Cir|Crescent|Cres|Close|Grove|Gardens|Mews|Row|Trail|Trl|Alley|Walk|Quay|Wharf|Loop|"
    r"Plaza|Turnpike|Pike|Bypass|Esplanade|Parade)"
)
#: Before the name: Rua Ana Caciola 1159, 33 avenue de Provence.
_TYPE_FIRST = (
    r"(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Cc]hemin|[Pp]lace|[Qq]uai|[Aa]ll[ée]e|[Ii]mpasse|[Cc]ours|[Vv]ia|[Vv]iale|[Cc]orso|"
    r"[Pp]iazza|[Pp]iazzetta|[Pp]iazzale|[Vv]icolo|[Cc]ontrada|[Ll]argo|[Cc]alle|C/|[Aa]venida|[Aa]vda\.?|[Pp]aseo|[Pp]laza|"
    r"[Cc]arretera|[Cc]tra\.?|[Rr]ua|[Tt]ravessa|[Pp]ra[çc]a|[Aa]lameda|[Ee]strada|ul\.|[Uu]lica|[Aa]l\.|[Oo]s\.|[Pp]l\.|"
    r"[Ss]trada|[Ss]tr\.|[Oo]dos|[Λλ]εωφ[όο]ρος|[Οο]δ[όο]ς|[Uu]litsa|ул\.|улица|проспект|[Jj]alan|[Jj]l\.)"
)
#: Inside the name: Hauptstraße 5, Nybyvägen 65, Vesterskovvej 79, Rooseveltlaan 110.
_TYPE_INSIDE = (
    r"(?:stra(?:ß|ss)e|str\.|weg|gasse|platz|allee|damm|ufer|straat|laan|plein|gracht|kade|singel|dijk|steeg|dreef|"
    r"vej|gade|allé|stræde|vei(?:en)?|gata|sgate|gaten|v[äe]gen|v[äe]g|gatan|gr[äa]nd|torget|katu|ntie|polku|kuja|puisto|"
    r"ut(?:ca|ja)|tér|körút|ová|ská|ulica|cesta|n[áa]m[ěe]st[íi]|ulice|braut|vegur|stígur)"
)
#: On to the postcode, over at most four places, units and lines.
_TAIL = (
    rf"(?:{_UNIT})*"
    rf"(?:(?:{_UNIT}|[ ,]*(?:\n[ \t>?]*)*(?:{_WORD}|\([\p{{L}} ]+\))(?:[ -]{_WORD}){{0,2}}){{0,4}}"
    r"[ ,]*(?:\n[ \t>?]*)*[ ,]*(?:[A-Z]{2} )?\d{4,5}(?:-\d{3,4})?\b)?"
)
_PREPOSITION = r"(?:(?:d[aeiou]s?|del|della|des|l[ae]s?) |d['’]|l['’])*"
_STREETS = (
    rf"{_NUMBER},? (?:{_WORD} ){{1,4}}{_TYPE_LAST}\b\.?",
    rf"(?:{_NUMBER},? )?{_TYPE_FIRST} {_PREPOSITION}{_WORD}(?: (?:(?:d[aeiou]s?|del|des|e|y) )?{_WORD}){{0,4}},?"
    rf" (?:n[º°.o]? ?)?{_NUMBER}(?![\p{{L}}\d])",
    rf"{_NUMBER},? {_TYPE_FIRST} {_PREPOSITION}{_WORD}(?:[ -]{_WORD}){{0,3}}",
    rf"(?:{_WORD} ){{0,2}}\p{{Lu}}[\p{{L}}\p{{M}}\-]*{_TYPE_INSIDE} {_NUMBER}(?![\p{{L}}\d]|[.,]\d)",
    r"(?:P\.? ?O\.? ?Box|Post(?:fach|box|boks)|Boîte postale|Apartado|Casella postale) \d{1,6}\b",
)
_WHOLE = (
    # United States military post
    r"\b(?:(?:PSC|Unit|CMR) \d{3,5},? Box \d{1,5}|US[NC]?[SAGV]{1,2} \p{Lu}\p{L}+)\s*,?\s*(?:APO|FPO|DPO),?"
    r" A[AEP],? \d{5}",
    # whatever stands where an address is announced, if it begins with a number and a name
    r"(?<=\b(?i:address(?: is|:| with)|lives? (?:at|on|in)|living at|resid(?:es|ing) at|(?:shipped|delivered|sent|"
    r"return|taxi|move[ds]?) to|located at|meet (?:me|you|us) at|(?:office|house|shop|home) is at)[:\s]{1,6})"
    r"\d{1,6}[A-Za-z]? (?!(?i:am|pm|o'clock)\b)(?:\d{1,6} )?\p{Lu}[^?!;]{2,120}?"
    r"(?=[?!;]|\n\s*\n|\.(?:\s|$)|\s*$| (?:and|by|if|but|in case|for)\b)",
)
_ADDRESS = [
    *(regex.compile(rf"(?<![\p{{L}}\d.,/])(?:\d{{1,6}},? )?{street}{_TAIL}") for street in _STREETS),
    *(regex.compile(whole) for whole in _WHOLE),
    regex.compile(rf"(?<![\p{{L}}\d])(?:Apt|Apartment|Suite|Flat)\.? ?#?\d{{1,5}}[A-Za-z]?\b{_TAIL}"),
]


class Addresses:
    """Streets with house numbers, post boxes, military post."""

    def find(self, text: str) -> Iterator[Finding]:
        """Look through a text."""
        for form in _ADDRESS:
            for found in form.finditer(text):
                yield Finding(found.start(), found.end(), "ADDRESS")
