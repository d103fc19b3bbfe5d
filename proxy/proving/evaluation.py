"""`understudy evaluate`: held-out calls through a served SLM, its answers compared with the LLM's, into a certificate.

    held_out.py     which calls
    rehearsal.py    played to the SLM by production's own code
    comparison.py   what counts as agreement, and how often that errs on free text
    here            the threshold from one split, the certificate from the other; kept, passing or not

What it proves is `router.learning.proof`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b

import numpy as np

from proxy.errors import Conflict, NoSuchThing
from proxy.learning.training import trained_on
from proxy.learning.workshop import Workshop
from proxy.promotion.moves import checked_server
from proxy.promotion.proof import subject_today, voided_at, whereabouts
from proxy.proving.comparison import Comparison, encoder_of, standard_of
from proxy.proving.held_out import HeldOutCalls, held_out_calls
from proxy.proving.rehearsal import Played, Rehearsal, evidence_of
from proxy.proving.text_judge import judge_of
from proxy.slm.kept_adapters import restore_adapter
from proxy.slm.vllm import VllmServer
from router.certificate import Certificate, JudgeError, SelfAgreement
from router.contract import OutputContract
from router.learning.proof.ceiling import self_agreement
from router.learning.proof.certification import Provenance, certify
from router.learning.proof.evidence import Evidence
from router.learning.proof.standard import Standard
from router.learning.proof.thresholds import choose_threshold, likeliest_threshold, threshold_grid
from router.promotion import Promotion, Stage
from storage.errors import NotFound
from storage.repositories.certificates import add_certificate, list_certificates
from storage.repositories.clusters import get_cluster
from storage.repositories.costs import add_cost
from storage.repositories.registry import get_model
from storage.repositories.state import lock_serving

#: One calibration conversation in so many says where thresholds are worth testing, and is not tested.
_LAYING = 4


def evaluate(
    workshop: Workshop, cluster_id: str, model: str, *, slm: str | None = None, adapter: str | None = None
) -> tuple[int, Certificate]:
    """Put an SLM to the proof on held-out calls of a task, and keep the certificate, whether it passes or not.

    Args:
        slm: server name; may be left out where there is one server only, or the model is registered.
        adapter: path as the SLM server sees it; may be left out for a registered model.

    Returns:
        The certificate's number, and the certificate.

    Raises:
        NoSuchThing: no such cluster, or no such SLM server.
        Conflict: the SLM server can't be reached or stops answering; the adapter can't be restored; there is
            nothing to compare with, or by.
        BadRequest: there are several SLM servers, and none is named.
        Unprocessable: the server does not have the model, and can't get it.
        DatabaseDown: no certificate was kept.
    """
    settings, database, cipher = workshop.settings, workshop.database, workshop.cipher
    with database.read() as session:
        try:
            cluster = get_cluster(session, cipher, cluster_id)
        except NotFound as error:
            raise NoSuchThing(str(error)) from error
        known = get_model(session, model)
        slm, adapter = whereabouts(settings, known, slm, adapter)
    server = checked_server(settings, slm)
    contract = OutputContract.from_json(cluster.contract)
    judge = judge_of(settings, database, cluster_id)
    comparison = Comparison(contract, encoder_of(settings), judge)
    comparison.check_possible(cluster_id)
    workshop.progress("loading the model")
    restore_adapter(settings, workshop.artifacts, known, adapter)
    served = VllmServer(server, settings.slm_url[server], settings.slm_api_key).ensure_served(model, adapter)
    workshop.progress("reading the log")
    dataset = trained_on(workshop, model)
    mine = dataset.curated if dataset and dataset.cluster_id == cluster_id else None
    kept = (mine.calibration, mine.certification) if mine else None
    with database.read() as session:
        since = voided_at(session, cluster_id, model)
        held_out = held_out_calls(session, cipher, cluster_id, kept, since, workshop.progress)
    if not held_out.certification:
        raise Conflict(
            f"cluster {cluster_id} has no held-out call that the LLM answered whole: nothing can be compared; "
            f"a certificate takes {standard_of(settings).needed()} conversations"
        )
    promotion = Promotion(cluster_id, model, Stage.LIVE, 1.0, server, adapter, served.max_context_tokens)
    rehearsal = Rehearsal(settings, promotion, contract, comparison, workshop.progress)
    try:
        standard = replace(standard_of(settings), judge=_error(workshop, cluster_id, held_out, comparison))
        workshop.progress("replaying")
        played = asyncio.run(rehearsal.play([*held_out.calibration, *held_out.certification]))
        ceiling = _ceiling(held_out, comparison)
    except OSError as error:
        raise Conflict(f"UNDERSTUDY_ENCODER={settings.encoder} is not to be had: {error}") from error
    finally:
        if judge is not None:
            judge.close()
    if judge is not None and judge.away is not None:
        raise Conflict(f"the judge {settings.judge_model!r} did not answer ({judge.away}); nothing was certified")
    workshop.progress("certifying")
    return _certify(workshop, promotion, held_out, played, comparison, standard, ceiling)


def _error(workshop: Workshop, cluster_id: str, held_out: HeldOutCalls, comparison: Comparison) -> JudgeError | None:
    """The comparator's own error, measured on one answer of each held-out conversation; None where it makes none."""
    if not comparison.errs:
        return None
    workshop.progress("measuring the comparator")
    calls = [*held_out.calibration, *held_out.certification]
    answers = {each.conversation: each.call.answer for each in calls if each.call.answer is not None}
    with workshop.database.read() as session:
        attempt = len(list_certificates(session, cluster_id)) + 1
    delta = standard_of(workshop.settings).for_attempt(attempt).delta
    return comparison.error(list(answers.values()), delta / 4)  # half for the judge, and half of that for either error


