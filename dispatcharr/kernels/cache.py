"""Compiled kernels on disk: believed only if nobody else can have written them.

Policy, once:

- What is read here is run. So the folder is the user's own and closed to all others, a file counts
  only if it belongs to the user and nobody else may write to it, and its checksum binds the content
  to the key that it is stored under: half a file, a damaged one or one under another's name is as
  good as none.
- A file appears in one step, whole, under its final name; processes that store the same kernel at
  once each leave a good one.
- The folder is bounded: when it has outgrown its limit, files go until a quarter of it is free,
  those first that were used longest ago.
- Nothing here raises for what a disk may do. A kernel that cannot be read is compiled again, one
  that cannot be stored serves this process alone; :attr:`Cache.trouble` says why.

Where the system knows neither owners nor modes, the folder is as private as the user's profile is.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from dispatcharr._config import cache_folder, variable
from dispatcharr._errors import OptionError

if TYPE_CHECKING:
    from dispatcharr.kernels.target import Host

__all__ = ["Cache", "cache_limit", "kernel_key", "user_cache"]

_LIMIT = "DISPATCHARR_CACHE_SIZE"
_SHIPPED_LIMIT = 64 << 20
#: Longest kernel that is stored or read; a usual one has 2 to 20 KB.
_LONGEST = 8 << 20
_MAGIC = b"dispatcharr kernel\n"
_OURS = re.compile(r"[0-9a-f]{64}\.(o|[0-9a-f]+\.tmp)")
#: What a small file takes up on most disks.
_PAGE = 4096
#: Seconds: a use is noted once in this time, and an older draft was left by a dead process.
_HOUR = 3600.0


def cache_limit() -> int:
    """Return the most bytes that stored kernels may take: ``DISPATCHARR_CACHE_SIZE``, or 64 MB.

    Zero means that none are stored or read.

    Raises
    ------
    OptionError
        A ValueError: the variable is not a whole number of bytes.
    """
    text = variable(_LIMIT)
    if not text:
        return _SHIPPED_LIMIT
    if not (text.isascii() and text.isdecimal()):
        raise OptionError(
            f"cache_limit: {_LIMIT} must be a whole number of bytes, got {text[:40]!r}; "
            f"set it to e.g. {_SHIPPED_LIMIT}, to 0 to store no kernels, or unset it"
        )
    return int(text)


def user_cache() -> Cache:
    """Return the cache of this user, as the environment has it now."""
    return Cache(os.path.join(cache_folder(), "kernels"), cache_limit())


def kernel_key(host: Host, text: str) -> str:
    """Return the key of a kernel: a digest of its IR text and of all that its code depends on."""
    parts = (host.cpu, host.features, host.versions, text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Cache:
    """A folder of compiled kernels. It is touched by :meth:`get` and :meth:`put`, not before.

    Parameters
    ----------
    folder : str
        Made when first needed.
    limit : int
        Most bytes that the files may take up; with 0 nothing is stored or read.

    Attributes
    ----------
    folder, limit
        As given.
    trouble : str or None
        Why kernels could not be read or stored, the last time that happened.
    """

    def __init__(self, folder: str, limit: int = _SHIPPED_LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self.trouble: str | None = None
        # As of the last look into the folder and what was stored since; None: not looked yet.
        self._bytes: int | None = None
        self._unseen = 0

    def __repr__(self) -> str:
        return f"<Cache of {self.limit} bytes in {self.folder!r}>"

    def get(self, key: str) -> bytes | None:
        """Return what is stored under ``key``, or None where that is nothing to be trusted."""
        if not self.limit:
            return None
        try:
            self._check_folder()
            with open(self._path(key), "rb", opener=_open_existing) as file:
                found = os.fstat(file.fileno())
                _check_private(found, "a stored kernel")
                whole = file.read(_LONGEST + 1)
        except FileNotFoundError:
            return None
        except (OSError, _Distrusted) as error:
            self._note("read", error)
            return None
        start = len(_MAGIC) + hashlib.sha256().digest_size
        content = whole[start:]
        if whole[:start] != _head(key, content):
            self._note("read", _Distrusted("a stored kernel is damaged"))
            return None
        self._touch(key, found.st_mtime)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store ``content`` under ``key``, in one step, in the place of what was there."""
        whole = _head(key, content) + content
        if len(whole) > min(self.limit, _LONGEST):
            return
        path = self._path(key)
        draft = f"{path[:-2]}.{secrets.token_hex(8)}.tmp"
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._check_folder()
            try:
                with open(draft, "xb", opener=_open_private) as file:
                    file.write(whole)
                os.replace(draft, path)
            except BaseException:
                _remove(draft)
                raise
            self._bound(_on_disk(len(whole)))
        except (OSError, _Distrusted) as error:
            self._note("stored", error)

    def contents(self) -> tuple[int, int]:
        """Return how many kernels are stored, and how many bytes they take."""
        try:
            sizes = [size for _, size, path in self._files() if path.endswith(".o")]
        except OSError:  # no folder yet, or one that cannot be read
            return 0, 0
        return len(sizes), sum(sizes)

    def _path(self, key: str) -> str:
        return os.path.join(self.folder, f"{key}.o")

    def _note(self, what: str, error: Exception) -> None:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.trouble = f"kernels in {self.folder} cannot be {what}: {text}"

    def _check_folder(self) -> None:
        """Raise unless the folder is the user's and closed to others; close it where it is not."""
        found = os.stat(self.folder)
        if hasattr(os, "geteuid") and found.st_uid == os.geteuid() and found.st_mode & 0o077:
            with suppress(OSError):  # what matters is what it is like then
                os.chmod(self.folder, 0o700)
            found = os.stat(self.folder)
        _check_private(found, "the folder")

    def _touch(self, key: str, used: float) -> None:
        """Note the use of a file, for the choice of those that go."""
        if time.time() - used < _HOUR:
            return
        with suppress(OSError):  # read-only, or gone by now: it goes as if it had not been used
            os.utime(self._path(key))

    def _bound(self, added: int) -> None:
        """Remove files if the folder has outgrown its limit.

        A look takes time in a full folder, so one is taken first and then whenever what was stored
        since may have filled it, or is a good part of it: other processes store things too.
        """
        self._unseen += added
        if self._bytes is not None:
            self._bytes += added
            if self._bytes <= self.limit and self._unseen < self.limit // 16:
                return
        files = self._files()
        self._bytes, self._unseen = sum(size for _, size, _ in files), 0
        if self._bytes <= self.limit:
            return
        for _, size, path in sorted(files):
            if self._bytes <= self.limit - self.limit // 4:
                return
            _remove(path)
            self._bytes -= size

    def _files(self) -> list[tuple[float, int, str]]:
        """Return time of last use, size and path of each file; leftovers come as never used."""
        files = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if not _OURS.fullmatch(entry.name):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # another process was quicker
                    continue
                used = found.st_mtime
                if entry.name.endswith(".tmp"):
                    if time.time() - used > _HOUR:
                        _remove(entry.path)
                    continue
                files.append((used, _on_disk(found.st_size), entry.path))
        return files


class _Distrusted(Exception):
    """What was found may be somebody else's; the text says what and why."""


def _head(key: str, content: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(key.encode() + b"\0" + content).digest()


def _on_disk(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _check_private(found: os.stat_result, what: str) -> None:
    """Raise unless what was found is the user's and nobody else may write to it."""
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid != os.geteuid():
        raise _Distrusted(f"{what} belongs to another user ({found.st_uid})")
    if found.st_mode & 0o022:
        raise _Distrusted(f"{what} can be written by others")


def _open_existing(path: str, flags: int) -> int:
    # Not through a link that somebody laid; nor waiting for the other end of a pipe.
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):  # another process was quicker
        os.unlink(path)
