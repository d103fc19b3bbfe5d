"""Names for tasks that a person recognises, from the skeleton and the contract alone: `triage desk → label (8)`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from router.contract import ContractKind, OutputContract

MAX_CHARS = 60
_MAX_SUBJECT = 44
_IDENTITY = re.compile(
    r"(?:^|[.!?:]\s+|\bthat\s+)(?:you are|you're|you will act as|act as|your role is|your name is|i want you to act as)"
    r"\s+(?:an?\s+|the\s+)?",
    re.I,
)
#: What follows "you are" and says how, not who.
_STATE = re.compile(
    r"^(?:able|about|allowed|also|always|asked|being|currently|done|free|given|going|in|never|not|now|on|only|open|"
    r"playing|provided|ready|required|responsible|sure|tasked|there|to|told|trying|unable|unsure|using|welcome|working)\b",
    re.I,
)
#: "helpful assistant" and the like name no task.
_NOBODY = re.compile(r"^(?:very\s+)?(?:helpful|useful|friendly|smart|intelligent|large language|ai)\b[\w\s-]*$", re.I)
_IMPERATIVE = re.compile(
    r"^(?:[-*#\d.)\s]*)(?:please\s+|your (?:task|job|goal) is to\s+|you (?:should|must|will|need to)\s+)?"
    r"((?:answer|analy[sz]e|assign|book|categori[sz]e|check|choose|classify|compare|complete|convert|create|decide|"
    r"decompose|describe|design|detect|determine|develop|draft|edit|evaluate|explain|extract|fill|find|fix|generate|"
    r"grade|help|identify|improve|judge|label|list|order|parse|plan|predict|propose|provide|rank|rate|read|recommend|"
    r"refactor|reply|respond|review|revise|rewrite|route|score|search|select|solve|sort|suggest|summari[sz]e|tag|"
    r"translate|triage|turn|validate|verify|write)\b.*)",
    re.I,
)
_END = re.compile(r"[.!?;:(\n]|,\s|\s[-–—]\s| that | who | which | tasked ")
_MASKS = re.compile(r"[#@]+")
#: Words with which a name must not end when it was cut.
_DANGLING = frozenset({"a", "an", "the", "of", "to", "for", "and", "or", "in", "on", "with", "by", "from", "at", "as"})


def label(lines: Sequence[str], contract: OutputContract) -> str:
    """Name a task.

    Args:
        lines: recurring lines of its prompts, in order; numbers and ids are masked in them.
        contract: the form of its answers.

    Returns:
        At most 60 characters.
    """
    return f"{_subject(lines, contract)} → {_form(contract)}"


def distinct(labels: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Tell apart those with the same name: by a word that only their own lines have, else by a number.

    Args:
        labels: C names.
        lines: C recurring lines of each.

    Returns:
        C names of at most 60 characters, no two alike.
    """
    total = Counter(labels)
    words = [set(re.findall(r"[A-Za-z_]{4,}", " ".join(each).lower())) for each in lines]
    taken = {name for name, count in total.items() if count == 1}
    result: list[str] = []
    for place, name in enumerate(labels):
        if total[name] > 1:
            twins = [other for other in range(len(labels)) if labels[other] == name and other != place]
            own = _first_of(words[place].difference(*(words[other] for other in twins)), lines[place])
            name = _qualified(name, own, taken)
            taken.add(name)
        result.append(name)
    return result


def _first_of(words: set[str], lines: Sequence[str]) -> str:
    """The first of the words in reading order; empty when there is none."""
    for line in lines:
        for word in re.findall(r"[A-Za-z_]{4,}", line):
            if word.lower() in words and word.lower() not in _DANGLING:
                return str(word)
    return ""


def _qualified(name: str, word: str, taken: set[str]) -> str:
    subject, _, form = name.partition(" → ")
    for qualifier in ([word] if word else []) + [str(number) for number in range(1, len(taken) + 3)]:
        room = MAX_CHARS - len(form) - len(qualifier) - 6
        candidate = f"{_cut(subject, room)} ({qualifier}) → {form}"
        if candidate not in taken and len(candidate) <= MAX_CHARS:
            return candidate
    return name


def _subject(lines: Sequence[str], contract: OutputContract) -> str:
    """Who is speaking, else what is to be done, else which tools there are, else the first line."""
    spoken = [line for line in lines if re.search(r"[^\W\d_]{3}", line)]
    for line in spoken:
        if found := _IDENTITY.search(line):
            subject = _phrase(line[found.end() :])
            if len(subject) > 2 and not _NOBODY.match(subject) and not _STATE.match(subject):
                return subject
    for line in spoken:
        if found := _IMPERATIVE.match(line):
            return _capital(_phrase(found[1]))
    if contract.tools:
        return _cut("Use " + ", ".join(sorted(contract.tools)), _MAX_SUBJECT)
    return _phrase(spoken[0].lstrip("#*-= ")) if spoken else "Free-form requests"


def _phrase(text: str) -> str:
    """The first clause, of at most 44 characters."""
    text = " ".join(_MASKS.sub(" ", text).split())
    clause = _END.split(text, maxsplit=1)[0].strip(" \"'`*_<>[]{}")
    return _cut(clause or text, _MAX_SUBJECT)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cut(text: str, room: int) -> str:
    """Whole words within `room` characters."""
    if len(text) <= room:
        return text
    words = text[: room + 1].rsplit(" ", 1)[0].split() if " " in text[:room] else [text[:room]]
    while len(words) > 1 and words[-1].lower() in _DANGLING:
        words.pop()
    return " ".join(words)[:room].rstrip(" ,;:-")


def _form(contract: OutputContract) -> str:
    match contract.kind:
        case ContractKind.TOOL_CALL:
            names = sorted(contract.tools)
            return names[0][:12] if len(names) == 1 else f"tools ({len(names)})"
        case ContractKind.JSON:
            return "JSON"
        case ContractKind.LABEL:
            return f"label ({len(contract.labels)})"
        case ContractKind.TEXT:
            return "text or tool" if contract.tools else "text"
