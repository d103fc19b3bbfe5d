# ruff: noqa: E501 - a row of a table is one line
"""CLINC150 through the loop, as an agent would use it. `python -m tests.bench clinc150 [FILE]` writes the document.

An agent asks an LLM for the intent of a sentence and gets a label: 150 intents, or `oos`. The simulated LLM is always
right. The log holds every sentence of the train and validation splits but the 100 out-of-scope ones of the latter,
which come afterwards as live traffic. From there on it is the product's own way: discovery, curation, fine-tuning,
threshold and certificate, and the router's look at the payload.
"""

from __future__ import annotations

import gzip
import json
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from proxy.proving.evaluation import chosen_threshold
from router.certificate import Certificate, Subject
from router.contract import Answer, OutputContract
from router.encoder import StaticEncoder, TransformerEncoder
from router.engine import Router
from router.features import read_chat
from router.learning.corpus import LoggedCall
from router.learning.curation.curate import curate
from router.learning.curation.reading import Reader, standard_recognisers
from router.learning.curation.samples import Candidate
from router.learning.discovery import discover
from router.learning.distillation import distill
from router.learning.proof.agreement import Label, Outcome, Verdict
from router.learning.proof.certification import Provenance, certify
from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard
from router.learning.training.fine_tuning import fine_tune
from router.learning.training.recipe import Method, Recipe
from router.promotion import Promotion, Stage
from tests.bench.local_slm import LocalSlm
from tests.bench.payload import default_encoder

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "clinc150_train_val.jsonl.gz"
DOCUMENT = ROOT / "docs" / "clinc150.md"
OUT_OF_SCOPE = "oos"
SYSTEM = (
    "You are the ear of a voice assistant.\n"
    "Say which of its intents the user's sentence has.\n"
    f"Answer with the intent's name alone, or with {OUT_OF_SCOPE} when it has none of them."
)
HIDDEN, LAYERS, HEADS, INTERMEDIATE = 128, 2, 4, 384
RECIPE = Recipe(learning_rate=2e-3, epochs=4, batch=64, min_steps=1)
STANDARD = Standard(0.05, 0.05)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Heard:
    """N sentences put to the SLM.

    Attributes:
        right: (N,) as the LLM says it.
        refused: (N,) by the router, for their payload.
        confidence: (N,) of the SLM's answer; NaN where it broke its contract.
        said: N answers.
    """

    right: np.ndarray[Any, np.dtype[np.bool_]]
    refused: np.ndarray[Any, np.dtype[np.bool_]]
    confidence: np.ndarray[Any, np.dtype[np.float64]]
    said: Sequence[str]

    def served(self, threshold: float | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(N,) which are answered by the SLM: like what was learned, and sure enough."""
        return ~self.refused & (self.confidence >= (-np.inf if threshold is None else threshold))


def call(number: int, text: str, intent: str) -> LoggedCall:
    """One sentence as the agent's call."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    features = read_chat({"model": "gpt-4o", "messages": messages, "temperature": 0, "max_tokens": 10})
    return LoggedCall(f"{number:05}", features, Answer(intent), BEGAN + timedelta(seconds=number), "gpt-4o")


def make_base(out: Path, static: StaticEncoder, texts: Sequence[str], labels: Sequence[str]) -> int:
    """A causal model whose word vectors are the sentence encoder's; all else is random. Returns its parameters.

    Args:
        texts: whose words it knows, whole.
        labels: a token each.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from proxy.demo.tiny_model import CHAT_TEMPLATE, INITIALIZER_RANGE, OUTPUT_SCALE

    torch.manual_seed(0)
    split = pre_tokenizers.BertPreTokenizer()
    words = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text.lower())})
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<unk>"]
    fixed = [*SYSTEM.splitlines(), *labels]
    raw = Tokenizer(models.WordLevel({word: place for place, word in enumerate([*special, *words])}, "<unk>"))
    raw.normalizer, raw.pre_tokenizer = normalizers.Lowercase(), split
    raw.add_special_tokens(special)
    raw.add_tokens([token for token in fixed if token not in words])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=special[0], eos_token=special[2], unk_token=special[3],
        chat_template=CHAT_TEMPLATE, model_max_length=256,
    )  # fmt: skip
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=256, tie_word_embeddings=True,
            initializer_range=INITIALIZER_RANGE, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    vectors = torch.tensor(static.encode([token.replace("_", " ") for token in tokens]))
    known = vectors.norm(dim=1) > 0
    with torch.no_grad():
        rows = vectors[known][:, :HIDDEN]
        model.model.embed_tokens.weight[known] = rows / rows.std() * INITIALIZER_RANGE
        model.model.norm.weight.fill_(OUTPUT_SCALE)
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def hear(slm: LocalSlm, router: Router, calls: Sequence[LoggedCall], contract: OutputContract) -> Heard:
    """Put calls to the router and the SLM."""
    comparator = Label(contract.labels)
    chats = [([{"role": m.role, "content": m.text} for m in each.features.messages], []) for each in calls]
    answers = slm.answer(chats, contract.labels, max_tokens=8)
    right = [
        each.answer is not None and comparator.compare(each.answer, Answer(said)).outcome is Outcome.AGREE
        for each, (said, _) in zip(calls, answers, strict=True)
    ]
    refused = [router.settle(router.decide(each.features)).promotion is None for each in calls]
    confidence = [np.nan if sure is None else sure for _, sure in answers]
    return Heard(np.array(right), np.array(refused), np.array(confidence, np.float64), [said for said, _ in answers])


def evidence(heard: Heard, calls: Sequence[LoggedCall]) -> Evidence:
    """As the proof takes it."""
    verdicts = [Verdict(Outcome.AGREE if right else Outcome.DISAGREE, "") for right in heard.right]
    return Evidence.of_verdicts(heard.confidence, verdicts, [each.call_id for each in calls])


def main(document: Path) -> None:
    """Run it, and write the document."""
    began = time.monotonic()
    with gzip.open(DATA, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    later = [row for row in rows if row["split"] == "val" and row["intent"] == OUT_OF_SCOPE]
    logged = [row for row in rows if not (row["split"] == "val" and row["intent"] == OUT_OF_SCOPE)]
    random.Random(0).shuffle(logged)
    calls = [call(number, row["text"], row["intent"]) for number, row in enumerate(logged)]
    probes = [call(len(calls) + number, row["text"], row["intent"]) for number, row in enumerate(later)]

    source = default_encoder()
    encoder, static = TransformerEncoder(source), distill(source)
    found = discover(calls, static=static, encoder=encoder)
    snapshot = found.snapshot
    cluster = max(snapshot.clusters.values(), key=lambda each: each.calls)
    _tell(began, f"{len(snapshot.clusters)} task, {cluster.contract.kind}, {len(cluster.contract.labels)} labels")
    mine = [each for each, name in zip(calls, found.assignments, strict=True) if name == cluster.cluster_id]
    curated = curate([Candidate(each) for each in mine], cluster.contract, Reader(standard_recognisers()))
    _tell(began, f"{len(curated.train)} samples to train on; left out: {dict(curated.drops)}")

    by_id = {each.call_id: each for each in calls}
    calibration = [by_id[each.call_id] for each in curated.calibration]
    certification = [by_id[each.call_id] for each in curated.certification]
    with tempfile.TemporaryDirectory(prefix="clinc150-") as work:
        base = Path(work) / "base"
        texts = [sample.chat[1]["content"] for sample in curated.train] + [SYSTEM, "system user assistant tools"]
        parameters = make_base(base, static, texts, cluster.contract.labels)
        card = fine_tune(
            base, Path(work) / "slm", curated.train, method=Method.FULL, recipe=RECIPE, task="intent",
            progress=lambda line: _tell(began, line) if line.startswith("training") and "00 of" in line else None,
        )  # fmt: skip
        _tell(began, f"trained in {card.seconds:.0f} s")
        slm = LocalSlm(Path(work) / "slm")
    promotion = Promotion(cluster.cluster_id, "intent", Stage.LIVE, 1.0, "local", None, None)
    encoder.load()
    router = Router(snapshot, {cluster.cluster_id: promotion}, encoder)
    heard = {
        name: hear(slm, router, part, cluster.contract)
        for name, part in (("calibration", calibration), ("certification", certification), ("probes", probes))
    }
    threshold = chosen_threshold(evidence(heard["calibration"], calibration), len(certification), STANDARD)
    certificate = certify(
        Subject(
            cluster_id=cluster.cluster_id, model="intent", weights=card.weights, skeleton="", contract="", teacher=""
        ),
        evidence(heard["certification"], certification),
        Provenance("holdout", certification[0].arrived_at, certification[-1].arrived_at),
        threshold,
        STANDARD,
        comparator=Label(cluster.contract.labels).name,
        issued_at=BEGAN,
    )
    figures = {
        "parameters": parameters, "samples": len(curated.train), "seconds": card.seconds,
        "steps": card.settings["steps_done"], "calibration": len(calibration),
    }  # fmt: skip
    written = text(figures, certificate, heard["certification"], heard["probes"], certification)
    document.write_text(written)
    sys.stdout.write(written)
    _tell(began, f"written to {document}")


def text(
    figures: dict[str, Any],
    certificate: Certificate,
    held_out: Heard,
    probes: Heard,
    calls: Sequence[LoggedCall],
) -> str:
    """The document."""
    in_scope = np.array([each.answer is not None and each.answer.text != OUT_OF_SCOPE for each in calls])
    served, wrong = held_out.served(certificate.threshold), ~held_out.right
    probed = probes.served(certificate.threshold)
    astray = probed & ~probes.right
    sure = np.nan_to_num(probes.confidence, nan=-1.0) >= (certificate.threshold or 0.0)
    threshold = "none" if certificate.threshold is None else f"{certificate.threshold:.3f}"
    verdict = "passes" if certificate.passes else "does not pass"
    return f"""# CLINC150 through the loop

An agent asks for the intent of a sentence: 150 intents, or out of scope. What follows was run by
`python -m tests.bench clinc150`, which writes this file, on {platform.machine()} without a GPU; nothing is typed in but
the published figures, and the one of another bench that is named with it.

The log holds the 18,000 in-scope sentences of the train and validation splits and 100 out-of-scope ones, in random
order, each answered rightly by a simulated LLM. The test split, which published figures are for, is not among our data.

| step | what came of it |
| --- | --- |
| discovery | one task, a label contract |
| curation | {figures["samples"]:,} samples to train on, {figures["calibration"]:,} calls for the threshold, {len(calls):,} for the certificate |
| the SLM | a causal model of {figures["parameters"] / 1e6:.1f} million parameters, its word vectors taken from all-MiniLM-L6-v2, all else random; every weight trained, {figures["steps"]:,} steps in {figures["seconds"] / 60:.0f} minutes |
| accuracy on the certification split, every call answered | {held_out.right.mean():.1%}; in scope {held_out.right[in_scope].mean():.1%} |
| threshold, chosen on the calibration split | {threshold} |
| certificate at 5 % and 95 % | {verdict}: {certificate.failures} of {certificate.n:,} served calls disagree, at most {certificate.disagreement_bound:.2%} |
| **coverage at certified 5 %** | **{certificate.coverage:.1%}** ({certificate.coverage_low:.1%} to {certificate.coverage_high:.1%}) |
| the same behind the router's look at the payload | {served.mean():.1%} served, {share(int((served & wrong).sum()), int(served.sum()))} of them wrongly |

Then the 100 out-of-scope sentences of the validation split, which nothing was learned from:

| | |
| --- | --- |
| **answered by the SLM with an intent: wrongly served** | **{share(int(astray.sum()), len(probes.right))}** |
| answered by the SLM, rightly, with `{OUT_OF_SCOPE}` | {share(int((probed & probes.right).sum()), len(probes.right))} |
| left to the LLM | {share(int((~probed).sum()), len(probes.right))} |
| wrongly served if the router did not look at the payload | {share(int((sure & ~probes.right).sum()), len(probes.right))} |

The certificate speaks of traffic like the log's, in which one sentence in 180 is out of scope. It says nothing of the
second table: where out-of-scope sentences become frequent, the audit has to notice.

## Beside what is published

In-scope accuracy, every sentence answered; out-of-scope recall: sentences out of scope that were told so.

| | in scope | out-of-scope recall |
| --- | ---: | ---: |
| this SLM, every call answered (validation and train sentences held out) | {held_out.right[in_scope].mean():.1%} | {probes.right.mean():.1%} |
| this SLM in the loop, what it isn't given or isn't sure of left to the LLM | {1 - (served & wrong)[in_scope].mean():.1%} | {1 - astray.mean():.1%} |
| the router's own encoder with a linear head, which is no SLM (`python -m tests.bench payload`) | 96.0% | |
| MLP on sentence embeddings, Larson et al. 2019 | 93.5% | 47.4% |
| BERT (110 million parameters, pre-trained), same | 96.9% | 40.3% |
| all-mpnet-base-v2 with a calibrated linear SVM and a threshold (Amitava25/clinc150-mpnet-oos, its model card) | | 81.5% |

Larson et al., *An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction*, EMNLP 2019, quoted without
the paper at hand: full data,
trained with the 100 out-of-scope sentences, test split of 4,500 and 1,000. The rows above theirs are other sentences of
the same kind, so the comparison is of orders, not of digits. With the LLM behind it, the loop's figure counts every
call that is left to the simulated LLM as right.
"""


def share(part: int, whole: int) -> str:
    """In words."""
    return f"{part} of {whole} ({part / max(whole, 1):.1%})"


def _tell(began: float, line: str) -> None:
    sys.stderr.write(f"{time.monotonic() - began:5.0f} s  {line}\n")


if __name__ == "__main__":
    if not DATA.exists():
        sys.stdout.write(f"not measured: no sentences at {DATA}\n")
    else:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENT)
