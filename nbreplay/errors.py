"""Every error that nbreplay raises. Imports nothing of nbreplay.

::

    Exception
    └── NbreplayError
        ├── OptionError (also ValueError)       a mode, option or argument that does not exist
        ├── StoreError                          a folder that cannot be read or written
        ├── RecordingFormatError                a file that is no recording, or a newer one
        │   └── UnsafeRecordingError            a file that asks for something a recording never may
        ├── NotebookMismatch                    a notebook whose outputs are not the stored ones
        └── NetworkBlocked (also OSError)       replay was on, and something wanted out
    BaseException
    └── RecordingMissing                        replay was on, and there is no answer to give
        └── RecordingIncomplete                 the recorded stream ends before the caller does
"""

from __future__ import annotations

__all__ = [
    "NbreplayError",
    "NetworkBlocked",
    "NotebookMismatch",
    "OptionError",
    "RecordedToolError",
    "RecordingFormatError",
    "RecordingIncomplete",
    "RecordingMissing",
    "StoreError",
    "ToolError",
    "UnsafeRecordingError",
]


class NbreplayError(Exception):
    """Root of nbreplay's ordinary errors."""


class OptionError(NbreplayError, ValueError):
    """A mode, option or argument that nbreplay does not know."""


class StoreError(NbreplayError):
    """A store that cannot be opened, read or written."""


class RecordingFormatError(NbreplayError):
    """A file in a store that cannot be read as a recording. It is left as it is."""


class UnsafeRecordingError(RecordingFormatError):
    """A recording that asks for what no recording may: a path, a class, a size out of bounds.

    Also a link, a pipe or a device where a store has its files and folders.
    """


class ToolError(NbreplayError, TypeError):
    """A tool whose arguments or results cannot be kept, or of which there are two of one name. Says what to do."""


class RecordedToolError(NbreplayError):
    """A tool raised an exception when it was recorded, of a class that is neither built in nor among its ``raises=``.

    Its `str` and `repr` are those of that exception: programs tell models of them, and what they say is part of the
    request that follows.

    Parameters
    ----------
    type : str
        The name of that class.
    message : str
    representation : str, optional
        Its `repr`.
    """

    def __init__(self, type: str, message: str, representation: str = "") -> None:  # noqa: A002
        super().__init__(type, message, representation)
        self.type, self.message = type, message
        self._representation = representation or f"{type}({message!r})"
        self.add_note(f"When it was recorded it was {type}; named in raises= of the tool, it comes back as that.")

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return self._representation


class NotebookMismatch(NbreplayError):
    """What a notebook displayed differs from what it has stored."""


class NetworkBlocked(NbreplayError, OSError):
    """Under replay something tried to reach the network. The message names the host."""


class RecordingMissing(BaseException):
    """Under replay a request has no recorded answer.

    Derives from `BaseException` alone: it is the verdict of a test, not an error that a retry or
    an agent's ``except Exception`` may eat. Where something else stopped the replay (a corrupt
    file, say), that error is its ``__cause__``.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: the user's own lines and the message, not the SDK's two hundred between."""
        import sysconfig
        import traceback

        inside = (*sysconfig.get_paths().values(), __file__.rpartition("errors")[0])
        own = [frame for frame in traceback.extract_tb(self.__traceback__) if not frame.filename.startswith(inside)]
        lines = [f"  line {frame.lineno}: {frame.line}" for frame in own if frame.line]
        return [f"{type(self).__name__}, called from", *lines, "", f"{type(self).__name__}: {self}"]


class RecordingIncomplete(RecordingMissing):
    """The caller read past the end of a stream whose recording was cut short."""
