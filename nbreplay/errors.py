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
    """Root of nbreplay's ordinary errors.

    Examples
    --------
    >>> import nbreplay as nr
    >>> try:
    ...     nr.load("recordngs")
    ... except nr.NbreplayError as error:
    ...     print(type(error).__name__)
    StoreError
    """


class OptionError(NbreplayError, ValueError):
    """A mode, option or argument is unknown or has a wrong value.

    The message names the values that are allowed.

    Examples
    --------
    >>> import nbreplay as nr
    >>> nr.session(mode="rplay")
    Traceback (most recent call last):
    nbreplay.errors.OptionError: unknown mode 'rplay'. The modes are ...
    """


class StoreError(NbreplayError):
    """A store cannot be opened, read or written.

    Check that its folder exists and is writable.

    Examples
    --------
    >>> import nbreplay as nr
    >>> nr.load("recordngs")
    Traceback (most recent call last):
    nbreplay.errors.StoreError: ...
    """


class RecordingFormatError(NbreplayError):
    """A file of a store cannot be read as a recording.

    It is left as it is: restore it, or record it anew.

    Examples
    --------
    >>> import nbreplay as nr
    >>> lib = nr.load("recordings-damaged", strict=False)  # else it is raised
    >>> len(lib), len(lib.unread)
    (0, 1)
    """


class UnsafeRecordingError(RecordingFormatError):
    """A recording names a path, a class or a size that none may name.

    Or a link, pipe or device stands in its place. Do not use the store unless
    you know where it comes from.

    Examples
    --------
    >>> import nbreplay as nr
    >>> issubclass(nr.UnsafeRecordingError, nr.RecordingFormatError)
    True
    """


class ToolError(NbreplayError, TypeError):
    """The arguments or results of a tool cannot be recorded.

    The message has the remedy.

    Examples
    --------
    >>> import nbreplay as nr
    >>> @nr.tool
    ... def count_lines(file) -> int: ...
    >>> with nr.session("recordings"):
    ...     count_lines(open)
    Traceback (most recent call last):
    nbreplay.errors.ToolError: ...
    """


class RecordedToolError(NbreplayError):
    """A tool raised an exception when it was recorded.

    The class of that exception is neither built in nor among the tool's
    ``raises=``. `str` and `repr` are those of the exception, since programs pass
    them on to models in their next request. To get the class itself, name it in
    ``raises=``.

    Parameters
    ----------
    type : str
        The name of the class.
    message : str
    representation : str, optional
        The `repr` of the exception.

    Examples
    --------
    >>> import nbreplay as nr
    >>> nr.RecordedToolError("RateLimit", "try again in 20 s")
    RateLimit('try again in 20 s')
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
    """The outputs of a notebook differ from the stored ones.

    ``nbreplay run`` shows the difference. Store the new outputs with
    ``--update`` if they are right.

    Examples
    --------
    >>> import nbreplay as nr
    >>> issubclass(nr.NotebookMismatch, nr.NbreplayError)
    True
    """


class NetworkBlocked(NbreplayError, OSError):
    """Something tried to reach the network under replay.

    The message names the host; ``--allow HOST`` lets it pass.

    Examples
    --------
    >>> import socket
    >>> import nbreplay as nr
    >>> with nr.session("recordings", mode="replay"):
    ...     try:
    ...         socket.create_connection(("example.com", 443))
    ...     except nr.NetworkBlocked as error:
    ...         print("example.com" in str(error))
    True
    """


class RecordingMissing(BaseException):
    """A request has no recorded answer under replay.

    Record it under ``auto`` or ``record``. It derives from `BaseException`
    alone: it is the verdict of a test, not an error that a retry or an agent's
    ``except Exception`` may eat. If another error stopped the replay, such as a
    corrupt file, that error is its ``__cause__``.

    Examples
    --------
    >>> import nbreplay as nr
    >>> @nr.tool
    ... def get_weather(city: str) -> str: ...
    >>> with nr.session("recordings", mode="replay"):
    ...     get_weather("Atlantis")
    Traceback (most recent call last):
    nbreplay.errors.RecordingMissing: ...
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
    """The caller read past the end of a stream that was cut short.

    It was cut short when it was recorded. Record it to its end.

    Examples
    --------
    >>> import nbreplay as nr
    >>> issubclass(nr.RecordingIncomplete, nr.RecordingMissing)
    True
    """
