"""The folder of compiled kernels: what is stored comes back; what may not be trusted does not."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import dispatcharr
from dispatcharr._config import cache_folder
from dispatcharr._errors import OptionError
from dispatcharr.kernels import cache as module
from dispatcharr.kernels.cache import Cache, cache_limit, kernel_key, user_cache
from dispatcharr.kernels.target import Host

ROOT = Path(dispatcharr.__file__).parents[1]
SOON = 20  # seconds: what must happen at all, on a busy machine too
NOBODY = 65534
KEY, OTHER = "a" * 64, "b" * 64
HOST = Host("cpu", "+wide", "compiler 1", 64, {})
has_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no owners here")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def cache(folder: Path) -> Cache:
    return Cache(str(folder))


@pytest.fixture
def ordinary_user() -> Iterator[Path]:
    """A folder of a user whom modes bind, as they do not bind the superuser."""
    home = Path(tempfile.mkdtemp())
    if os.geteuid():
        yield home
    else:
        os.chown(home, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield home
        finally:
            os.seteuid(0)
    shutil.rmtree(home)


def file_of(folder: Path, key: str = KEY) -> Path:
    return folder / f"{key}.o"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def numbered(number: int) -> str:
    return f"{number:064x}"


def test_what_is_stored_comes_back_in_any_process(cache: Cache, folder: Path) -> None:
    assert cache.get(KEY) is None
    content = bytes(range(256)) * 20
    cache.put(KEY, content)
    assert cache.get(KEY) == content
    assert Cache(str(folder)).get(KEY) == content
    assert cache.get(OTHER) is None
    assert cache.trouble is None


def test_what_is_stored_again_takes_the_place_of_what_was_there(cache: Cache) -> None:
    cache.put(KEY, b"old")
    cache.put(KEY, b"new")
    assert cache.get(KEY) == b"new"


def test_asking_makes_no_folder(cache: Cache, folder: Path) -> None:
    assert cache.get(KEY) is None
    assert not folder.parent.exists()


@has_owners
def test_folder_and_files_are_closed_to_others(cache: Cache, folder: Path) -> None:
    before = os.umask(0)
    try:
        cache.put(KEY, b"code")
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert mode(file_of(folder)) == 0o600


@has_owners
def test_a_folder_that_was_open_is_closed(cache: Cache, folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    cache.put(KEY, b"code")
    assert mode(folder) == 0o700
    assert cache.get(KEY) == b"code"


@has_owners
def test_a_folder_that_stays_open_is_not_used(
    cache: Cache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(KEY, b"code")
    folder.chmod(0o770)
    monkeypatch.setattr(os, "chmod", lambda *args, **kwargs: None)  # as where disks know no modes
    assert cache.get(KEY) is None
    assert "the folder can be written by others" in str(cache.trouble)
    cache.put(OTHER, b"code")
    assert not file_of(folder, OTHER).exists()


@has_owners
def test_a_folder_of_somebody_else_is_not_used(
    cache: Cache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.put(KEY, b"code")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert cache.get(KEY) is None
    assert "the folder belongs to another user" in str(cache.trouble)
    cache.put(OTHER, b"code")
    assert not file_of(folder, OTHER).exists()


@has_owners
@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() != 0, reason="only the superuser gives files away"
)
def test_a_file_of_somebody_else_is_not_read_and_is_replaced(cache: Cache, folder: Path) -> None:
    cache.put(KEY, b"code")
    os.chown(file_of(folder), NOBODY, NOBODY)
    assert cache.get(KEY) is None
    assert "a stored kernel belongs to another user" in str(cache.trouble)
    cache.put(KEY, b"code")
    assert cache.get(KEY) == b"code"


@has_owners
def test_a_file_that_others_may_write_is_not_read(cache: Cache, folder: Path) -> None:
    cache.put(KEY, b"code")
    file_of(folder).chmod(0o602)
    assert cache.get(KEY) is None
    assert "a stored kernel can be written by others" in str(cache.trouble)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_plain_file_is_not_read(cache: Cache, folder: Path, kind: str) -> None:
    cache.put(KEY, b"code")
    path, elsewhere = file_of(folder), folder.parent / "elsewhere"
    path.rename(elsewhere)
    if kind == "folder":
        path.mkdir()
    elif kind == "link" and hasattr(os, "O_NOFOLLOW"):
        path.symlink_to(elsewhere)
    elif kind == "pipe" and hasattr(os, "mkfifo"):
        os.mkfifo(path, 0o600)
    else:
        pytest.skip(f"the platform has no such {kind}")
    assert cache.get(KEY) is None  # at once: opening a pipe waits for its other end
    assert cache.trouble


def test_a_damaged_file_is_not_read_and_is_replaced(cache: Cache, folder: Path) -> None:
    content = bytes(range(256))
    cache.put(KEY, content)
    path = file_of(folder)
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert cache.get(KEY) is None, place
    assert "damaged" in str(cache.trouble)
    cache.put(KEY, content)
    assert cache.get(KEY) == content


def test_a_file_cut_short_or_with_an_end_of_its_own_is_not_read(cache: Cache, folder: Path) -> None:
    cache.put(KEY, b"some code")
    whole = file_of(folder).read_bytes()
    for text in [whole[:length] for length in range(len(whole))] + [whole + b"\0"]:
        file_of(folder).write_bytes(text)
        assert cache.get(KEY) is None, len(text)


def test_a_file_under_the_name_of_another_is_not_read(cache: Cache, folder: Path) -> None:
    cache.put(KEY, b"code")
    file_of(folder).rename(file_of(folder, OTHER))
    assert cache.get(OTHER) is None


def test_a_file_in_the_place_of_the_folder_harms_nobody(cache: Cache, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("mine")
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert "cannot be read" in str(cache.trouble)
    assert folder.read_text() == "mine"


@has_owners
def test_a_folder_that_may_only_be_read_is_read(ordinary_user: Path) -> None:
    folder = ordinary_user / "kernels"
    Cache(str(folder)).put(KEY, b"code")
    long_ago = time.time() - 1e6
    os.utime(file_of(folder), (long_ago, long_ago))
    file_of(folder).chmod(0o400)
    folder.chmod(0o500)
    cache = Cache(str(folder))
    assert cache.get(KEY) == b"code"
    cache.put(OTHER, b"code")
    assert cache.get(OTHER) is None
    assert f"kernels in {folder} cannot be stored: Permission denied" in str(cache.trouble)
    folder.chmod(0o700)


@has_owners
def test_a_home_that_may_only_be_read_harms_nobody(ordinary_user: Path) -> None:
    ordinary_user.chmod(0o500)
    cache = Cache(str(ordinary_user / "cache" / "kernels"))
    cache.put(KEY, b"code")
    assert cache.get(KEY) is None
    assert "cannot be stored: Permission denied" in str(cache.trouble)
    ordinary_user.chmod(0o700)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_what_ends_a_write_leaves_nothing_behind(
    cache: Cache, folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    cache.put(KEY, b"old")

    def fail(*args: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        if isinstance(error, OSError):
            cache.put(KEY, b"new")
            assert "cannot be stored: No space left" in str(cache.trouble)
        else:
            with pytest.raises(KeyboardInterrupt):
                cache.put(KEY, b"new")
    assert os.listdir(folder) == [file_of(folder).name]
    assert cache.get(KEY) == b"old"


def test_processes_that_store_the_same_at_once_each_leave_it_whole(folder: Path) -> None:
    program = """
