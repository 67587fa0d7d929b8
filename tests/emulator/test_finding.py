"""Finding Java and the jar, and what is said if they are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from firestore_flowstate.emulator import find_emulator, start_emulator
from firestore_flowstate.errors import EmulatorError
from tests.emulator.child_processes import Programs
from tests.emulator.fake_machine import write_jar, write_java, write_program

COMPONENT = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar"


def message_of_a_start() -> str:
    with pytest.raises(EmulatorError) as caught:
        start_emulator()
    return str(caught.value)


def test_this_machine_has_an_emulator() -> None:
    """The rest of the tests needs one: if there is none, the message says how to get it."""
    found = find_emulator()

    assert (True, True) == (found.java.is_file(), found.jar.is_file())


def test_the_cloud_cli_is_found_through_a_link(bare_machine: Path) -> None:
    """The jar lies beside the SDK's own gcloud, whatever link on PATH leads to it."""
    write_java(bare_machine / "bin")
    jar = write_jar(bare_machine / "sdk" / COMPONENT)
    gcloud = write_program(bare_machine / "sdk" / "bin" / "gcloud", "exit 1")
    (bare_machine / "bin" / "gcloud").symlink_to(gcloud)

    assert ("Google Cloud CLI", jar) == (find_emulator().source, find_emulator().jar)


def test_a_wrapper_of_gcloud_is_asked_for_its_root(bare_machine: Path) -> None:
    """A gcloud that stands outside the SDK, as snap and some package managers have it, knows the SDK's folder."""
    write_java(bare_machine / "bin")
    jar = write_jar(bare_machine / "sdk" / COMPONENT)
    asked = "info --format=value(installation.sdk_root)"
    write_program(bare_machine / "bin" / "gcloud", f'[ "$*" = "{asked}" ] && echo "{bare_machine}/sdk"')

    assert ("Google Cloud CLI", jar) == (find_emulator().source, find_emulator().jar)


def test_a_cloud_cli_without_the_component_is_not_asked(bare_machine: Path) -> None:
    """Gcloud takes seconds to answer, and the SDK around it tells the same."""
    write_java(bare_machine / "bin")
    (bare_machine / "sdk" / "lib" / "googlecloudsdk").mkdir(parents=True)
    gcloud = write_program(bare_machine / "sdk" / "bin" / "gcloud", f': > "{bare_machine}/asked"')
    (bare_machine / "bin" / "gcloud").symlink_to(gcloud)

    assert "has no jar of the emulator" in message_of_a_start()
    assert not (bare_machine / "asked").exists()


def test_a_gcloud_that_fails_does_not_hide_the_other_ways(bare_machine: Path) -> None:
    """What firebase-tools has cached is found behind a broken gcloud."""
    write_java(bare_machine / "bin")
    write_program(bare_machine / "bin" / "gcloud", "exit 1")
    jar = write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")

    assert ("firebase-tools", jar) == (find_emulator().source, find_emulator().jar)


def test_the_newest_of_firebase_tools_jars_is_taken(bare_machine: Path) -> None:
    """Versions compare as numbers, and other files are not jars of the emulator."""
    write_java(bare_machine / "bin")
    folder = bare_machine / ".cache/firebase/emulators"
    for name in ("v1.9.9.jar", "v1.19.8.jar", "v1.19.2.jar", "v1.20.0.jar.part", "vlatest.jar"):
        write_jar(folder / f"cloud-firestore-emulator-{name}")

    assert "cloud-firestore-emulator-v1.19.8.jar" == find_emulator().jar.name


