"""Keys, tokens, passwords: detect-secrets' detectors, and the forms that are newer than it.

Its entropy detectors are left out: in agents' prompts they find commits, ids and encoded images. Nothing is verified
with anybody, and nothing leaves the machine.

https://github.com/Yelp/detect-secrets
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from detect_secrets.filters.heuristic import is_sequential_string, is_templated_secret
from detect_secrets.plugins.artifactory import ArtifactoryDetector
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.jwt import JwtTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.npm import NpmDetector
from detect_secrets.plugins.openai import OpenAIDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from router.learning.curation.findings import Finding

_NEWER = (
    # OpenAI's projects, Anthropic, OpenRouter, LiteLLM
    re.compile(r"\b(?:sk|rk|pk)-(?:[a-z0-9]{1,12}-){0,3}(?=[A-Za-z_-]{0,40}\d)[A-Za-z0-9_-]{16,250}"),
    re.compile(r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}"),
    re.compile(r"\bgithub_pat_[A-Za-z0-9_]{22,}"),
    re.compile(r"\bAIza[A-Za-z0-9_-]{35}"),
    re.compile(r"\bya29\.[A-Za-z0-9_-]{20,}"),
    re.compile(r"\b(?:hf|gsk|xai|pplx|r8|dop_v1|shpat|lin_api|ntn|secret)_[A-Za-z0-9]{24,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----[\s\S]+?-----END \1-----"),
    re.compile(r"(?i)(?<=\bbearer )[A-Za-z0-9._~+/-]{16,}=*"),
    re.compile(r"(?i)(?<=\bbasic )(?=[a-z0-9+/]*[A-Z0-9+/])[A-Za-z0-9+/]{16,}={0,2}"),
)
#: A name that says what its value is, and the value: quoted, or one word. The assignment is detect-secrets' keyword
#: detector's, which finds only one in a line and keeps what follows an unquoted one.
_NAMED = re.compile(
    r"(?i)(?:api[_ -]?key|auth[_ -]?(?:key|token)|access[_ -]?(?:key|token)|refresh[_ -]?token|private[_ -]?key|"
    r"client[_ -]?secret|secret(?:[_ -]?(?:key|token|access[_ -]?key))?|passw(?:or)?d|pwd|passphrase|passcode|"
    r"contraseña|mot de passe|passwort|kennwort|senha)\w{0,12}[\"'`]?\]?"
    r"(?:\s{0,3}(?::=|=>|={1,3}|:)\s{0,3}| is (?:now )?)"
    r"(?:\"(?P<double>[^\"\s]{4,200})\"|'(?P<single>[^'\s]{4,200})'|`(?P<tick>[^`\s]{4,200})`|(?P<bare>[^\s\"'`,;<>{}()\[\]]{5,199}[^\s\"'`,;<>{}()\[\].:!?]))"
)
_CODE = re.compile(r"[A-Za-z_][\w.]*(?:\(.*|\[.*)?|[*x.•#_-]+|[A-Za-z]+[.!?]?|https?://.*", re.DOTALL)
#: Some detectors' patterns have a group for the secret, some for its prefix.
_MIN_CHARS = 8
_SAYS_NOTHING = re.compile(r"(?i)pass|secret|key|token|string|your|example|required|none|null|true|false|str\b|type")
_GUESSABLE = re.compile(r"[A-Za-z_]+[.!?]?")


class Credentials:
    """Whatever opens a door."""

    def __init__(self) -> None:
        self._detectors: tuple[RegexBasedDetector, ...] = (
            ArtifactoryDetector(), AWSKeyDetector(), AzureStorageKeyDetector(), BasicAuthDetector(),
            DiscordBotTokenDetector(), GitHubTokenDetector(), GitLabTokenDetector(), JwtTokenDetector(),
            MailchimpDetector(), NpmDetector(), OpenAIDetector(), PypiTokenDetector(), SendGridDetector(),
            SlackDetector(), SquareOAuthDetector(), StripeDetector(), TelegramBotTokenDetector(), TwilioKeyDetector(),
        )  # fmt: skip

    def find(self, text: str) -> Iterator[Finding]:
        """Look through a text."""
        for pattern in _NEWER:
            for found in pattern.finditer(text):
                yield Finding(found.start(), found.end(), "SECRET")
        for found in _NAMED.finditer(text):
            group = found.lastgroup or "bare"
            if _is_secret(found[group], quoted=group != "bare"):
                yield Finding(*found.span(group), "SECRET")
        for detector in self._detectors:
            for pattern in detector.denylist:
                for found in pattern.finditer(text):
                    span = next((found.span(number) for number, group in enumerate(found.groups(), 1)
                                 if group and len(group) >= _MIN_CHARS), found.span())  # fmt: skip
                    if _is_well_formed(detector, text[slice(*span)]) and not text[span[0] - 1 : span[0]].isalnum():
                        yield Finding(*span, "SECRET")


def _is_well_formed(detector: RegexBasedDetector, value: str) -> bool:
    if isinstance(detector, JwtTokenDetector) and not detector.is_formally_valid(value):
        return False
    return not is_templated_secret(value)


def _is_secret(value: str, *, quoted: bool) -> bool:
    """Not a placeholder, a variable, or a word of a sentence about passwords."""
    if is_templated_secret(value) or is_sequential_string(value) or value.startswith("$"):
        return False
    if quoted:  # `"hunter"` after `password =` is one; `"your_password"`, `"string"` and `"required"` are not
        return not (_GUESSABLE.fullmatch(value) and _SAYS_NOTHING.search(value))
    return not _CODE.fullmatch(value)
