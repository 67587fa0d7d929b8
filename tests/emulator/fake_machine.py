"""What a machine may have installed, if the real one will not do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_program(path: Path, *lines: str) -> Path:
    """Write a shell script. It cannot rely on PATH."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def write_java(folder: Path, *, version: str = "17.0.15", otherwise: Sequence[str] = ("exit 1",)) -> Path:
    """Write a Java that tells this version, and does otherwise what these lines say."""
    told = f'[ "$1" = -version ] && {{ echo "openjdk version \\"{version}\\" 2025-04-15" >&2; exit 0; }}'
    return write_program(folder / "java", told, *otherwise)


def write_jar(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
