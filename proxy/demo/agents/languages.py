"""The agent of a call centre that says which language a guest speaks: its answers are labels."""

from __future__ import annotations

import random
from collections.abc import Iterator

from proxy.demo.agents.calls import Assignment, chat_call

SYSTEM = (
    "You are the language desk of a call centre.\n"
    "A guest has said something on the line.\n"
    "Say which language it is, so that the right colleague can take over.\n"
    "Answer with one word: german, french, spanish, italian, dutch or english."
)

_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "german": (
        ("Guten Tag", "Hallo", "Guten Abend", "Entschuldigung"),
        ("ich suche", "ich brauche", "wo finde ich", "haben Sie noch"),
        ("ein Zimmer", "meinen Koffer", "einen Arzt", "zwei Karten", "das Museum", "einen Tisch", "den Bahnhof"),
    ),
    "french": (
        ("Bonjour", "Bonsoir", "Salut", "Pardon"),
        ("je cherche", "il me faut", "je voudrais", "avez-vous encore"),
        ("une chambre", "ma valise", "un docteur", "deux billets", "le musée", "une table", "la gare"),
    ),
    "spanish": (
        ("Buenos días", "Hola", "Buenas tardes", "Perdone"),
        ("estoy buscando", "necesito", "quisiera", "todavía tienen"),
        ("una habitación", "mi maleta", "un médico", "dos entradas", "el museo", "una mesa", "la estación"),
    ),
    "italian": (
        ("Buongiorno", "Ciao", "Buonasera", "Scusi"),
        ("sto cercando", "ho bisogno di", "vorrei", "avete ancora"),
        ("una stanza", "mia valigia", "un dottore", "due biglietti", "il museo", "un tavolo", "la stazione"),
    ),
    "dutch": (
        ("Goedendag", "Hoi", "Goedenavond", "Pardon meneer"),
        ("ik zoek", "ik heb nodig", "waar vind ik", "heeft u nog"),
        ("een kamer", "mijn koffer", "een dokter", "twee kaartjes", "het museum", "een tafel", "het station"),
    ),
    "english": (
        ("Good morning", "Hello", "Good evening", "Excuse me"),
        ("I am looking for", "I need", "where do I find", "do you still have"),
        ("a room", "my suitcase", "a doctor", "two tickets", "the museum", "a table", "the station"),
    ),
}


def languages(seed: int) -> Iterator[Assignment]:
    """The agent's calls and their right answers, endless; never twice the same text."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while True:
        language = rng.choice(list(_WORDS))
        greeting, wish, thing = (rng.choice(words) for words in _WORDS[language])
        said = f"{greeting}, {wish} {thing}." if rng.random() < 0.7 else f"{wish.capitalize()} {thing}."
        text = f"Line {rng.randrange(1, 41)}: {said}"
        if text not in seen:
            seen.add(text)
            yield Assignment(chat_call(SYSTEM, text, max_tokens=10), language)
