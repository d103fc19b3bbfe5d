"""What can go wrong in the router. Serving never sees any of it: a decision that fails is a decision for the LLM.

ValueError
├── SnapshotInvalid                                        a snapshot's files are missing, malformed or at odds
├── router.features.FeaturesUnreadable                     a body without its endpoint's shape
├── router.contract.ContractInvalid                        not a contract's JSON form
├── router.schema.SchemaUncheckable                        no JSON schema, or too dear to check
├── router.certificate.CertificateInvalid                  not a certificate's JSON form
├── router.learning.proof.audit.AuditInvalid               not the stored state of an audit or a drift watch
└── router.learning.selection.catalogue.CatalogueInvalid   a catalogue of base models is malformed
"""

from __future__ import annotations


class SnapshotInvalid(ValueError):
    """A snapshot can't be served from; the message names the file and what is wrong with it."""
