"""Files are written whole: a temporary file beside the target, then a rename, so that nothing half-written is left."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..theory.errors import InputError


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write ``content`` (text as UTF-8) to ``path`` atomically and return the path.

    A link is followed. What is no file (a pipe, a terminal) is written to as it is, never replaced.

    Raises :class:`InputError` when the folder is missing or cannot be written.
    """
    target = Path(path)
    data = content.encode() if isinstance(content, str) else content
    require_writable(target)
    if _is_stream(target):
        try:
            with open(target, "wb") as stream:
                stream.write(data)
        except OSError as error:
            raise InputError(f"cannot write {str(target)!r}: {error.strerror or error}") from None
        return target
    place = target.resolve()
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp makes it private; a result is an ordinary file
        os.replace(temporary, place)
    except OSError as error:
        raise InputError(f"cannot write {str(target)!r}: {error.strerror or error}") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
    return target


def require_writable(path: str | os.PathLike[str]) -> Path:
    """Check, before long work starts, that ``path`` can be written; raise :class:`InputError` if not."""
    target = Path(path)
    folder = target.parent
    if target.is_dir():
        raise InputError(f"cannot write {str(target)!r}: it is a folder; name a file")
    if not folder.is_dir():
        raise InputError(f"cannot write {str(target)!r}: the folder {str(folder)!r} does not exist")
    if _is_stream(target):
        return target
    if target.is_symlink():
        folder = target.resolve().parent
        if not folder.is_dir():
            raise InputError(f"cannot write {str(target)!r}: it is a link to {str(target.resolve())!r}, not there")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write {str(target)!r}: {error.strerror or error}") from None
    return target


def _is_stream(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder."""
    return path.exists() and not path.is_file() and not path.is_dir()


def cache_directory() -> Path:
    """The folder for generated kernels.

    ``$BACKPROOF_CACHE``, else ``$XDG_CACHE_HOME/backproof``, else ``~/.cache/backproof``.

    Falls back to a private temporary folder where none of these can be written (a read-only home).
    """
    chosen = os.environ.get("BACKPROOF_CACHE")
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backproof"
    try:
        base.mkdir(parents=True, exist_ok=True)
        require_writable(base / "probe")
    except (OSError, InputError):
        base = Path(tempfile.gettempdir()) / f"backproof-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
    return base


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
