"""`dispatcharr run` runs a program as `python` does: each program here is run both ways."""

from __future__ import annotations

import os
import signal
import sys
import zipfile

import pytest

PROGRAMS: dict[str, dict[str, str]] = {
    "what it sees": {
        "main.py": """
            # -*- coding: utf-8 -*-
            '''A docstring.'''
            import pickle, sys, warnings
            import __main__
            import numpy_like
            from pack import value
            hidden = {"__builtins__", "__loader__", "__warningregistry__"}
            shown = sorted((k, v) for k, v in vars().items() if k[0] == "_" and k not in hidden)
            print(shown, __loader__.path, __builtins__)
            print(sys.argv, sys.path[0], __name__, vars(__main__) is globals(), sys.flags)
            print(sys.excepthook is sys.__excepthook__, sys.gettrace(), sys.getprofile())
            print(input(), input(), numpy_like.x, value, "\u00e4\u00f6\u00fc \u03c0")
            class Thing:
                pass
            data = pickle.dumps(Thing())
            print(data, type(pickle.loads(data)) is Thing)
            warnings.warn("here", stacklevel=1)
            print("\\d")
            sys.exit()
            """,
        "numpy_like.py": """
            import warnings
            warnings.warn("old", DeprecationWarning, stacklevel=2)
            warnings.warn("odd", stacklevel=1)
            x = 1
            """,
        "pack/__init__.py": "from .numpy import value",
        "pack/numpy.py": "value = 2",
    },
    "tracebacks that it prints": {
        "main.py": """
            import importlib, traceback
            import part
            def load():
                import first
            def attempt(function, *arguments):
                try:
                    function(*arguments)
                except Exception:
                    traceback.print_exc()
            def chained():
                try:
                    part.deep(1)
                except KeyError as error:
                    raise RuntimeError("chained") from error
            def grouped():
                raise ExceptionGroup("two", [ValueError(1), ExceptionGroup("inner", [OSError()])])
            def lacks_module():
                import part_of_nothing.at_all
            def lacks_name():
                from part import nothing
            def lacks_numpy_module():
                import numpy.nowhere
            def has_syntax_error():
                import bad
            for function in (load, chained, grouped, lacks_module, lacks_name,
                             lacks_numpy_module, has_syntax_error):
                attempt(function)
            attempt(importlib.import_module, "first")
            """,
        "part.py": "def deep(x):\n    return {}[x]\n",
        "first.py": "from second import value\n",
        "second.py": "value = 1 / 0\n",
        "bad.py": "y = = 2",
    },
    "exit status": {"main.py": "import part; part.stop()", "part.py": "def stop(): exit(3)"},
    "exit with a message": {"main.py": "import sys; sys.exit('sorry: no data')"},
    "exception": {
        "main.py": "import part\n\nprint('before')\npart.deep(3)\n",
        "part.py": "def deep(x):\n    return {}[x]\n",
    },
    "exception while a module is imported": {
        "main.py": "def load():\n    import first\n\nload()\n",
        "first.py": "from second import value\n",
        "second.py": "import nowhere\n",
    },
    "chained exceptions": {
        "main.py": """
            def deep():
                return {}[1]
            try:
                deep()
            except KeyError as error:
                raise RuntimeError("chained") from error
            """,
    },
    "exception that means something to a command line": {
        "main.py": "from click import UsageError\nraise UsageError('mine')\n",
    },
    "end of input": {"main.py": "input(); input(); input()"},
    "syntax error": {"main.py": "x = 1\ndef f(:\n    pass\n"},
    "syntax error in a module": {"main.py": "import part", "part.py": "y = = 2"},
    "hook for exceptions": {
        "main.py": """
            import sys
            def hook(kind, value, trace):
                print("hooked", kind, value, trace.tb_lineno, trace.tb_next)
                raise SystemExit(9)
            sys.excepthook = hook
            1 / 0
            """,
    },
    "order of things at exit": {
        "main.py": """
            import atexit, sys, threading, time
            def late():
                time.sleep(0.1)
                print("thread", file=sys.stderr)
            atexit.register(print, "at exit", file=sys.stderr)
            threading.Thread(target=late).start()
            raise LookupError("main is over")
            """,
    },
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_runs_like_python(name, start, dispatcharr, write):
    write(PROGRAMS[name])
    arguments = ["main.py", "a", "--quiet", "-m", "--", "--json", "x"]
    plain = start("-W", "default", *arguments, stdin="one\ntwo\n")
    ours = start("-W", "default", "-m", "dispatcharr", "run", "-q", *arguments, stdin="one\ntwo\n")
    assert ours.stdout == plain.stdout
    assert ours.stderr == plain.stderr
    assert ours.returncode == plain.returncode


def test_starts_in_the_scripts_folder(start, write, tmp_path):
    write(
        {"folder/main.py": "import part, sys; print(sys.path[0], __file__)", "folder/part.py": ""}
    )
    for path in ("folder/main.py", "./folder/main.py", str(tmp_path / "folder" / "main.py")):
        plain = start(path)
        ours = start("-m", "dispatcharr", "run", "-q", path)
        assert plain.returncode == 0, plain.stderr
        assert ours.stdout == plain.stdout


def test_runs_folders_and_zip_files(start, dispatcharr, write, tmp_path):
    write(
        {
            "folder/__main__.py": "import part, sys\nprint(__file__, __spec__.name, sys.path[0])\n",
            "folder/part.py": "import numpy; print(numpy.__name__)",
        }
    )
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        for file in ("__main__.py", "part.py"):
            archive.write(tmp_path / "folder" / file, file)
    for program in ("folder", "app.zip"):
        plain = start(program, "x")
        ours = dispatcharr("run", "-q", program, "x")
        assert ours.returncode == plain.returncode == 0, ours.stderr
        assert plain.stdout.startswith("numpy\n")
        assert ours.stdout == "dispatcharr\n" + plain.stdout.removeprefix("numpy\n")


@pytest.mark.parametrize(
    "program", ["part", "pack", "pack.inner", "pack.nothing", "nowhere", "no.where"]
)
def test_runs_modules_like_python(program, start, dispatcharr, write):
    shown = "print(sys.argv, __name__, __package__, __spec__.name, __file__, sys.path[0])"
    write(
        {
            "part.py": f"import sys; {shown}; sys.exit(4)",
            "pack/__init__.py": "print('package')",
            "pack/__main__.py": f"import sys; from . import inner; {shown}",
            "pack/inner.py": f"import sys; {shown}",
        }
    )
    plain = start("-m", program, "-m", "--quiet", "x")
    ours = dispatcharr("run", "--quiet", "-m", program, "-m", "--quiet", "x")
    assert ours.stdout == plain.stdout
    assert ours.stderr == plain.stderr.replace(sys.executable, "dispatcharr")
    assert ours.returncode == plain.returncode


def test_names_the_package_that_cannot_be_run(start, dispatcharr, write):
    write({"pack/__init__.py": ""})
    plain = start("-m", "pack")
    ours = dispatcharr("run", "-m", "pack")
    assert plain.returncode == ours.returncode == 1
    assert ours.stderr == plain.stderr.replace(sys.executable, "dispatcharr")


def test_shows_a_modules_traceback_from_its_own_first_line(dispatcharr, write, tmp_path):
    write({"pack/__init__.py": "", "pack/part.py": "def f():\n    1 / 0\nf()\n"})
    ours = dispatcharr("run", "-q", "-m", "pack.part")
    lines = ours.stderr.splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path / "pack" / "part.py"}", line 3, in <module>',
    ]
    assert ours.returncode == 1


