"""An LLM behind TLS: trusted with a certificate that proves its name, and never without."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import Serve
from tests.integration.scripted import Scripted

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]}
LOCALHOST = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Certified:
    """A key with its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def write(self, path: Path) -> Path:
        """As PEM, the key first."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.write_bytes(key + self.certificate.public_bytes(serialization.Encoding.PEM))
        return path


def certify(
    name: str, by: Certified | None = None, whom: x509.GeneralName = LOCALHOST, days: int = 1, is_ca: bool = False
) -> Certified:
    """Make a certificate, by itself or by an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    authority = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=10))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    if is_ca:
        usage = x509.KeyUsage(
            key_cert_sign=True, crl_sign=True, digital_signature=False, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(usage, critical=True)
    else:
        builder = builder.add_extension(x509.SubjectAlternativeName([whom]), critical=False)
    return Certified(key, builder.sign(authority, hashes.SHA256()))


def test_only_a_certificate_that_proves_the_llms_name_is_trusted(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = certify("authority", is_ca=True)
    certificates = {
        "self-signed certificate": certify("self-signed"),
        "unable to get local issuer certificate": certify("stranger's", certify("another authority", is_ca=True)),
        "certificate has expired": certify("expired", authority, days=-1),
        "IP address mismatch": certify("another's", authority, x509.DNSName("api.example")),
        "": certify("good", authority),
    }
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.write(tmp_path / "authority.pem")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[""].write(tmp_path / "server.pem"))
    with Scripted(context) as upstream:
        proxy = serve(upstream_url=upstream.base_url)
        for reason, certified in certificates.items():
            context.load_cert_chain(certified.write(tmp_path / "server.pem"))
            got = httpx.post(f"{proxy.base_url}/chat/completions", json=CHAT)
            if not reason:
                assert (got.status_code, got.content) == (200, b"{}")
                break
            assert upstream.requests == []  # nobody untrusted sees a key or a prompt
            error = got.json()["error"]
            assert (got.status_code, error["type"], error["code"]) == (502, "upstream_error", "upstream_unreachable")
            assert reason in error["message"]
            assert "SSL_CERT_FILE" in error["message"]
            assert "_ssl.c" not in error["message"]