def _certify(
    workshop: Workshop,
    promotion: Promotion,
    held_out: HeldOutCalls,
    played: list[Played],
    comparison: Comparison,
    standard: Standard,
    ceiling: SelfAgreement | None,
) -> tuple[int, Certificate]:
    """Draw up the certificate and keep it."""
    cluster_id, model = promotion.cluster_id, promotion.model
    calibrated = len(held_out.calibration)
    calibration, certification = evidence_of(played[:calibrated]), evidence_of(played[calibrated:])
    arrived_at = [each.call.arrived_at for each in held_out.certification]
    with workshop.database.write() as session:
        lock_serving(session)  # whoever evaluates at the same time makes the next attempt
        attempt = len(list_certificates(session, cluster_id)) + 1
        conversations = len(certification.one_per_conversation())
        certificate = certify(
            subject_today(session, workshop.cipher, cluster_id, model, promotion.slm, promotion.adapter),
            certification,
            Provenance("holdout", arrived_at[0], arrived_at[-1], attempt),
            chosen_threshold(calibration, conversations, standard.for_attempt(attempt)),
            standard,
            comparator=comparison.of_task.name,
            issued_at=datetime.now(UTC),
            ceiling=ceiling,
        )
        row = add_certificate(session, cluster_id, model, certificate.issued_at, certificate.to_json())
        figures = {"calls": len(played), "model": model, "certificate": row.certificate_id}
        add_cost(session, "evaluation", cluster_id, sum(each.usd for each in played), figures)
    return row.certificate_id, certificate


def chosen_threshold(calibration: Evidence, certification_calls: int, standard: Standard) -> float | None:
    """How sure the SLM must be: as the calibration split proves it where it is large enough, else as it suggests.

    Args:
        certification_calls: conversations in the certification split.
        standard: of proof, for this attempt.
    """
    lays = np.array([_draw(str(name)) % _LAYING == 0 for name in calibration.conversations], dtype=bool)
    tested = calibration.take(~lays)
    grid = threshold_grid(calibration.confidences[lays], len(tested.one_per_conversation()), standard)
    choice = choose_threshold(tested, grid, standard, certification_calls) if len(grid) > 1 else None
    return (choice or likeliest_threshold(calibration, standard, certification_calls)).threshold


def _draw(name: str) -> int:
    return blake2b(name.encode(), digest_size=1).digest()[0]


def _ceiling(held_out: HeldOutCalls, comparison: Comparison) -> SelfAgreement | None:
    """The LLM's agreement with itself; None where no request was repeated."""
    answers = [[each.call.answer for each in calls if each.call.answer is not None] for calls in held_out.repeated]
    found = self_agreement(answers, comparison.of_task)
    return found if found.pairs else None


def in_words(certificate: Certificate) -> str:
    """What a certificate comes to, and what more it would take."""
    disagree = f"{certificate.failures} of {certificate.n} served conversations disagree"
    if certificate.passes:
        confidence = f"at confidence {1 - certificate.delta:g}"
        return f"proved: {disagree}; {confidence} at most {certificate.disagreement_bound:.2%} do"
    if certificate.judge is not None and not certificate.judge.is_measured:
        return f"not proved: {disagree}; too few answers in the log to measure how often the comparator is wrong"
    if certificate.needed is None:
        words = f"not proved: {disagree}; no number of calls would prove {certificate.alpha:g}"
        if certificate.judge is not None:
            passed, pairs = certificate.judge.passed, certificate.judge.disagreements
            words += f" by a comparator that passes {passed} of {pairs} known disagreements"
        return words
    words = f"not proved: {disagree}; with so many failures it takes {certificate.needed} served conversations"
    if certificate.coverage > 0:
        words += f", about {round(certificate.needed / certificate.coverage)} held out"
    return words
