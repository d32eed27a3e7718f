"""Every error that nbreplay raises. This module imports nothing of nbreplay.

::

    Exception
    └── NbreplayError
        ├── OptionError (also ValueError)       an unknown mode, option or argument
        ├── StoreError                          a store that cannot be opened, read or written
        ├── RecordingFormatError                a file that is not a recording, or a newer one
        │   └── UnsafeRecordingError            a recording that names a path, a class or a size out of bounds
        ├── ToolError (also TypeError)          a tool whose arguments or results cannot be recorded
        ├── RecordedToolError                   an exception that a tool raised when it was recorded
        ├── NotebookMismatch                    a notebook whose outputs differ from the stored ones
        └── NetworkBlocked (also OSError)       an attempt to reach the network under replay
    BaseException
    └── RecordingMissing                        a request without a recorded answer under replay
        └── RecordingIncomplete                 a caller that reads past the end of a recorded stream
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
    """A mode, option or argument is unknown or has a wrong value. The message names the values that are allowed."""


class StoreError(NbreplayError):
    """A store cannot be opened, read or written. Check that its folder exists and is writable."""


class RecordingFormatError(NbreplayError):
    """A file of a store cannot be read as a recording. It is left as it is: restore it, or record it anew."""


class UnsafeRecordingError(RecordingFormatError):
    """A recording names a path, a class or a size that none may name, or a link, pipe or device stands in its place.

    Do not use the store unless you know where it comes from.
    """


class ToolError(NbreplayError, TypeError):
    """The arguments or results of a tool cannot be recorded, or two tools have one name. The message has the remedy."""


class RecordedToolError(NbreplayError):
    """A tool raised an exception when it was recorded, whose class is neither built in nor among its ``raises=``.

    Its `str` and `repr` are those of that exception, since programs pass them on to models in their next request. To
    get the class itself, name it in ``raises=``.

    Parameters
    ----------
    type : str
        The name of the class.
    message : str
    representation : str, optional
        The `repr` of the exception.
    """

    def __init__(self, type: str, message: str, representation: str = "") -> None:  # noqa: A002
        super().__init__(type, message, representation)
        self.type, self.message = type, message
        self._representation = representation or f"{type}({message!r})"
        self.add_note(f"The tool raised {type} when it was recorded. Name {type} in raises= to have it raised again.")

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return self._representation


class NotebookMismatch(NbreplayError):
    """The outputs of a notebook differ from the stored ones. Store the new ones with ``--update`` if they are right."""


class NetworkBlocked(NbreplayError, OSError):
    """Something tried to reach the network under replay. The message names the host; ``--allow HOST`` lets it pass."""


class RecordingMissing(BaseException):
    """A request has no recorded answer under replay. Record it under ``auto`` or ``record``.

    It derives from `BaseException` alone: it is the verdict of a test, not an error that a retry or an agent's
    ``except Exception`` may eat. Where another error stopped the replay, such as a corrupt file, that error is its
    ``__cause__``.
    """

    def _render_traceback_(self) -> list[str]:
        """Return the traceback that IPython shows: the user's own lines, without the SDK's two hundred between."""
        import sysconfig
        import traceback

        libraries = (*sysconfig.get_paths().values(), __file__.rpartition("errors")[0])
        frames = traceback.extract_tb(self.__traceback__)
        own = [frame for frame in frames if frame.line and not frame.filename.startswith(libraries)]
        lines = [f"  line {frame.lineno}: {frame.line}" for frame in own]
        return [f"{type(self).__name__}, called from", *lines, "", f"{type(self).__name__}: {self}"]


class RecordingIncomplete(RecordingMissing):
    """The caller read past the end of a stream that was cut short when it was recorded. Record it to its end."""
