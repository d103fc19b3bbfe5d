"""`UNDERSTUDY_LOG_BODIES=redacted`: what identifies people or opens doors is blacked out before it is stored.

Patterns only, and rather too much than too little; the bytes between stay as they are, so JSON stays JSON. This is not
the masking for training, which keeps what an answer needs.
"""

from __future__ import annotations

import re

_PATTERNS = [
    (re.compile(rb"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"), b"[EMAIL]"),
    (re.compile(rb"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}"), b"Bearer [SECRET]"),
    (re.compile(rb"\b(?:sk|pk|rk|ghp|gho|ghs|xox[abp]|AKIA|AIza|glpat|hf|us)[-_]?[A-Za-z0-9_-]{16,}\b"), b"[SECRET]"),
    (re.compile(rb"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\b"), b"[SECRET]"),
    (re.compile(rb"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), b"[IBAN]"),
    (re.compile(rb"\b(?:\d[ -]?){13,19}\b"), b"[NUMBER]"),
    (re.compile(rb"\b(?:\d{1,3}\.){3}\d{1,3}\b"), b"[IP]"),
    (re.compile(rb"(?<![\w.])\+?\(?\d{2,4}\)?[ /.-]\d{2,4}[ /.-]\d{2,6}(?:[ /.-]\d{2,6})?(?![\w.])"), b"[PHONE]"),
    (re.compile(rb"\+\d{9,15}\b"), b"[PHONE]"),
]


def redact(body: bytes) -> bytes:
    """Black out e-mail addresses, phone numbers, cards and accounts, IP addresses, keys and tokens."""
    for pattern, instead in _PATTERNS:
        body = pattern.sub(instead, body)
    return body
