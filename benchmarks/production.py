"""What stands in production's place on this machine: Firestore behind TLS, and the metadata server that gives tokens.

Variables of the environment lead Google's own libraries to both. The token is any text, which nobody checks. This
Firestore answers commits alone, at once.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # grpcio has no types of its own
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from firestore_flowstate._rpc.messages import CommitRequest, CommitResponse, Timestamp

_EMAIL: Final = "demo@example.com"
_ANSWERS: Final = {
    "/computeMetadata/v1/project/project-id": "demo-benchmarks",
    "/computeMetadata/v1/universe/universe-domain": "googleapis.com",
    "/computeMetadata/v1/instance/service-accounts/default/": json.dumps(
        {"email": _EMAIL, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    ),
    "/computeMetadata/v1/instance/service-accounts/default/token": json.dumps(
        {"access_token": "any", "expires_in": 3600, "token_type": "Bearer"}
    ),
}


@contextmanager
def production() -> Iterator[dict[str, str]]:
    """Serve within the context. Yield the variables by which processes find the servers."""
    metadata = ThreadingHTTPServer(("127.0.0.1", 0), _MetadataServer)
    Thread(target=metadata.serve_forever, daemon=True).start()
    where = f"127.0.0.1:{metadata.server_port}"
    firestore = grpc.server(ThreadPoolExecutor(4))
    firestore.add_generic_rpc_handlers((_Firestore(),))
    key, certificate = _certificate()
    with TemporaryDirectory() as folder:
        roots = Path(folder) / "roots.pem"
        roots.write_bytes(certificate)
        port = firestore.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
        firestore.start()
        try:
            yield {
                "HOME": folder,  # a folder without credentials of gcloud
                "GCE_METADATA_HOST": where,
                "GCE_METADATA_IP": where,
                "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots),
                "FLOWSTATE_ENDPOINT": f"127.0.0.1:{port}",
            }
        finally:
            firestore.stop(grace=None).wait()
            metadata.shutdown()
            metadata.server_close()


class _MetadataServer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0].replace(f"/{_EMAIL}/", "/default/")  # older google-auth asks by the address
        answer = _ANSWERS.get(path, "").encode()
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if answer.startswith(b"{") else "text/plain")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


class _Firestore(grpc.GenericRpcHandler):  # type: ignore[misc]  # as above
    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(_committed) if details.method.endswith("/Commit") else None


def _committed(request: bytes, _: object) -> bytes:
    now = Timestamp(seconds=1_700_000_000)
    reply = CommitResponse(commit_time=now)
    for _ in CommitRequest.FromString(request).writes:
        reply.write_results.add(update_time=now)
    serialized: bytes = reply.SerializeToString()
    return serialized


def _certificate() -> tuple[bytes, bytes]:
    """Return a private key and a certificate of its own for 127.0.0.1, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    unencrypted = serialization.NoEncryption()
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted),
        certificate.public_bytes(serialization.Encoding.PEM),
    )
