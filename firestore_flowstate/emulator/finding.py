"""Finding the emulator's jar, and a Java to run it, on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import EmulatorError

JAR_VARIABLE: Final = "FIRESTORE_EMULATOR_BINARY_PATH"  # the name that firebase-tools gave it
OLDEST_JAVA: Final = 11  # the class files of the jar are of version 55

_COMPONENT: Final = Path("platform", "cloud-firestore-emulator", "cloud-firestore-emulator.jar")
_VERSIONED_JAR: Final = re.compile(r"cloud-firestore-emulator-v(\d+)\.(\d+)\.(\d+)\.jar")
_GCLOUD_SECONDS: Final = 30

_WAYS_TO_GET_JAVA: Final = """\
    Debian, Ubuntu    sudo apt-get install default-jre-headless
    macOS             brew install openjdk
    elsewhere         https://adoptium.net
  or name its directory in JAVA_HOME."""
_WAYS_TO_GET_THE_JAR: Final = f"""\
    Google Cloud CLI  gcloud components install cloud-firestore-emulator
                      (installed by apt or dnf: the package google-cloud-cli-firestore-emulator)
    firebase-tools    npx firebase-tools@14 setup:emulators:firestore
    this package      python -m firestore_flowstate.emulator download
  or name the jar in {JAR_VARIABLE}."""
_ANOTHER_WAY: Final = "An emulator that runs elsewhere is used if FIRESTORE_EMULATOR_HOST names it as host:port."


@dataclass(frozen=True)
class Installation:
    """The Java and the jar that run the emulator on this machine.

    Attributes:
        java: The Java program. Whether it is version 11 or newer shows only when it runs.
        jar: The jar of the emulator.
        source: What has put the jar there, for people to read, such as ``firebase-tools``.
    """

    java: Path
    jar: Path
    source: str


def find_emulator() -> Installation:
    """Return the Java and the jar to use.

    The jar is the one that FIRESTORE_EMULATOR_BINARY_PATH names, else the Google Cloud CLI's component, else the
    newest that firebase-tools has cached, else the newest that `download` has fetched.

    ::

        print(find_emulator().jar)

    Raises:
        EmulatorError: Java or the jar is missing. The message says which, and names the ways to get it.
    """
    java = find_java()
    found = _named_jar() or _cloud_cli_jar() or _firebase_tools_jar() or _downloaded_jar()
    if java is None or found is None:
        raise EmulatorError(_missing(java=java is None, jar=found is None))
    jar, source = found
    return Installation(java=java, jar=jar, source=source)


def find_java() -> Path | None:
    """Return the Java of JAVA_HOME, else the first on PATH, else None."""
    home = os.environ.get("JAVA_HOME")
    found = (shutil.which("java", path=Path(home, "bin")) if home else None) or shutil.which("java")
    return Path(found) if found else None


def check_java(java: Path) -> str:
    """Return the version of this Java, such as "17.0.15".

    Raises:
        EmulatorError: This Java does not run, or is too old for the emulator.
    """
    try:
        answer = subprocess.run(  # noqa: S603 - the Java that the user has put on PATH or in JAVA_HOME
            [java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmulatorError(f"{java} does not run: {error}\n{_java_advice()}") from None
    version = re.search(r'version "([^"]+)"', answer.stderr + answer.stdout)
    if answer.returncode or not version:
        said = (answer.stderr + answer.stdout).strip() or f"exit code {answer.returncode}"
        raise EmulatorError(f"{java} does not run: {said}\n{_java_advice()}")
    if _major_version(version[1]) < OLDEST_JAVA:
        raise EmulatorError(
            f"{java} is Java {version[1]}; the Firestore emulator needs {OLDEST_JAVA} or newer.\n{_java_advice()}"
        )
    return version[1]


def cache_folder() -> Path:
    """Return the folder that `download` keeps jars in, by the XDG rules. It may not exist yet."""
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (caches if caches.is_absolute() else _home() / ".cache") / "firestore-flowstate" / "emulator"


def is_jar_name(name: str) -> bool:
    """Return whether a file of this name is taken for the emulator's jar: ``cloud-firestore-emulator-vX.Y.Z.jar``."""
    return _VERSIONED_JAR.fullmatch(name) is not None


def _named_jar() -> tuple[Path, str] | None:
    named = os.environ.get(JAR_VARIABLE)
    if not named:
        return None
    jar = Path(named)
    if not jar.is_file():
        raise EmulatorError(f"{JAR_VARIABLE} is {named}, and there is no such file. Correct it or unset it.")
    return jar, JAR_VARIABLE


def _cloud_cli_jar() -> tuple[Path, str] | None:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    root = Path(gcloud).resolve().parent.parent
    # gcloud itself is asked only if it is a wrapper outside of its SDK: that takes seconds.
    if not (root / _COMPONENT).is_file() and not (root / "lib" / "googlecloudsdk").is_dir():
        root = _ask_for_root(gcloud) or root
    jar = root / _COMPONENT
    return (jar, "Google Cloud CLI") if jar.is_file() else None


def _ask_for_root(gcloud: str) -> Path | None:
    try:
        answer = subprocess.run(  # noqa: S603 - the gcloud that the user has put on PATH
            [gcloud, "info", "--format=value(installation.sdk_root)"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GCLOUD_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # with a gcloud that cannot run, the jar is looked for in the other places
    return Path(answer.stdout.strip()) if answer.stdout.strip() else None


def _firebase_tools_jar() -> tuple[Path, str] | None:
    folder = os.environ.get("FIREBASE_EMULATORS_PATH")
    jar = _newest_jar(Path(folder) if folder else _home() / ".cache" / "firebase" / "emulators")
    return (jar, "firebase-tools") if jar else None


def _downloaded_jar() -> tuple[Path, str] | None:
    jar = _newest_jar(cache_folder())
    return (jar, "python -m firestore_flowstate.emulator download") if jar else None


def _newest_jar(folder: Path) -> Path | None:
    jars = [
        ([int(part) for part in version.groups()], path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if (version := _VERSIONED_JAR.fullmatch(path.name)) and path.is_file()
    ]
    return max(jars)[1] if jars else None


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and no entry for the user, as in some containers
        return Path(os.sep)


def _major_version(version: str) -> int:
    """Return 8 for "1.8.0_392", 17 for "17.0.15" and 25 for "25-ea"."""
    numbers = [int(number) for number in re.findall(r"\d+", version)]
    return numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]


def _missing(*, java: bool, jar: bool) -> str:
    things = [
        thing for thing, missing in ((f"Java {OLDEST_JAVA} or newer", java), ("jar of the emulator", jar)) if missing
    ]
    lines = [f"The Firestore emulator cannot start, since this machine has no {' and no '.join(things)}."]
    if java:
        lines.append(_java_advice())
    if jar:
        lines.append(f"  Get the jar in one of these ways:\n{_WAYS_TO_GET_THE_JAR}")
    lines.append(_ANOTHER_WAY)
    return "\n".join(lines)


def _java_advice() -> str:
    return f"  Get Java in one of these ways:\n{_WAYS_TO_GET_JAVA}"
