"""A pretend model, and a pretend web site: each says when it has done something, and takes its time."""

from __future__ import annotations

import asyncio


async def make_outline(title: str) -> list[str]:
    """Return the headings of the sections."""
    await _think(0.2, f"outline of {title}")
    return [f"{title} {number}" for number in (1, 2, 3)]


async def write_section(heading: str) -> str:
    """Return the text of a section. The later ones take longer."""
    await _think(float(heading[-1]), f"section {heading}")
    return f"All there is to say of {heading}."


async def put_online(title: str, sections: list[str]) -> str:
    """Return the address of the article."""
    await _think(0.2, f"publish {title} with {len(sections)} sections")
    return f"https://example.com/{title}"


async def _think(seconds: float, what: str) -> None:
    await asyncio.sleep(seconds)
    print("done:", what, flush=True)