def test_firebase_tools_cache_may_be_elsewhere(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIREBASE_EMULATORS_PATH moves it, as it does for firebase-tools."""
    write_java(bare_machine / "bin")
    jar = write_jar(bare_machine / "elsewhere" / "cloud-firestore-emulator-v1.19.8.jar")
    monkeypatch.setenv("FIREBASE_EMULATORS_PATH", str(jar.parent))

    assert jar == find_emulator().jar


def test_what_download_has_fetched_is_found_last(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache folder follows XDG_CACHE_HOME, and what others have installed goes before."""
    write_java(bare_machine / "bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(bare_machine / "caches"))
    ours = write_jar(bare_machine / "caches/firestore-flowstate/emulator/cloud-firestore-emulator-v1.19.8.jar")
    found_alone = find_emulator().jar
    theirs = write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.11.0.jar")

    assert (ours, theirs) == (found_alone, find_emulator().jar)


def test_a_named_jar_goes_before_all_others(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FIRESTORE_EMULATOR_BINARY_PATH decides, as it does for firebase-tools."""
    write_java(bare_machine / "bin")
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")
    named = write_jar(bare_machine / "named.jar")
    monkeypatch.setenv("FIRESTORE_EMULATOR_BINARY_PATH", str(named))

    assert named == find_emulator().jar


def test_a_named_jar_must_be_there(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong name is an error, never a reason to run another jar."""
    write_java(bare_machine / "bin")
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")
    monkeypatch.setenv("FIRESTORE_EMULATOR_BINARY_PATH", "/nowhere/emulator.jar")

    assert (
        "FIRESTORE_EMULATOR_BINARY_PATH is /nowhere/emulator.jar, and there is no such file. Correct it or unset it."
        == message_of_a_start()
    )


def test_the_java_of_java_home_goes_before_that_of_path(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that run Java look at JAVA_HOME first, and so does this one."""
    write_java(bare_machine / "bin")
    java = write_java(bare_machine / "jdk" / "bin")
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")
    monkeypatch.setenv("JAVA_HOME", str(bare_machine / "jdk"))

    assert java == find_emulator().java


@pytest.mark.parametrize(
    ("has_java", "has_jar", "missing"),
    [
        (False, True, "no Java 11 or newer."),
        (True, False, "no jar of the emulator."),
        (False, False, "no Java 11 or newer and no jar of the emulator."),
    ],
)
def test_what_is_missing_is_named_with_the_ways_to_get_it(
    bare_machine: Path, *, has_java: bool, has_jar: bool, missing: str
) -> None:
    """One message names all that is missing, and for nothing else a way to get it."""
    if has_java:
        write_java(bare_machine / "bin")
    if has_jar:
        write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")

    message = message_of_a_start()

    assert message.startswith(f"The Firestore emulator cannot start, since this machine has {missing}\n")
    assert has_java == ("apt-get install default-jre-headless" not in message)
    for way in (
        "gcloud components install cloud-firestore-emulator",
        "npx firebase-tools@14 setup:emulators:firestore",
        "python -m firestore_flowstate.emulator download",
        "FIRESTORE_EMULATOR_BINARY_PATH",
    ):
        assert has_jar == (way not in message)
    assert "FIRESTORE_EMULATOR_HOST" in message


@pytest.mark.parametrize("command", [["where"], ["start"], ["exec", "--", "true"]])
def test_the_command_line_says_the_same(bare_machine: Path, programs: Programs, command: list[str]) -> None:
    """The message that a start raises, on standard error, with exit code 1 and no trace."""
    assert (1, "", f"{message_of_a_start()}\n") == programs.run("-m", "firestore_flowstate.emulator", *command)


def test_a_java_that_is_too_old_is_named(bare_machine: Path, programs: Programs) -> None:
    """Java 8 cannot load the emulator's classes. Its own words about that would help nobody."""
    java = write_java(
        bare_machine / "bin", version="1.8.0_392", otherwise=["echo UnsupportedClassVersionError", "exit 1"]
    )
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")
    said = f"{java} is Java 1.8.0_392; the Firestore emulator needs 11 or newer.\n  Get Java in one of these ways:"

    assert message_of_a_start().startswith(said)
    for command in ("where", "start"):
        code, out, err = programs.run("-m", "firestore_flowstate.emulator", command)
        assert (1, "", True) == (code, out, err.startswith(said))


def test_a_java_that_only_pretends_is_named(bare_machine: Path) -> None:
    """MacOS has a java on PATH which only says how to get one."""
    java = write_program(bare_machine / "bin" / "java", 'echo "Unable to locate a Java Runtime." >&2', "exit 1")
    write_jar(bare_machine / ".cache/firebase/emulators/cloud-firestore-emulator-v1.19.8.jar")

    assert message_of_a_start().startswith(f"{java} does not run: Unable to locate a Java Runtime.\n")


def test_a_file_that_is_not_a_jar_fails_with_javas_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Java says about a broken jar is passed on, without its traces."""
    jar = tmp_path / "broken.jar"
    jar.write_bytes(b"not a jar")
    monkeypatch.setenv("FIRESTORE_EMULATOR_BINARY_PATH", str(jar))

    message = message_of_a_start()

    assert message.startswith(f"The Firestore emulator ({jar}) did not start: Java ended with exit code 1.\n")
    assert "\tat " not in message
