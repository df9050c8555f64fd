"""The profile file: saved whole, believed only if whole, and never in the way."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import platformdirs
import pytest

from dispatcharr._config import cache_folder
from dispatcharr._errors import ProfileWarning
from dispatcharr.route import profile as profiles
from dispatcharr.route.profile import (
    current,
    default_profile,
    load,
    machine,
    profile_path,
    save,
    use,
    with_threads,
)
from dispatcharr.route.stored import UnusableProfile, as_stored, read, write


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def measured(stage):
    """Return a profile as calibration on this machine would make it."""
    return replace(stage.laptop, machine=machine())


def spoil(change):
    """Change the stored data and write it back as it comes."""
    with open(profile_path()) as file:
        data = json.load(file)
    change(data)
    with open(profile_path(), "w") as file:
        json.dump(data, file)


def test_saved_profile_is_loaded_as_it_was(measured):
    saved = save(measured)
    assert saved == as_stored(measured, profile_path())
    assert load() == saved
    assert load().source == "calibrated"


def test_saved_file_is_for_people_to_read(measured):
    save(measured)
    with open(profile_path()) as file:
        text = file.read()
    assert text.startswith('{\n  "bandwidth": {\n    "serial": {\n')
    assert '"fault": {\n    "serial": 1e-10,' in text
    assert json.loads(text)["schema"] == 2
    assert text.endswith("}\n")


def test_figures_are_stored_with_four_digits(measured):
    save(replace(measured, fault={"serial": 1.23456789e-10, "threads": 1e-10}))
    assert load().fault["serial"] == 1.235e-10


def test_missing_file_means_defaults_and_not_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load()
    assert found == default_profile()
    assert found.source == "defaults"
    assert found.path is None


def test_missing_file_is_told_to_who_asks():
    with pytest.warns(ProfileWarning, match=r"no such file.*dispatcharr calibrate"):
        assert load(warn_missing=True).source == "defaults"


def set_path(*keys, value):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


def drop_path(*keys):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


FAULTS = {
    "schema of the future": (set_path("schema", value=99), "schema is 99"),
    "no schema": (drop_path("schema"), "schema is None"),
    "another CPU": (set_path("machine", "cpu", value="other"), "measured with cpu 'other'"),
    "another NumPy": (set_path("machine", "numpy", value="1.0"), "measured with numpy '1.0'"),
    "no machine": (set_path("machine", value=None), "which machine"),
    "not a number": (set_path("fault", "serial", value=math.nan), r"fault.serial is nan"),
    "infinite": (set_path("bandwidth", "serial", "L1", value=math.inf), "serial.L1 is inf"),
    "negative": (set_path("op", "arith", "d", value=-1e-9), r"op.arith.d is -1e-09"),
    "zero bandwidth": (set_path("bandwidth", "threads", "L2", value=0), "threads.L2 is 0"),
    "text for a number": (set_path("overhead", "call", value="1"), "overhead.call is '1'"),
    "truth for a number": (set_path("threads", value=True), "threads is True"),
    "number for a table": (set_path("op", value=3), "op is 3, wanted an object"),
    "flat table": (set_path("op", "arith", value=3), "op.arith is 3, wanted an object"),
    "list for a table": (set_path("fault", value=[1]), "fault is .1., wanted an object"),
    "wild correction": (set_path("correction", value={"x": {"y": 9.0}}), "correction.x.y is 9.0"),
    "no overhead": (drop_path("overhead"), "overhead is missing"),
    "no wake-up": (drop_path("overhead", "wake"), "overhead.wake is missing"),
    "no threads": (drop_path("bandwidth", "threads"), "bandwidth.threads is missing"),
    "no memory": (drop_path("bandwidth", "serial", "memory"), "bandwidth.serial.memory is missing"),
    "unknown source": (set_path("source", value="guessed"), "source is 'guessed'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_figure_that_cannot_be_believed_voids_the_profile(measured, fault):
    change, reason = FAULTS[fault]
    save(measured)
    spoil(change)
    with pytest.warns(ProfileWarning, match=reason) as caught:
        assert load() == default_profile()
    message = str(caught[0].message)
    assert profile_path() in message
    assert "dispatcharr calibrate" in message


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe\x00", b"[" * 100_000, b"\x00" * 100],
    ids=["empty", "brace", "null", "list", "text", "binary", "deep", "zeros"],
)
def test_what_is_no_profile_is_replaced_by_defaults(content):
    os.makedirs(cache_folder())
    with open(profile_path(), "wb") as file:
        file.write(content)
    with pytest.warns(ProfileWarning, match="cannot be used"):
        assert load() == default_profile()


def test_every_truncation_is_noticed(measured):
    save(measured)
    with open(profile_path(), "rb") as file:
        content = file.read()
    for length in range(0, len(content) - 2, 97):
        with open(profile_path(), "wb") as file:
            file.write(content[:length])
        with pytest.raises(UnusableProfile):
            read(profile_path())


def test_folder_in_place_of_the_file_is_replaced_by_defaults():
    os.makedirs(profile_path())
    with pytest.warns(ProfileWarning, match="cannot be used"):
        assert load().source == "defaults"


def test_one_warning_per_process(measured):
    save(measured)
    spoil(set_path("schema", value=0))
    with pytest.warns(ProfileWarning) as caught:
        load()
        load()
        load()
    assert len(caught) == 1


def test_unwritable_folder_warns_and_the_profile_holds(measured, tmp_path, monkeypatch):
    # A file where the folder should be stops root, too, whom permissions do not.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(ProfileWarning, match=r"cannot be saved.*DISPATCHARR_CACHE_DIR"):
        kept = save(measured)
    assert kept.path is None
    assert current() is kept


def test_failed_write_leaves_the_old_profile_and_no_draft(measured, monkeypatch):
    save(measured)

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(ProfileWarning, match="disk full"):
        save(replace(measured, block_bytes=1 << 20))
    assert read(profile_path()).block_bytes == measured.block_bytes
    assert os.listdir(cache_folder()) == ["profile.json"]


def test_readers_never_see_half_a_profile(measured):
    path = profile_path()
    write(measured, path)
    over = threading.Event()

    def keep_writing():
        while not over.is_set():
            write(measured, path)

    writers = [threading.Thread(target=keep_writing) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(200):
            assert read(path).threads == measured.threads
    finally:
        over.set()
        for writer in writers:
            writer.join()
    assert os.listdir(cache_folder()) == ["profile.json"]


def test_current_reads_the_file_once(measured, monkeypatch):
    save(measured)
    monkeypatch.setattr(profiles, "_current", None)
    first = current()
    os.unlink(profile_path())
    assert current() is first
    assert first.source == "calibrated"


def test_current_is_for_the_threads_that_may_be_used_here(measured, monkeypatch):
    save(measured)
    monkeypatch.setattr(profiles, "_current", None)
    monkeypatch.setenv("DISPATCHARR_NUM_THREADS", "1")
    found = current()
    assert found.threads == 1
    assert found.bandwidth["threads"] == found.bandwidth["serial"]


def test_saving_changes_the_profile_in_force(measured):
    assert current().source == "defaults"
    saved = save(measured)
    assert current() is saved


def test_use_holds_inside_the_block_and_this_thread_alone(measured, stage):
    seen = []
    with use(stage.laptop), use(stage.server):
        assert current() is stage.server
        thread = threading.Thread(target=lambda: seen.append(current()))
        thread.start()
        thread.join()
    assert seen[0].source == "defaults"
    assert current() is seen[0]


def test_fewer_threads_scale_cores_and_saturate_memory(stage):
    full = stage.server
    half = with_threads(full, 32)
    assert half.threads == 32
    assert half.bandwidth["serial"] == full.bandwidth["serial"]
    gain = half.bandwidth["threads"]["L2"] / half.bandwidth["serial"]["L2"]
    assert gain == pytest.approx(1 + 47 * 31 / 63)
    assert half.bandwidth["threads"]["memory"] == full.bandwidth["threads"]["memory"]
    two = with_threads(full, 2)
    assert two.bandwidth["threads"]["memory"] == pytest.approx(
        2 * full.bandwidth["serial"]["memory"]
    )
    one = with_threads(full, 1)
    assert one.bandwidth["threads"] == one.bandwidth["serial"]
    assert with_threads(full, 64) is full


def test_more_threads_than_were_measured_gain_nothing(stage):
    more = with_threads(stage.laptop, 16)
    assert more.threads == 16
    assert more.bandwidth == stage.laptop.bandwidth


def test_cache_folder_follows_the_option_and_the_platform(monkeypatch, tmp_path):
    monkeypatch.setenv("DISPATCHARR_CACHE_DIR", str(tmp_path))
    assert cache_folder() == str(tmp_path)
    monkeypatch.delenv("DISPATCHARR_CACHE_DIR")
    assert cache_folder() == platformdirs.user_cache_dir("dispatcharr", appauthor=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == platformdirs.user_cache_dir("dispatcharr", appauthor=False)


def test_machine_names_what_figures_depend_on():
    found = machine()
    assert set(found) == {"cpu", "cpus", "dispatcharr", "numpy", "platform", "python"}
    assert all(found.values())
    assert json.loads(json.dumps(found)) == found


def test_loading_imports_nothing_heavy():
    code = (
        "import sys, numpy, dispatcharr.route.profile as p; p.load();"
        "print(','.join({'platformdirs', 'rich', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == ""


def test_fewer_threads_have_a_profile_of_their_own(stage):
    whole = stage.laptop
    with profiles.use(whole):
        assert profiles.current(4) is profiles.current(9) is profiles.current() is whole
        two = profiles.current(2)
        assert two.threads == 2
        assert profiles.current(2) is two
        assert profiles.current(1).bandwidth["threads"] == whole.bandwidth["serial"]
        assert two.bandwidth["threads"]["L1"] < whole.bandwidth["threads"]["L1"]
