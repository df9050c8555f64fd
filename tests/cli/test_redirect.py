"""Who gets dispatcharr for `import numpy`, and who gets NumPy."""

from __future__ import annotations

import builtins
import os
import sys
from functools import partial
from textwrap import dedent
from types import ModuleType

import numpy
import pytest

import dispatcharr
from dispatcharr.face.redirect import not_installed, numpy_redirected

OWN = "/home/somebody/project/simulation.py"


def run(source: str, file: str | None = OWN, name: str = "simulation") -> dict[str, object]:
    """Execute ``source`` as the module of that file and return its globals."""
    namespace: dict[str, object] = {"__name__": name}
    if file is not None:
        namespace["__file__"] = file
    exec(compile(dedent(source), file or f"<{name}>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import numpy", {"numpy": "dispatcharr"}),
        ("import numpy as np", {"np": "dispatcharr"}),
        ("import numpy.linalg", {"numpy": "dispatcharr"}),
        ("import numpy.linalg as la", {"la": "dispatcharr.linalg"}),
        (
            "import numpy.random as npr, numpy as np",
            {"npr": "dispatcharr.random"},
        ),
        ("from numpy import linalg", {"linalg": "dispatcharr.linalg"}),
        ("from numpy import linalg as la, random", {"la": "dispatcharr.linalg"}),
        ("def f():\n    import numpy as np\n    return np\nnp = f()", {"np": "dispatcharr"}),
        ("class C:\n    import numpy as np\nnp = C.np", {"np": "dispatcharr"}),
        ("np = __import__('numpy', globals())", {"np": "dispatcharr"}),
        ("exec('import numpy as np')", {"np": "dispatcharr"}),
        ("import numpy.lib.stride_tricks as st", {"st": "dispatcharr.lib.stride_tricks"}),
        # What is private stays NumPy's.
        ("from numpy._core import umath as um", {"um": "numpy._core.umath"}),
        ("import numpy._core.umath as um, numpy", {"numpy": "dispatcharr"}),
        # What names no asker, and what is not NumPy, is left alone.
        ("np = __import__('numpy')", {"np": "numpy"}),
        ("import math as np", {"np": "math"}),
    ],
)
def test_every_form_of_import(source, found):
    with numpy_redirected(lambda file: file == OWN):
        namespace = run(source)
    modules = {name: namespace[name] for name in found}
    assert all(isinstance(module, ModuleType) for module in modules.values())
    assert {name: module.__name__ for name, module in modules.items()} == found


def test_values_come_from_the_counterpart():
    with numpy_redirected(lambda file: file == OWN):
        namespace = run("from numpy import sin, pi\nfrom numpy.linalg import norm")
    assert namespace["sin"] is dispatcharr.sin
    assert namespace["norm"] is dispatcharr.linalg.norm
    assert namespace["pi"] == numpy.pi


def test_star_binds_numpys_names_and_no_more():
    with numpy_redirected(lambda file: file == OWN):
        ours = run("explain = evaluate = 1\nfrom numpy import *")
    plain = run("explain = evaluate = 1\nfrom numpy import *", file="/elsewhere.py")
    assert set(ours) == set(plain)
    assert ours["explain"] == ours["evaluate"] == 1
    assert ours["sin"] is dispatcharr.sin
    assert plain["sin"] is numpy.sin


def test_star_of_a_submodule():
    with numpy_redirected(lambda file: file == OWN):
        namespace = run("from numpy.linalg import *")
    assert namespace["norm"] is dispatcharr.linalg.norm


def test_a_missing_module_is_told_of_in_numpys_name():
    with (
        numpy_redirected(lambda file: file == OWN),
        pytest.raises(ModuleNotFoundError, match=r"No module named 'numpy\.nowhere'"),
    ):
        run("import numpy.nowhere")


def test_a_module_that_only_this_package_has_is_not_numpys():
    with (
        numpy_redirected(lambda file: file == OWN),
        pytest.raises(ModuleNotFoundError, match=r"No module named 'numpy\.backends'"),
    ):
        run("import numpy.backends")


