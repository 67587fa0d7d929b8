"""Writes the folder that `make firebase-exec` runs firebase-tools in: `exec_folder.py FOLDER [PORT]`.

It is the project's own firebase.json with what it names, but on free ports: firebase-tools takes no other one when
the emulator's port is taken, and two of it that start together break each other off over those of their hub and of
their websocket; and a jar around the emulator's jar, from whatever tool that is: firebase-tools runs
`java -jar`, and the Google Cloud CLI's jar names no main class.
"""

import json
import shutil
import sys
import zipfile
from pathlib import Path

from firestore_flowstate.emulator import find_emulator
from firestore_flowstate.emulator.process import MAIN_CLASS, free_port

PROJECT = Path(__file__).parents[2]


def write_folder(folder: Path, port: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((PROJECT / "firebase.json").read_text())
    config["emulators"]["firestore"] |= {"port": port, "websocketPort": free_port()}
    config["emulators"] |= {"hub": {"port": free_port()}, "logging": {"port": free_port()}}
    (folder / "firebase.json").write_text(json.dumps(config, indent=2))
    for name in config["firestore"].values():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, folder / name)
    _write_jar(folder / "emulator.jar", around=find_emulator().jar)


def _write_jar(wrapper: Path, *, around: Path) -> None:
    attributes = {"Manifest-Version": "1.0", "Main-Class": MAIN_CLASS, "Class-Path": around.resolve().as_uri()}
    with zipfile.ZipFile(wrapper, "w") as archive:
        manifest = "".join(_folded(f"{name}: {value}") for name, value in attributes.items())
        archive.writestr("META-INF/MANIFEST.MF", manifest)


def _folded(line: str) -> str:
    """Return the line as a manifest takes it: at most 72 bytes, and what follows behind a space."""
    first, rest = line[:70], line[70:]
    return "\r\n ".join([first, *(rest[start : start + 69] for start in range(0, len(rest), 69))]) + "\r\n"


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else free_port())