import sys
from dispatcharr.kernels.cache import Cache
cache, key, content = Cache(sys.argv[1], 1 << 18), "a" * 64, bytes(range(256)) * 400
cache.put(key, content)
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    cache.put(key, content)
    cache.put(f"{number % 9:064x}", content)
    assert cache.get(key) in (content, None)
assert cache.trouble is None, cache.trouble
"""
    command = [sys.executable, "-c", program, str(folder)]
    started = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for each in started:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in started:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in started:
        each.communicate(timeout=SOON)
        assert each.returncode == 0
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]


def test_the_folder_keeps_its_limit(folder: Path) -> None:
    limit, size = 40 * 4096, 3000
    cache = Cache(str(folder), limit)
    for number in range(100):
        cache.put(numbered(number), bytes(size))
        # What is used is counted in pages of the disk.
        assert len(os.listdir(folder)) * 4096 <= limit
    assert len(os.listdir(folder)) >= 20
    assert cache.get(numbered(99)) == bytes(size)


def test_what_other_processes_store_counts_too(folder: Path) -> None:
    limit = 64 * 4096
    caches = [Cache(str(folder), limit) for _ in range(4)]
    for number in range(100):
        for index, cache in enumerate(caches):
            cache.put(numbered(number * 4 + index), bytes(3000))
            # Each looks after a sixteenth of the limit of its own.
            assert len(os.listdir(folder)) <= 64 + 4 * 4


def test_those_go_that_were_used_longest_ago(folder: Path) -> None:
    cache = Cache(str(folder), 16 * 4096)
    for number in range(16):
        cache.put(numbered(number), b"code")
        used = time.time() - 1e6 + number
        os.utime(file_of(folder, numbered(number)), (used, used))
    assert cache.get(numbered(2)) == b"code"  # notes the use
    cache.put(numbered(16), b"code")
    left = {number for number in range(17) if file_of(folder, numbered(number)).exists()}
    assert left == {2, *range(6, 17)}


def test_what_a_dead_process_left_goes_and_what_is_not_ours_stays(folder: Path) -> None:
    folder.mkdir(parents=True)
    dead, alive = folder / f"{KEY}.0123abcd.tmp", folder / f"{OTHER}.0123abcd.tmp"
    theirs = folder / "notes.txt"
    for path in (dead, alive, theirs):
        path.write_bytes(bytes(1 << 16))
    hours_ago = time.time() - 10_000
    for path in (dead, theirs):
        os.utime(path, (hours_ago, hours_ago))
    Cache(str(folder), 4 * 4096).put(KEY, b"code")
    assert not dead.exists()
    assert alive.exists()
    assert theirs.exists()


def test_a_kernel_beyond_the_limit_is_not_stored(folder: Path) -> None:
    Cache(str(folder), 4096).put(KEY, bytes(4096))
    assert not folder.exists()


def test_with_a_limit_of_zero_nothing_is_stored_or_read(folder: Path) -> None:
    Cache(str(folder)).put(KEY, b"code")
    cache = Cache(str(folder), 0)
    assert cache.get(KEY) is None
    cache.put(OTHER, b"code")
    assert not file_of(folder, OTHER).exists()


def test_folder_and_limit_follow_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("DISPATCHARR_CACHE_SIZE", raising=False)
    assert cache_folder() == str(tmp_path)
    assert (user_cache().folder, user_cache().limit) == (str(tmp_path / "kernels"), 64 << 20)
    monkeypatch.setenv("DISPATCHARR_CACHE_SIZE", " 1048576 ")
    assert user_cache().limit == 1 << 20
    monkeypatch.setenv("DISPATCHARR_CACHE_SIZE", "0")
    assert user_cache().limit == 0


@pytest.mark.parametrize("text", ["64MB", "-1", "1e6", "²"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPATCHARR_CACHE_SIZE", text)
    with pytest.raises(OptionError, match=r"cache_limit: DISPATCHARR_CACHE_SIZE .*whole number"):
        cache_limit()


@pytest.mark.parametrize(
    "other",
    [
        replace(HOST, cpu="another"),
        replace(HOST, features="-wide"),
        replace(HOST, versions="compiler 2"),
    ],
    ids=["cpu", "features", "compiler"],
)
def test_the_key_tells_compilers_and_machines_apart(other: Host) -> None:
    assert kernel_key(HOST, "text") == kernel_key(replace(HOST), "text")
    assert kernel_key(HOST, "text") != kernel_key(other, "text")
    assert kernel_key(HOST, "text") != kernel_key(HOST, "text ")
    assert module._OURS.fullmatch(f"{kernel_key(HOST, 'text')}.o")