def test_a_parents_error_is_shown_for_a_module(dispatcharr, write, tmp_path):
    write({"pack/__init__.py": "1 / 0", "pack/part.py": ""})
    ours = dispatcharr("run", "-q", "-m", "pack.part")
    assert ours.stderr.startswith(
        f'Traceback (most recent call last):\n  File "{tmp_path / "pack" / "__init__.py"}", line 1'
    )
    assert ours.returncode == 1


@pytest.mark.parametrize("path", ["nowhere.py", "no/where.py"])
def test_missing_script_is_told_as_python_tells_it(path, start, dispatcharr):
    plain = start(path)
    ours = dispatcharr("run", path)
    assert ours.stderr == plain.stderr.replace(sys.executable, "dispatcharr")
    assert ours.stderr.endswith("[Errno 2] No such file or directory\n")
    assert ours.returncode == plain.returncode == 2


def test_folder_without_a_main_is_told_as_python_tells_it(start, dispatcharr, write):
    write({"folder/part.py": ""})
    plain = start("folder")
    ours = dispatcharr("run", "folder")
    assert ours.stderr == plain.stderr.replace(sys.executable, "dispatcharr")
    assert ours.returncode == plain.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="Windows has no exit by signal")
def test_interrupt_ends_it_as_it_ends_python(start, dispatcharr, write):
    write(
        {"main.py": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('still here')\n"}
    )
    plain = start("main.py")
    ours = dispatcharr("run", "-q", "main.py")
    assert plain.returncode == ours.returncode == -signal.SIGINT
    assert ours.stderr == plain.stderr
    assert ours.stdout == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_processes_are_redirected_and_report_nothing(dispatcharr, write):
    write(
        {
            "main.py": """
            import multiprocessing, os, sys
            def work(x):
                import numpy
                return numpy.__name__, x
            if __name__ == "__main__":
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
                    with multiprocessing.get_context("fork").Pool(1) as pool:
                        print(pool.map(work, [1, 2]))
            """,
        }
    )
    write({"nothing.py": ""})
    alone = dispatcharr("run", "nothing.py")
    ours = dispatcharr("run", "main.py")
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout == "[('dispatcharr', 1), ('dispatcharr', 2)]\n"
    # One summary, and that of a parent which computed nothing itself.
    assert ours.stderr == alone.stderr


def test_spawned_processes_run_plain_numpy(dispatcharr, write):
    write(
        {
            "main.py": """
            import multiprocessing
            def work(x):
                import numpy
                return numpy.__name__, x
            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.map(work, [1]))
            """,
        }
    )
    ours = dispatcharr("run", "-q", "main.py")
    assert ours.returncode == 0, ours.stderr
    assert ours.stdout == "[('numpy', 1)]\n"


def test_standard_input_is_no_program(dispatcharr):
    ours = dispatcharr("run", "-", stdin="print(1)")
    assert (ours.returncode, ours.stdout) == (2, "")
    assert "standard input" in ours.stderr


def test_light_start(start):
    """What a program does not need is not imported before it runs."""
    code = (
        "import sys, dispatcharr.cli.run, dispatcharr.cli.app;"
        "print([name for name in ('rich', 'matplotlib', 'numba', 'cupy') if name in sys.modules])"
    )
    done = start("-c", code)
    assert done.stdout == "[]\n", done.stderr
