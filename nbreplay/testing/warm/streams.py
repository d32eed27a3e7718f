"""The standard streams of a forked kernel, which are there before it is: libraries keep those that they find.

A module that is imported in the warm process may keep ``sys.stderr``: as a default argument (mcp), in a handler of
logging, in a console. The stream that it finds is the one that becomes the kernel's own after the fork.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, cast

from ipykernel.iostream import OutStream

FACTORY = f"{__name__}.start_stream"
"""The name of `start_stream`, for the trait ``outstream_class`` of ipykernel."""


class EarlyStream(OutStream):
    """A stream of a kernel that has not been started. It notes whether something was written."""

    closed = False

    def __init__(self) -> None:
        self.is_written = False

    def write(self, text: str) -> int:
        """Note that something was written."""
        if type(self) is not EarlyStream:  # a module has kept this method
            return int(self.write(text))
        self.is_written = self.is_written or bool(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing before the start."""
        if type(self) is not EarlyStream:
            self.flush()

    def isatty(self) -> bool:
        """Return False, as in a kernel."""
        return False


_streams = {name: EarlyStream() for name in ("stdout", "stderr")}


@contextlib.contextmanager
def early_streams() -> Iterator[dict[str, EarlyStream]]:
    """Have modules find the streams of the kernels to come as ``sys.stdout`` and ``sys.stderr``."""
    with contextlib.redirect_stdout(_streams["stdout"]), contextlib.redirect_stderr(_streams["stderr"]):
        yield _streams


def start_stream(session: Any, thread: Any, name: str, **options: Any) -> OutStream:
    """Return a stream of the kernel that starts, as ipykernel's class does: the one that modules have found."""
    stream: Any = _streams[name]
    del stream.is_written
    stream.__class__ = OutStream
    stream.__init__(session, thread, name, **options)
    return cast(OutStream, stream)
