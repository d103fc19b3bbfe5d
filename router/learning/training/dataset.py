"""What curation made of a task, as it is kept for training and for the proof."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

import orjson

from router.contract import OutputContract
from router.learning.curation.drops import Drop
from router.learning.curation.samples import Curated, HeldOut, Sample
from router.learning.curation.weighed import WeighedToken

_SAMPLES = "samples.jsonl"
_HELD_OUT = "held-out.json"
_ABOUT = "about.json"


class DatasetInvalid(ValueError):
    """The files are not a dataset's; the message names what is wrong."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A task's samples, the calls kept for its proof, and the form of its answers."""

    cluster_id: str
    contract: OutputContract
    curated: Curated

    @property
    def digest(self) -> str:
        """Names exactly these samples, held-out calls and this contract: 16 hex digits."""
        digest = blake2b(self.curated.digest.encode(), digest_size=8)
        digest.update(orjson.dumps([self.cluster_id, self.contract.to_json()], option=orjson.OPT_SORT_KEYS))
        return digest.hexdigest()

    def dump(self) -> dict[str, bytes]:
        """As files: name → content."""
        curated = self.curated
        held_out = {"calibration": curated.calibration, "certification": curated.certification}
        about = {
            "cluster_id": self.cluster_id,
            "contract": self.contract.to_json(),
            "digest": self.digest,
            "drops": {drop.value: count for drop, count in curated.drops.items()},
            "masked": dict(curated.masked),
        }
        return {
            _SAMPLES: b"".join(orjson.dumps(_of_sample(sample)) + b"\n" for sample in curated.train),
            _HELD_OUT: orjson.dumps({name: [_of_held_out(each) for each in part] for name, part in held_out.items()}),
            _ABOUT: orjson.dumps(about),
        }

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> Dataset:
        """Read what `dump` made.

        Raises:
            DatasetInvalid
        """
        try:
            about = orjson.loads(files[_ABOUT])
            held_out = orjson.loads(files[_HELD_OUT])
            dataset = cls(
                about["cluster_id"],
                OutputContract.from_json(about["contract"]),
                Curated(
                    train=tuple(_sample(orjson.loads(line)) for line in files[_SAMPLES].splitlines()),
                    calibration=tuple(_held_out(held_out["calibration"])),
                    certification=tuple(_held_out(held_out["certification"])),
                    drops={Drop(name): count for name, count in about["drops"].items()},
                    masked=about["masked"],
                ),
            )
            digest = about["digest"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetInvalid(f"not a dataset: {error!r}") from error
        if dataset.digest != digest:
            raise DatasetInvalid(f"not the dataset {digest} that it says it is")
        return dataset


def _of_sample(sample: Sample) -> dict[str, Any]:
    line = {
        "call_id": sample.call_id,
        "conversation": sample.conversation,
        "arrived_at": sample.arrived_at,
        "chat": sample.chat,
        "tools": sample.tools,
        "parallel_tool_calls": sample.parallel_tool_calls,
    }
    return line | ({"weighed": sample.weighed} if sample.weighed else {})


def _sample(line: dict[str, Any]) -> Sample:
    weighed = tuple(
        WeighedToken(token["text"], tuple((text, weight) for text, weight in token["likely"]))
        for token in line.get("weighed", ())
    )
    return Sample(**line | {"arrived_at": datetime.fromisoformat(line["arrived_at"]), "weighed": weighed})


def _of_held_out(call: HeldOut) -> list[Any]:
    return [call.call_id, call.conversation, call.arrived_at]


def _held_out(rows: Iterable[list[str]]) -> list[HeldOut]:
    return [HeldOut(call_id, conversation, datetime.fromisoformat(at)) for call_id, conversation, at in rows]
