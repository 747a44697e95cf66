"""TLS with the API server, from the kubeconfig; a private key is never in a file that has a name."""

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
    """A context that trusts the cluster's CA and presents the client certificate. Raises BadInput."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # as in Go: any certificate that the kubeconfig names is trusted, whether it is a CA or not; and without
    # the stricter checks of newer Pythons, which cluster CAs often fail
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
                f"its certificate-authority is not a certificate (PEM): {_reason(error)}"
            ) from error
    elif {"certificate-authority", "certificate-authority-data"} & set(cluster.fields):
        raise cluster.wrong("its certificate-authority is empty")
    else:
        context.load_default_certs()
    if certificate:
        try:
            _load(context, certificate)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise user.wrong(f"its client certificate and key cannot be used: {_reason(error)}") from error
    return context


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Load the certificate: OpenSSL accepts only paths, and /dev/fd names a file that has no other name."""
    with _nameless(certificate.chain) as chain, _nameless(certificate.key) as key:
        context.load_cert_chain(chain, key, password=_no_passphrase)


def _no_passphrase() -> str:
    """Fail instead of prompting for a passphrase, as kubectl does: nobody may be at the terminal."""
    raise ValueError("the key is encrypted, and kubectl does not take such keys either")


@contextlib.contextmanager
def _nameless(content: bytes) -> Iterator[str]:
    """A path to a file in memory, else to a file that is unlinked before it is written."""
    with _unlinked() as file:
        file.write(content)
        file.flush()
        file.seek(0)  # where /dev/fd duplicates the descriptor, it shares its offset
        yield f"/dev/fd/{file.fileno()}"


def _unlinked() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("certificate"), "w+b")
    return tempfile.TemporaryFile()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error)
