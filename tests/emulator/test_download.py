"""The download, from a server on this machine. Its public source is out of reach for tests on purpose."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from firestore_flowstate.emulator import find_emulator
from firestore_flowstate.emulator.download import Jar, download_emulator
from firestore_flowstate.errors import EmulatorError
from tests.emulator.child_processes import Programs, eventually
from tests.emulator.fake_machine import write_java
from tests.support.ports import Port

MODULE = ("-m", "firestore_flowstate.emulator")
JAR = b"PK" + bytes(range(256)) * 4096
NAME = "cloud-firestore-emulator-v1.19.8.jar"


class JarServer(ThreadingHTTPServer):
    """Serves one jar, or something else than was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.body = JAR
        self.length: int | None = len(JAR)
        self.requests = 0
        self.hold = threading.Event()
        self.hold.set()

    @property
    def source(self) -> Jar:
        return Jar(url=f"http://127.0.0.1:{self.server_port}/{NAME}", sha256=hashlib.sha256(JAR).hexdigest())


class _Answer(BaseHTTPRequestHandler):
    server: JarServer

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        if self.server.length is not None:
            self.send_header("Content-Length", str(self.server.length))
        self.end_headers()
        half = len(self.server.body) // 2
        with contextlib.suppress(ConnectionError):  # of a client that has been interrupted
            self.wfile.write(self.server.body[:half])
            self.server.hold.wait(30)
            self.wfile.write(self.server.body[half:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[JarServer]:
    with JarServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def cache(bare_machine: Path) -> Path:
    return bare_machine / ".cache/firestore-flowstate/emulator"


def download(server: JarServer, *options: str) -> tuple[str, ...]:
    return (*MODULE, "download", "--url", server.source.url, "--sha256", server.source.sha256, *options)


def failure(source: Jar) -> str:
    with pytest.raises(EmulatorError) as caught:
        download_emulator(source)
    return str(caught.value)


@pytest.mark.parametrize("length", [len(JAR), None], ids=["length told", "length not told"])
def test_the_jar_comes_whole_and_is_then_found(server: JarServer, cache: Path, length: int | None) -> None:
    """What download has fetched is what a start uses, if nothing else is installed."""
    server.length = length
    told: list[tuple[int, int | None]] = []

    jar = download_emulator(server.source, progress=lambda done, total: told.append((done, total)))

    write_java(cache.parents[2] / "bin")
    assert (cache / NAME, JAR, [jar]) == (jar, jar.read_bytes(), list(cache.iterdir()))
    assert (len(JAR), length) == told[-1]
    assert (jar, "python -m firestore_flowstate.emulator download") == (find_emulator().jar, find_emulator().source)


def test_what_is_there_is_not_fetched_again(server: JarServer, cache: Path) -> None:
    """The jar is fetched again only if its checksum is wrong."""
    jar = download_emulator(server.source)
    download_emulator(server.source)
    requests_for_a_good_jar = server.requests
    jar.write_bytes(b"damaged")
    download_emulator(server.source)

    assert (1, 2, JAR) == (requests_for_a_good_jar, server.requests, jar.read_bytes())


def test_a_wrong_checksum_keeps_nothing(server: JarServer, cache: Path) -> None:
    """The error names both checksums, and no file is left."""
    server.body = JAR[::-1]
    found = hashlib.sha256(server.body).hexdigest()

    assert (
        f"{server.source.url} has the SHA-256 checksum {found}, not {server.source.sha256}; nothing was kept."
        == failure(server.source)
    )
    assert [] == list(cache.iterdir())


def test_an_early_end_keeps_nothing(server: JarServer, cache: Path) -> None:
    """The error says how many bytes came."""
    server.length = len(JAR) + 1000

    assert (
        f"{server.source.url} ended after {len(JAR):,} of {len(JAR) + 1000:,} bytes; nothing was kept. Try again."
        == failure(server.source)
    )
    assert [] == list(cache.iterdir())


@pytest.mark.parametrize(("status", "reason"), [(404, "Not Found"), (403, "Forbidden"), (503, "Service Unavailable")])
def test_an_error_of_the_server_keeps_nothing(server: JarServer, cache: Path, status: int, reason: str) -> None:
    """The answer is named, and another way."""
    server.status = status

    message = failure(server.source)

    assert message.startswith(f"{server.source.url} answers {status} {reason}.\n")
    assert "gcloud components install cloud-firestore-emulator" in message
    assert [] == list(cache.iterdir())


def test_a_server_that_is_not_there_keeps_nothing(cache: Path) -> None:
    """The reason is named, and another way."""
    with Port() as port:
        url = f"http://{port.host}/{NAME}"
        message = failure(Jar(url=url, sha256="0" * 64))

    assert message.startswith(f"Cannot fetch {url}: [Errno ")
    assert "Connection refused" in message
    assert [] == list(cache.iterdir())


@pytest.mark.parametrize(
    "url", [f"http://a..b/{NAME}", f"http://{64 * 'x'}.example/{NAME}", f"http://127.0.0.1/é/{NAME}"]
)
def test_an_address_that_cannot_be_asked_keeps_nothing(cache: Path, url: str) -> None:
    """It is an error like that of a server that is not there: a label of a name has 1 to 63 characters, for example."""
    assert failure(Jar(url=url, sha256="0" * 64)).startswith(f"Cannot fetch {url}: ")
    assert [] == list(cache.iterdir())


def test_a_folder_that_cannot_be_written_is_named(server: JarServer, cache: Path) -> None:
    """The error comes before anything is fetched."""
    cache.parents[1].mkdir()
    cache.parent.touch()

    assert (f"Cannot write into {cache}: Not a directory.", 0) == (failure(server.source), server.requests)


@pytest.mark.parametrize(
    ("url", "sha256", "said"),
    [
        (f"file:///tmp/{NAME}", "0" * 64, "The source must be an http or https address"),
        ("https://localhost/emulator.jar", "0" * 64, "that ends in cloud-firestore-emulator-vX.Y.Z.jar"),
        (f"http://[::1/{NAME}", "0" * 64, "The source must be an http or https address"),
        (f"http://localhost:{'9' * 20}/{NAME}", "0" * 64, "The source must be an http or https address"),
        (f"https://localhost/{NAME}", "abc", "A SHA-256 checksum is 64 hexadecimal digits in lower case, not 'abc'."),
    ],
)
def test_a_source_must_make_sense(cache: Path, url: str, sha256: str, said: str) -> None:
    """A source is a web address, whose name is one under which the jar is found again."""
    assert said in failure(Jar(url=url, sha256=sha256))


def test_the_command_prints_the_jar_and_shows_progress(server: JarServer, cache: Path, programs: Programs) -> None:
    """The jar on standard output, the progress bar on standard error."""
    code, out, err = programs.run(*download(server))

    assert (0, f"{cache / NAME}\n") == (code, out)
    assert "Firestore emulator ━━━" in err
    assert "1.0/1.0 MB" in err


def test_without_rich_the_command_shows_figures(server: JarServer, cache: Path, programs: Programs) -> None:
    """The extra is for comfort only, and the message names it."""
    without_rich = (
        "import sys; sys.modules['rich.console'] = None\n"
        "from firestore_flowstate.emulator.command_line import main; sys.exit(main(sys.argv[1:]))"
    )

    code, out, err = programs.run("-c", without_rich, *download(server)[2:])

    assert (0, f"{cache / NAME}\n") == (code, out)
    assert "There is no progress bar: pip install 'firestore-flowstate[emulator]' brings one." == err.splitlines()[0]
    assert "1 MiB of 1 MiB" == err.splitlines()[-1]


def test_the_command_fails_with_one_message(server: JarServer, cache: Path, programs: Programs) -> None:
    """Exit code 1 and no trace."""
    server.status = 404

    code, out, err = programs.run(*download(server))

    assert (1, "") == (code, out)
    assert f"{server.source.url} answers 404 Not Found." in err
    assert "Traceback" not in err


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_keeps_nothing(
    server: JarServer, cache: Path, programs: Programs, signum: signal.Signals
) -> None:
    """Half a jar is removed, and the exit code is that of the signal."""
    server.hold.clear()
    program = programs.start(*download(server))
    assert eventually(lambda: any(file.stat().st_size for file in cache.glob("*")))

    program.send_signal(signum)

    assert (128 + signum, []) == (program.wait(), list(cache.iterdir()))
    assert program.stderr
    assert "Traceback" not in program.stderr.read()
