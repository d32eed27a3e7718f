"""Mistakes: each line marked as wrong, and no other, is an error to both checkers."""

from __future__ import annotations

import nbreplay as nr


@nr.tool
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@nr.tool(name="later")
async def later(a: int) -> int:
    """Return later."""
    return a


async def misuse(lib: nr.Library, session: nr.Session) -> None:
    """Make one mistake a line."""
    nr.sesion()  # wrong
    nr.session(mode="rplay")  # wrong
    nr.transport(mode="repaly")  # wrong
    nr.session(speed="fast")  # wrong
    nr.load("recordings", engine="spark")  # wrong
    nr.load(1)  # wrong
    nr.compare("a", "b", on="model")  # wrong
    print(lib.interaction)  # wrong
    lib.interactions.llm.sumary()  # wrong
    print(session.interactions[0].outcome == "replay")  # wrong
    print(session.interactions[0].take.status)  # wrong
    add("1")  # wrong
    add(1, c=2)  # wrong
    add(1).upper()  # wrong
    print(later(1) + 1)  # wrong
    print(await later(1) + 1)
    nr.tool(add, nmae="x")  # wrong
    nr.tool(3)  # wrong
