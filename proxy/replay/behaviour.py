"""How a simulated upstream serves its answers: slowly, in pieces, or not as it should.

A behaviour is asked for by request headers (`x-replay-fault: stall`, `x-replay-token-seconds: 0.01`), so that one server
plays every part of a test; or set for all calls, or the next few, by `POST /_ctl {"fault": "stall", "times": 3}`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "x-replay-"
FAULTS = {
    "error-<status>": "an error in OpenAI's shape; 429 and 503 with retry-after",
    "reset": "closes the connection before the headers",
    "stall": "never sends the headers",
    "stall-first": "sends the headers, then nothing",
    "stall-body": "sends half of the body, then nothing",
    "cut": "sends half of the body, then closes the connection",
    "truncate": "ends a stream properly, but before its last event; of another body, sends half as if it were all",
    "error-event": "half of a stream, then an event that holds an error, inside status 200",
    "garbage": "status 200 and a body that is neither JSON nor events",
    "wrong-length": "promises one byte more than it sends, then closes the connection",
}
_ERROR = re.compile(r"error-([1-5]\d\d)")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to serve.

    Attributes:
        latency_seconds: before the headers.
        first_token_seconds: between the headers and the body.
        token_seconds: between two events of a stream.
        split_bytes: writes the body in pieces of this length, whatever they cut; 0: event by event, or whole.
        fault: one of `FAULTS`, or empty.
    """

    latency_seconds: float = 0.0
    first_token_seconds: float = 0.0
    token_seconds: float = 0.0
    split_bytes: int = 0
    fault: str = ""

    def changed(self, wishes: Mapping[str, Any]) -> Behaviour:
        """This behaviour with other values.

        Args:
            wishes: by field; numbers may be strings.

        Raises:
            ValueError: an unknown field or fault, or a value that is no number or negative.
        """
        values: dict[str, Any] = {}
        for name, value in wishes.items():
            if name == "fault":
                if value and value not in FAULTS and not _ERROR.fullmatch(str(value)):
                    raise ValueError(f"no such fault: {value!r}; known are {', '.join(FAULTS)}")
                values[name] = str(value or "")
            elif name in Behaviour.__slots__:
                values[name] = int(value) if name == "split_bytes" else float(value)
                if values[name] < 0:
                    raise ValueError(f"{name} is negative: {value!r}")
            else:
                raise ValueError(f"no such behaviour: {name!r}; known are {', '.join(Behaviour.__slots__)}")
        return dataclasses.replace(self, **values)

    def as_asked(self, headers: Mapping[str, str]) -> Behaviour:
        """This behaviour as the headers of one request want it.

        Raises:
            ValueError
        """
        asked = {
            name.lower().removeprefix(PREFIX).replace("-", "_"): value
            for name, value in headers.items()
            if name.lower().startswith(PREFIX)
        }
        return self.changed(asked) if asked else self

    @property
    def error_status(self) -> int | None:
        """The status of an `error-<status>` fault."""
        matched = _ERROR.fullmatch(self.fault)
        return int(matched[1]) if matched else None
