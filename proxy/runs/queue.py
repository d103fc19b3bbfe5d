"""Runs: learning, training and evaluation as durable work. Asking for them, watching them, cancelling them.

A run is a workflow of DBOS Transact (https://docs.dbos.dev/python): a row in its system database, in a queue until a
learner takes it, with each finished stage beside it. This module is the side of those who ask (admin API, command
line); `learner.py` is the side that works. What a run tells while it works is kept in its row too, as attributes.

The system database is PostgreSQL's where the log is there too, in a schema of its own, so that learners on several
machines share one queue; else a SQLite file in the data directory.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from proxy.errors import BadRequest, Conflict, NoSuchThing
from proxy.settings import Settings
from storage.database import Database
from storage.errors import DatabaseDown
from storage.ids import format_call_id, new_call_id, parse_call_id
from storage.privacy import create_private

if TYPE_CHECKING:
    from dbos import DBOSClient, StepInfo, WorkflowStatus

APPLICATION = "understudy"
SCHEMA = "understudy_runs"
QUEUE = "runs"
WORKFLOW = "run"
#: Not the product's version: that would leave a run that an upgrade interrupted to a learner that is no more. It
#: changes only when runs that an older learner began can't be gone on with.
WORKFLOW_VERSION = "1"
LINES = 100
#: As a base model: the one that a bake-off among those that are served chooses.
AUTO = "auto"
_CONNECT_SECONDS = 5
_PAGE_SLACK = 20


class RunKind(StrEnum):
    """What a run does."""

    LEARN = "learn"
    TRAIN = "train"
    EVALUATE = "evaluate"


class RunStatus(StrEnum):
    """How far a run is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self in (RunStatus.DONE, RunStatus.FAILED, RunStatus.CANCELLED)


