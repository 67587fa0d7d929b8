"""Fetching the emulator's jar from its public source into the cache folder."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from ..errors import EmulatorError
from .finding import cache_folder, is_jar_name

_CHUNK_BYTES: Final = 256 * 1024
_SILENCE_SECONDS: Final = 60.0
"""How long the server may send nothing."""
_OTHER_WAYS: Final = (
    "If that address is out of reach, the Google Cloud CLI has the emulator too: "
    "gcloud components install cloud-firestore-emulator"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Jar:
    """A jar to fetch.

    Attributes:
        url: The address of the jar, http or https, which ends in the name ``cloud-firestore-emulator-vX.Y.Z.jar``.
        sha256: The SHA-256 checksum that the jar must have, in lower-case hexadecimal.
    """

    url: str
    sha256: str


# The address that firebase-tools 14.27.0 fetches its emulator from, and the checksum that it demands: both are in its
# downloadableEmulatorInfo.json.
PINNED: Final = Jar(
    url="https://storage.googleapis.com/firebase-preview-drop/emulator/cloud-firestore-emulator-v1.19.8.jar",
    sha256="9d43599ed6151199e8d604dc87fac51218e49e5f3a48519b1ae560bbe5e3382d",
)


def download_emulator(
    source: Jar = PINNED, *, progress: Callable[[int, int | None], None] = lambda done, total: None
) -> Path:
    """Return the path of the jar in the cache folder; fetch the jar if it is not there yet.

    The file gets its name only when it is complete and its checksum is right.

    Args:
        source: The jar to fetch.
        progress: Called with the number of bytes that have arrived, and with their number in all, or None if the server
            does not tell.

    Raises:
        EmulatorError: The source cannot be reached, answers with an error, ends early, or has another checksum. Or the
            folder cannot be written.
    """
    jar = cache_folder() / _name(source)
    if jar.is_file() and _checksum(jar) == source.sha256:
        return jar
    try:
        jar.parent.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(dir=jar.parent, prefix=f"{jar.name}.")
    except OSError as error:
        raise EmulatorError(f"Cannot write into {jar.parent}: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            _fetch(source, into=file, progress=progress)
        Path(unfinished).replace(jar)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return jar


def _name(source: Jar) -> str:
    name = _name_in_address(source.url)
    if name is None or not is_jar_name(name):
        raise EmulatorError(
            f"The source must be an http or https address that ends in cloud-firestore-emulator-vX.Y.Z.jar, not "
            f"{source.url!r}."
        )
    if not _SHA256.fullmatch(source.sha256):
        raise EmulatorError(f"A SHA-256 checksum is 64 hexadecimal digits in lower case, not {source.sha256!r}.")
    return name


def _name_in_address(url: str) -> str | None:
    """Return the name at the end of an http or https address; None: it is not one."""
    try:
        address = urlsplit(url)
        _ = address.port  # raises if it cannot be one
    except ValueError:  # also of a bracket that does not end
        return None
    return address.path.rpartition("/")[2] if address.scheme in ("http", "https") else None


def _fetch(source: Jar, *, into: IO[bytes], progress: Callable[[int, int | None], None]) -> None:
    digest = hashlib.sha256()
    done = 0
    try:
        # By urllib, since it sends the request through the proxy that the environment names.
        with urllib.request.urlopen(source.url, timeout=_SILENCE_SECONDS) as response:  # noqa: S310 - see _name
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            while chunk := response.read(_CHUNK_BYTES):
                into.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress(done, total)
    except urllib.error.HTTPError as error:
        error.close()
        raise EmulatorError(f"{source.url} answers {error.code} {error.reason}.\n{_OTHER_WAYS}") from error
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
    ) as error:  # ValueError: of the host, the path, a redirection
        reason = getattr(error, "reason", None) or error
        raise EmulatorError(f"Cannot fetch {source.url}: {reason}.\n{_OTHER_WAYS}") from error
    if total is not None and done < total:
        raise EmulatorError(f"{source.url} ended after {done:,} of {total:,} bytes; nothing was kept. Try again.")
    if digest.hexdigest() != source.sha256:
        raise EmulatorError(
            f"{source.url} has the SHA-256 checksum {digest.hexdigest()}, not {source.sha256}; nothing was kept."
        )


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
