"""Bodies of aiohttp's responses while they are recorded: taken down as they arrive, read by the caller as ever."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

from nbreplay.core.recorder import Recorder
from nbreplay.intercept.aiohttp_bodies import failed, over

__all__ = ["Tee", "tee_of"]
