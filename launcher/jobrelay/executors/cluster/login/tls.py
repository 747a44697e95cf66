"""TLS with the API server, from what the kubeconfig holds; a private key is never in a file with a name."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from typing import IO

from jobrelay.executors.cluster.login.credentials import Certificate
from jobrelay.executors.cluster.login.kubeconfig import Entry


def tls_context(cluster: Entry, user: Entry, certificate: Certificate | None) -> ssl.SSLContext:
    """Whom to believe, and what to show. Raises BadInput."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # as Go does it: any certificate that the kubeconfig names is trusted, be it an authority's own or not;
    # and none of the stricter rules that newer Pythons put on top, which authorities of clusters often fail
    context.verify_flags = (
        ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    )
    if cluster.flag("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif authority := cluster.content("certificate-authority"):
        try:
            context.load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise cluster.wrong(
                f"its certificate-authority is not a certificate (PEM): {_said(error)}"
            ) from error
    elif {"certificate-authority", "certificate-authority-data"} & set(cluster.fields):
        raise cluster.wrong("its certificate-authority is empty")
    else:
        context.load_default_certs()
    if certificate:
        try:
            _load(context, certificate)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise user.wrong(f"its client certificate and key cannot be used: {_said(error)}") from error
    return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """OpenSSL takes them by path alone: /dev/fd names a file that has no other name."""
    with _nameless(certificate.chain) as chain, _nameless(certificate.key) as key:
        context.load_cert_chain(chain, key, password=_no_passphrase)


def _no_passphrase() -> str:
    """As kubectl: nobody is asked, in a terminal that may be nobody's."""
    raise ValueError("the key is encrypted, and kubectl does not take such keys either")


@contextlib.contextmanager
def _nameless(content: bytes) -> Iterator[str]:
    """A path to a file in memory, else of a file that was unlinked before it was written."""
    with _unlinked() as file:
        file.write(content)
        file.flush()
        file.seek(0)  # where /dev/fd duplicates the descriptor, it shares its offset
        yield f"/dev/fd/{file.fileno()}"


def _unlinked() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("certificate"), "w+b")
    return tempfile.TemporaryFile()


def _said(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)
