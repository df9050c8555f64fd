"""What `dispatcharr run` reports of a program, where, and when."""

from __future__ import annotations

import json

import pytest

WORKLOAD = """
    import sys
    import numpy as np
    a = np.linspace(0.0, 1.0, 200_000)
    print(round(float((np.sin(a) ** 2 + np.cos(a) ** 2).mean()), 6))
    """


@pytest.mark.parametrize("end", ["", "sys.exit(5)", "1 / 0"])
def test_summary_is_the_last_thing_on_standard_error(end, start, dispatcharr, write):
    last = "import atexit; atexit.register(lambda: print('at exit', file=sys.stderr))\n    "
    write({"main.py": WORKLOAD + last + end})
    plain = start("main.py")
    ours = dispatcharr("run", "main.py")
    assert ours.stdout == plain.stdout == "1.0\n"
    assert ours.returncode == plain.returncode
    assert ours.stderr.startswith(plain.stderr)
    summary = ours.stderr.removeprefix(plain.stderr)
    assert summary.strip()
    assert max(map(len, summary.splitlines())) <= 80


def test_json_takes_the_place_of_the_summary(dispatcharr, write, tmp_path):
    write(
        {
            "main.py": "import os; os.mkdir('elsewhere'); os.chdir('elsewhere')\n"
            + WORKLOAD.replace("\n    ", "\n")
        }
    )
    ours = dispatcharr("run", "--json", "records.json", "main.py")
    assert (ours.returncode, ours.stdout, ours.stderr) == (0, "1.0\n", "")
    assert json.loads((tmp_path / "records.json").read_text(encoding="utf-8"))


def test_work_of_threads_and_at_exit_is_reported(dispatcharr, write, tmp_path):
    write(
        {
            "main.py": """
            import atexit, threading, time
            import numpy as np
            a = np.linspace(1.0, 2.0, 200_000)
            def late():
                time.sleep(0.1)
                print(round(float((a * 2 + 1).sum())))
            threading.Thread(target=late, name="worker").start()
            atexit.register(lambda: print(round(float(np.sqrt(a).sum() * 0))))
            """,
        }
    )
    done = dispatcharr("run", "--json", "records.json", "main.py", DISPATCHARR_DEFER="always")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "800000\n0\n")
    data = json.loads((tmp_path / "records.json").read_text(encoding="utf-8"))
    threads = {record["thread"]: record["kernel"] for record in data["records"]}
    assert "multiply" in threads["worker"]
    assert "sqrt" in threads["MainThread"]


def test_json_into_a_missing_folder_is_refused_before_the_program_runs(dispatcharr, write):
    write({"main.py": "print('ran')"})
    ours = dispatcharr("run", "--json", "nowhere/records.json", "main.py")
    assert (ours.returncode, ours.stdout) == (2, "")
    assert "no folder" in ours.stderr


def test_quiet_says_nothing(dispatcharr, write):
    write({"main.py": WORKLOAD})
    ours = dispatcharr("run", "--quiet", "main.py")
    assert (ours.returncode, ours.stdout, ours.stderr) == (0, "1.0\n", "")


def test_backend_is_forced_in_every_thread(dispatcharr, write):
    write(
        {
            "main.py": """
            import threading
            from dispatcharr._config import options
            print(options().backend)
            thread = threading.Thread(target=lambda: print(options().backend))
            thread.start()
            thread.join()
            """,
        }
    )
    ours = dispatcharr("run", "-q", "--backend", "serial", "main.py")
    assert (ours.returncode, ours.stdout) == (0, "serial\nserial\n"), ours.stderr


def test_unknown_backend_is_refused_before_the_program_runs(dispatcharr, write):
    write({"main.py": "print('ran')"})
    ours = dispatcharr("run", "--backend", "abacus", "main.py")
    assert (ours.returncode, ours.stdout) == (2, "")
    assert "abacus" in ours.stderr
    assert "serial" in ours.stderr


def test_closed_standard_error_harms_nothing(dispatcharr, write):
    write({"main.py": WORKLOAD + "sys.stderr.close()"})
    ours = dispatcharr("run", "main.py")
    assert (ours.returncode, ours.stdout, ours.stderr) == (0, "1.0\n", "")