_STATUS = {
    "ENQUEUED": RunStatus.QUEUED,
    "DELAYED": RunStatus.QUEUED,
    "PENDING": RunStatus.RUNNING,
    "SUCCESS": RunStatus.DONE,
    "ERROR": RunStatus.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": RunStatus.FAILED,
    "CANCELLED": RunStatus.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class RunWish:
    """What is asked for.

    Attributes:
        cluster: the task; of `train` and `evaluate`.
        base: base model to train on; None: what the SLM server says that it serves. `auto`: the cheapest of all that
            are served that is good enough, as a bake-off finds.
        method: how to train it.
        model: name of the SLM; of `evaluate` the one that is there, of `train` the one to be made.
        slm: SLM server's name; may be left out where there is one only.
    """

    kind: RunKind
    cluster: str | None = None
    base: str | None = None
    method: Literal["lora", "qlora", "full"] = "lora"
    model: str | None = None
    slm: str | None = None

    def checked(self) -> RunWish:
        """See that it makes sense.

        Raises:
            BadRequest: something is missing, or means nothing for this kind.
        """
        if self.kind is RunKind.LEARN:
            unused = [name for name in ("cluster", "base", "model", "slm") if getattr(self, name) is not None]
            if unused:
                raise BadRequest(f"a run of kind learn is about the whole log; it takes no {', '.join(unused)}")
        elif not self.cluster:
            raise BadRequest(f"a run of kind {self.kind} needs a cluster")
        elif self.kind is RunKind.EVALUATE and not self.model:
            raise BadRequest("a run of kind evaluate needs a model")
        elif self.kind is RunKind.EVALUATE and self.base is not None:
            raise BadRequest("a run of kind evaluate takes no base")
        return self

    def completed(self, slm_servers: Collection[str]) -> RunWish:
        """The same, with what is meant where nothing is said: among several SLM servers the bake-off chooses.

        Args:
            slm_servers: the names in UNDERSTUDY_SLM_URL.
        """
        unsaid = self.kind is RunKind.TRAIN and self.base is None and self.slm is None
        return replace(self, base=AUTO) if unsaid and len(slm_servers) > 1 else self

    @property
    def key(self) -> str:
        """Two wishes of one key are for the same thing: the one that is queued or running will do for both."""
        return ":".join(str(value or "") for value in asdict(self).values())


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage that has come to its end.

    Attributes:
        figures: what it found; None when it failed.
        error: why it failed, in one line.
    """

    name: str
    started_at: datetime | None
    ended_at: datetime | None
    figures: dict[str, Any] | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as it is now.

    Attributes:
        asked_by: who wanted it; `schedule` when nobody did.
        learner: host and data directory of the learner that has it, or had it.
        stage: what it is at; None before it begins.
        progress: what the stage last said: `text`, `share` done in [0, 1] and `seconds_left`, where they are known.
        lines: the newest `LINES` of what its stages said, each with its time.
        stages: those that have ended; only where one run is asked for.
        record: the end in words.
        figures: what each stage found, by its name.
        error: why it failed, in one line.
    """

    id: str
    wish: RunWish
    status: RunStatus
    asked_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    learner: str | None
    stage: str | None
    progress: dict[str, Any] | None
    lines: list[str] = field(default_factory=list)
    stages: list[StageDone] = field(default_factory=list)
    record: str | None = None
    figures: dict[str, Any] | None = None
    error: str | None = None


def system_database(settings: Settings) -> str:
    """The URL of the database that runs are kept in."""
    database = Database(settings.database)
    if database.is_sqlite:
        return f"sqlite:///{settings.data_dir / 'runs.sqlite'}"
    url = make_url(database.url).update_query_dict({"connect_timeout": str(_CONNECT_SECONDS)})
    return url.render_as_string(hide_password=False)


class Runs:
    """The runs of an installation. Nothing is opened, and DBOS not imported (20 MB), before the first use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opening = threading.Lock()
        self._opened: DBOSClient | None = None

    def enqueue(self, wish: RunWish, asked_by: str) -> tuple[Run, bool]:
        """Ask for a run.

        Returns:
            The run, and whether it is new: the same that is queued or running already will do.

        Raises:
            BadRequest: something is missing, or means nothing for this kind.
            Conflict: what runs need is not installed.
            DatabaseDown: it was not asked for.
        """
        wish = wish.checked().completed(self._settings.slm_url)
        wanted = format_call_id(new_call_id())
        with self._client() as client:
            found = client.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": wanted,
                    "app_version": WORKFLOW_VERSION,
                    "deduplication_id": wish.key,
                    "duplication_policy": "return-existing",
                    "authenticated_user": asked_by,
                },
                asdict(wish),
            ).get_workflow_id()
        return self.get(found), found == wanted

    def get(self, run_id: str) -> Run:
        """One run, with its stages.

        Raises:
            NoSuchThing: there is none of that id.
            Conflict: what runs need is not installed.
            DatabaseDown
        """
        with self._client() as client:
            return _run(self._row(client, run_id), client.list_workflow_steps(run_id))

    def list_runs(self, *, before: str | None = None, limit: int = 50) -> list[Run]:
        """Runs, newest first, without their stages.

        Args:
            before: the id of the last run of the page before.

        Raises:
            NoSuchThing: there is no run `before`.
            Conflict: what runs need is not installed.
            DatabaseDown
        """
        with self._client() as client:
            since = self._row(client, before) if before else None
            rows = client.list_workflows(
                name=WORKFLOW,
                application_name=APPLICATION,
                end_time=_moment(since.created_at).isoformat() if since else None,
                limit=limit + _PAGE_SLACK,  # some of the same millisecond are of the page before
                sort_desc=True,
            )
        if since is not None:
            last = (since.created_at or 0, since.workflow_id)
            rows = [row for row in rows if (row.created_at or 0, row.workflow_id) < last]
        rows.sort(key=lambda row: (row.created_at or 0, row.workflow_id), reverse=True)
        return [_run(row) for row in rows[:limit]]

    def cancel(self, run_id: str) -> Run:
        """End a run; its stage is killed within seconds.

        Raises:
            NoSuchThing: there is none of that id.
            Conflict: it has ended already; or what runs need is not installed.
            DatabaseDown: nothing was changed.
        """
        with self._client() as client:
            if (found := _run(self._row(client, run_id))).status.has_ended:
                raise Conflict(f"run {run_id} is {found.status} already")
            client.cancel_workflow(run_id)
        cancelled = self.get(run_id)
        if cancelled.status is not RunStatus.CANCELLED:  # it came to its end a moment before
            raise Conflict(f"run {run_id} is {cancelled.status} already")
        return cancelled

    def close(self) -> None:
        """Let go of all connections."""
        if self._opened is not None:
            self._opened.destroy()
            self._opened = None

    # What the learner needs.

    def note(self, run_id: str, **attributes: Any) -> None:
        """Keep what a run tells of itself: `stage`, `progress`, `lines`, `beat`.

        Raises:
            DatabaseDown: it was not kept.
        """
        with self._client() as client:
            client.update_workflow_attributes(run_id, attributes, merge=True)

    def owner(self, run_id: str) -> str | None:
        """The learner that a run is running at; None when it is not running (cancelled, say).

        Raises:
            DatabaseDown
        """
        with self._client() as client:
            row = self._row(client, run_id)
        return row.executor_id if row.status == "PENDING" else None

    def beats(self) -> dict[str, tuple[str | None, Any]]:
        """Of each run that is said to be running: the learner that has it, and its last sign of life.

        Raises:
            DatabaseDown
        """
        with self._client() as client:
            rows = client.list_workflows(
                name=WORKFLOW, application_name=APPLICATION, status="PENDING", load_input=False, load_output=False
            )
        return {row.workflow_id: (row.executor_id, (row.attributes or {}).get("beat")) for row in rows}

    def requeue(self, run_id: str) -> None:
        """Give a run whose learner is gone to the next one; it goes on after its last finished stage.

        Raises:
            DatabaseDown
        """
        with self._client() as client:
            client.resume_workflow(run_id, queue_name=QUEUE)

    def forget_before(self, moment: datetime) -> None:
        """Delete the runs that ended before a moment.

        Raises:
            DatabaseDown
        """
        with self._client() as client:
            rows = client.list_workflows(
                name=WORKFLOW,
                application_name=APPLICATION,
                completed_before=moment.isoformat(),
                load_input=False,
                load_output=False,
            )
            client.delete_workflows([row.workflow_id for row in rows])

    @contextmanager
    def _client(self) -> Iterator[DBOSClient]:
        """The client, made when it is first needed, the schema with it; its errors as callers know them."""
        with mapped_errors():
            with self._opening:
                if self._opened is None:
                    self._opened = self._open()
            yield self._opened

    def _open(self) -> DBOSClient:
        from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer

        url = system_database(self._settings)
        if url.startswith("sqlite"):
            create_private(self._settings.data_dir / "runs.sqlite")
        DBOS.migrate(url, schema=SCHEMA)
        return DBOSClient(
            system_database_url=url,
            dbos_system_schema=SCHEMA,
            serializer=DBOSPortableJSONSerializer(),  # the default is pickle: who writes rows could run code
            application_name=APPLICATION,
            retry_connection_errors=False,
            lazy=True,
        )

    def _row(self, client: DBOSClient, run_id: str) -> WorkflowStatus:
        rows = client.list_workflows(workflow_ids=[run_id], name=WORKFLOW, application_name=APPLICATION)
        if not rows:
            raise NoSuchThing(f"there is no run {run_id}; GET /admin/v1/runs lists them")
        return rows[0]


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Map what DBOS and its drivers raise.

    Raises:
        Conflict: it is not installed.
        DatabaseDown: the database of the runs did not answer.
    """
    try:
        yield
    except ImportError as error:
        raise Conflict(f"runs need {error.name}, which is not installed; pip install {error.name}") from error
    except DBAPIError as error:
        said = " ".join(str(error.orig).split())
        raise DatabaseDown(f"the database of the runs did not answer: {said}") from error
    except OSError as error:
        raise DatabaseDown(f"the database of the runs can't be made: {error.strerror or error}") from error
    except SQLAlchemyError as error:
        raise DatabaseDown(f"the database of the runs can't be used: {' '.join(str(error).split())}") from error


def _run(row: WorkflowStatus, steps: list[StepInfo] | None = None) -> Run:
    """A run's row, in the product's own words."""
    wish = row.input["args"][0] if row.input else {}
    told: dict[str, Any] = row.attributes or {}
    status = _STATUS[row.status]
    error = _error(row.error)
    if row.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        error = "given up: its learner died again and again while it ran"
    end = row.output or {}
    return Run(
        id=row.workflow_id,
        wish=RunWish(**wish | {"kind": RunKind(wish["kind"])}),
        status=status,
        asked_by=row.authenticated_user or "",
        created_at=_moment(int.from_bytes(parse_call_id(row.workflow_id)[:6], "big")),  # SQLite's row knows seconds
        started_at=_moment(told["began_ms"]) if "began_ms" in told else None,
        ended_at=_moment(row.completed_at) if status.has_ended else None,
        learner=row.executor_id,
        stage=told.get("stage"),
        progress=None if status.has_ended else told.get("progress"),
        lines=told.get("lines", []),
        stages=[_stage(step) for step in steps or []],
        record=end.get("record"),
        figures=end.get("figures"),
        error=error,
    )


def _stage(step: StepInfo) -> StageDone:
    began, ended = step["started_at_epoch_ms"], step["completed_at_epoch_ms"]
    return StageDone(
        name=step["function_name"],
        started_at=_moment(began) if began else None,
        ended_at=_moment(ended) if ended else None,
        figures=step["output"],
        error=_error(step["error"]),
    )


def _error(error: Exception | str | None) -> str | None:
    return None if error is None else " ".join(str(error).split())


def _moment(milliseconds: int | None) -> datetime:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