def test_others_get_numpy():
    with numpy_redirected(lambda file: file == OWN):
        namespace = run("import numpy, numpy.linalg as la", file="/usr/lib/other.py")
    assert namespace["numpy"] is numpy
    assert namespace["la"] is numpy.linalg


def test_code_without_a_file_is_asked_about_by_its_name():
    asked = []
    with numpy_redirected(lambda file: bool(asked.append(file))):
        run("import numpy", file=None, name="__main__")
        exec("import numpy", {})
    assert asked == ["<__main__>", "<None>"]


def test_each_file_is_asked_about_once_and_only_for_numpy():
    asked = []

    def own(file: str) -> bool:
        asked.append(file)
        return True

    with numpy_redirected(own):
        run("import math, sys")
        assert asked == []
        for _ in range(3):
            run("import numpy\nimport numpy.linalg\nfrom numpy import sin")
    assert asked == [OWN]


def test_imports_from_c_are_not_redirected(monkeypatch):
    """C code asks in the name of the running Python code and looks the answer up by itself."""
    monkeypatch.setattr(numpy, "linalg", numpy.linalg)  # is put back after the second import
    monkeypatch.delitem(sys.modules, "numpy.linalg")
    with numpy_redirected(lambda file: file == OWN):
        norm = run("import pickle; norm = pickle.loads(b'cnumpy.linalg\\nnorm\\n.')")["norm"]
    assert norm.__module__ == "numpy.linalg"


def test_the_import_function_is_put_back():
    before = builtins.__import__
    with pytest.raises(KeyError), numpy_redirected(lambda file: True):
        assert builtins.__import__ is not before
        raise KeyError
    assert builtins.__import__ is before


def test_a_wrapper_of_the_import_function_stays_and_is_harmless():
    before = builtins.__import__
    try:
        with numpy_redirected(lambda file: file == OWN):
            inner = builtins.__import__
            builtins.__import__ = partial(inner)
            assert run("import numpy")["numpy"] is dispatcharr
        assert run("import numpy")["numpy"] is numpy
    finally:
        builtins.__import__ = before


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("project/simulation.py", True),
        (".venv/lib/python3.13/site-packages/scipy/linalg/_basic.py", False),
        ("usr/lib/python3/dist-packages/pandas/core/frame.py", False),
        ("site-packages.py", True),
    ],
)
def test_what_is_installed(path, expected, tmp_path):
    assert not_installed(str(tmp_path / path)) is expected


def test_what_is_linked_into_an_environment_is_installed(tmp_path):
    store = tmp_path / "store" / "package"
    store.mkdir(parents=True)
    (store / "module.py").write_text("")
    packages = tmp_path / "lib" / "site-packages"
    packages.mkdir(parents=True)
    try:
        (packages / "package").symlink_to(store, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make links here")
    assert not not_installed(str(packages / "package" / "module.py"))
    assert not_installed(str(store / "module.py"))


def test_python_numpy_and_this_package_are_not_the_users():
    assert not not_installed(os.__file__)
    assert not not_installed(numpy.__file__)
    assert not not_installed(str(sys.modules[numpy_redirected.__module__].__file__))
    assert not not_installed("<string>")


def test_modules_of_a_program_are_redirected_and_installed_ones_are_not(dispatcharr, write):
    write(
        {
            "main.py": """
                import sys
                sys.path.append("lib/site-packages")
                import numpy as np
                import local, pack.inner, library
                print(np.__name__, local.np.__name__, library.np.__name__)
                print(pack.inner.norm is np.linalg.norm, library.np.sin is np.sin)
                """,
            "local.py": "import numpy as np",
            "pack/__init__.py": "",
            "pack/inner.py": "from numpy.linalg import norm",
            "lib/site-packages/library.py": "import numpy as np",
        }
    )
    done = dispatcharr("run", "-q", "main.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "dispatcharr dispatcharr numpy\nTrue False\n"


def test_modules_loaded_by_a_test_runner_are_redirected(dispatcharr, write):
    write(
        {"test_it.py": "import numpy\ndef test_it():\n    assert numpy.__name__ == 'dispatcharr'"}
    )
    done = dispatcharr("run", "-q", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
    assert done.returncode == 0, done.stdout
