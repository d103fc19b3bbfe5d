"""Personal data and secrets are found; what only looks like them stays."""

from __future__ import annotations

import random
import string
import time

import pytest

from router.learning.curation.findings import Finding, settle
from router.learning.curation.reading import Reader, standard_recognisers
from tests.bench.masking import DATA, IN_PART, PROMISED, measure, rows

#: Made up for these tests; numbers are their issuers' published examples or have right checksums of no account.
FOUND = [
    ("EMAIL", "write to ana-maria.o'neil+shop@mail.kunde.co.uk please", "ana-maria.o'neil+shop@mail.kunde.co.uk"),
    ("CARD", "charged 4111 1111 1111 1111 twice", "4111 1111 1111 1111"),
    ("CARD", "amex 378282246310005.", "378282246310005"),
    ("IBAN", "an DE89 3704 0044 0532 0130 00 überweisen", "DE89 3704 0044 0532 0130 00"),
    ("SSN", "her SSN 219-09-9998 was leaked", "219-09-9998"),
    ("PHONE", "dial +49 (0)30 9018-20 now", "+49 (0)30 9018-20"),
    ("PHONE", "Tel.: 030 901820", "030 901820"),
    ("PHONE", "mobile_number=07700 900 118", "07700 900 118"),
    ("PHONE", "Reach me on 415.555.2671 x12 after lunch", "415.555.2671 x12"),
    ("IP_ADDRESS", "failed login from 81.2.69.160 at noon", "81.2.69.160"),
    ("IP_ADDRESS", "from 2a02:8109:9ac0:1::42 too", "2a02:8109:9ac0:1::42"),
    ("NATIONAL_ID", "codice fiscale RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("NATIONAL_ID", "NI number AB 12 34 56 C", "AB 12 34 56 C"),
    ("HEALTH_ID", "MRN: 00481516-A, ward 3", "00481516-A"),
    ("HEALTH_ID", "NHS number 943 476 5919", "943 476 5919"),
    ("PASSPORT", "US passport 340020013 expires soon", "340020013"),
    ("POSTCODE", "zip code: 94103", "94103"),
    ("ADDRESS", "We live at 221b Baker Street, London", "221b Baker Street, London"),
    ("ADDRESS", "an der Lindenallee 12a, 3. Stock", "Lindenallee 12a"),
    ("ADDRESS", "28 rue de la République", "28 rue de la République"),
    ("ADDRESS", "C/ Gran Vía 32", "C/ Gran Vía 32"),
    ("PERSON", "My name is Zoë van den Berg and I ordered", "Zoë van den Berg"),
    ("PERSON", "ask Dr. Okonkwo-Smith about it", "Okonkwo-Smith"),
    ("PERSON", "it is Dr. Moreau's island", "Moreau"),
    ("PERSON", "Kind regards,\nPriya Natarajan", "Priya Natarajan"),
    ("DATE", "DOB: 1984-07-02", "1984-07-02"),
    ("DATE", "she was born on 3 March 1951 in Graz", "3 March 1951"),
    ("AGE", "a 93-year-old man", "93"),
    ("SECRET", "password: 'correct7horse!'", "correct7horse!"),
    ("SECRET", "curl -H 'Authorization: Bearer abCD1234efGH5678ij'", "abCD1234efGH5678ij"),
    ("SECRET", "export OPENAI_API_KEY=sk-proj-aB3dE5fG7hJ9kL1mN3pQ5r", "sk-proj-aB3dE5fG7hJ9kL1mN3pQ5r"),
    ("SECRET", "postgres://app:s3cr3tPw@db.internal/x", "s3cr3tPw"),
    ("SECRET", "AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("SECRET", "ANTHROPIC sk-ant-api03-Zx9_kQ7-vB2nM4cL8pR1tY6w", "sk-ant-api03-Zx9_kQ7-vB2nM4cL8pR1tY6w"),
    ("SECRET", "glpat-aB3dE5fG7hJ9kL1mN3pQ", "glpat-aB3dE5fG7hJ9kL1mN3pQ"),
]  # fmt: skip

LEFT = [
    "order 4111111111111112 shipped",  # no card's checksum
    "see https://shop.test/pin/378282246310005",
    "it took 1699999999999 ms",
    "mail user@example.com or admin@localhost",
    "decorate it with @pytest.mark.parametrize",
    "arr[2::4], out[::6] and PS3.3 C.7.6.3.1.2",
    "00:d6:5d:7b:86:ca:3f:ff:3c:6c:16:34",
    ".text:00400621 4883c480 MOV",
    "earningsCallTimestampStart: 1756328400, iPhone qid=1689009508",
    "/news/us-equity-indexes-touch-record-163107921.html",
    "listens on 127.0.0.1:8000 and 192.168.0.7",
    "Chrome/121.0.6.1 and version 10.2.33.4",
    "between 2019-03-04 and 2021-12-31",
    "rows 100-200 300-400 500",
    "total: 1,234,567.89 of 12 345 678",
    "tracking id 943476591",
    "commit 9fceb02d0ae598e95dc970b74767f19372d63",
    "Your password must have eight characters; the password is required.",
    'api_key = os.environ["OPENAI_API_KEY"]; password: str',
    "the token: {{ token }}, secret=<your-secret>",
    "Dear team, thanks",
    "Name: Search Tool",
    "a 45-year-old man",
    "Step 3 Drive safely. Chapter 12 Investigate 5 cases",
    "we flew to Paris on 3 March 2024",
    "ATTENTION: Use '##' to split sections",
]


@pytest.mark.parametrize(("kind", "text", "value"), FOUND, ids=[text[:30] for _, text, _ in FOUND])
def test_finds(reader: Reader, kind: str, text: str, value: str) -> None:
    assert (kind, value) in reader.find(text)


@pytest.mark.parametrize("text", LEFT)
def test_leaves(reader: Reader, text: str) -> None:
    assert reader.find(text) == ()


def test_numbers_without_a_word_beside_them_are_nobodys_whatever_their_checksum(reader: Reader) -> None:
    rng = random.Random(0)
    text = "\n".join(f"row {n}: {''.join(rng.choices(string.digits[1:], k=rng.randint(8, 11)))}" for n in range(2000))
    assert len(reader.find(text)) == 0


def test_a_fields_name_says_what_its_value_is(reader: Reader) -> None:
    assert reader.find('{"contact": {"phoneNumber": "06601234567", "amount": "06601234567"}}') == (
        ("PHONE", "06601234567"),
    )
    assert reader.find('{"card": 4111111111111111}') == (("CARD", "4111111111111111"),)
    assert reader.find('{"body": "{\\"mail\\": \\"eva\\\\n@kunde.at b@kunde.at\\"}"}') == (("EMAIL", "b@kunde.at"),)


def test_escaped_line_breaks_do_not_hide_what_follows(reader: Reader) -> None:
    assert reader.find(r'print("Phone:\n0660 123 4567\neva@kunde.at")') == (
        ("PHONE", "0660 123 4567"),
        ("EMAIL", "eva@kunde.at"),
    )


#: Texts that make patterns go back and try again.
HARD = [
    "A", "a.", "1 ", "Aa ", "12 Aa ", "a@", "a-", "::", "\n", "12 Main Street\n", "my name is ", "password: ", "1.",
    "rue de la ", "(1)", "Apt 1, ", "address: 1 A ", 'password="', "A. ", "-----BEGIN PRIVATE KEY-----", "sk-a-", "0 ",
]  # fmt: skip


@pytest.mark.parametrize("piece", HARD)
def test_no_text_takes_forever(reader: Reader, piece: str) -> None:
    began = time.process_time()
    reader.spans(piece * (20_000 // len(piece)))
    assert time.process_time() - began < 5  # a tenth of it in fact


def test_of_overlapping_findings_the_longest_stays() -> None:
    found = [Finding(0, 4, "A"), Finding(2, 9, "B"), Finding(9, 12, "C"), Finding(2, 9, "D")]
    assert settle(found) == [Finding(2, 9, "B"), Finding(9, 12, "C")]


def test_a_model_can_be_plugged_in() -> None:
    class Bert:
        def find(self, text: str) -> list[Finding]:
            return [Finding(text.index("Verda"), text.index("Verda") + 5, "PERSON")]

    assert Reader([*standard_recognisers(), Bert()]).find("Verda lives on 33 avenue de Provence")[0] == (
        "PERSON",
        "Verda",
    )


@pytest.mark.skipif(not DATA.exists(), reason="the labelled texts are not here")
def test_recall_and_precision_on_labelled_texts(reader: Reader) -> None:
    """A little below what `tests/bench/masking.py` prints."""
    score = measure(rows(), reader)
    assert score.precision >= 0.99
    assert score.recall(*PROMISED) >= 0.98
    for kind, least in zip(IN_PART, (0.62, 0.5, 0.15), strict=True):
        assert score.recall(kind) >= least, kind
