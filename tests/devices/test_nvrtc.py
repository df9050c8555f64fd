"""The compiler of CUDA kernels: code for a GPU that is not there, and its log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dispatcharr.devices import nvrtc
from dispatcharr.devices.device import CompileError
from dispatcharr.devices.nvrtc import Compiler

TEXT = 'extern "C" __global__ void k(double* x, double y) { x[0] = x[1] * y + x[2]; }\n'


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    path = nvrtc.find()
    if path is None:
        pytest.skip(nvrtc.MISSING)
    return Compiler(path)


def test_a_text_becomes_code_for_the_gpu(compiler: Compiler) -> None:
    image = compiler.compile(TEXT, "sm_90", "k")
    assert image[:4] == b"\x7fELF"
    assert b"k\0" in image
    assert compiler.compile(TEXT, "sm_80", "k") != image


def test_the_version_names_what_the_code_depends_on(compiler: Compiler) -> None:
    assert compiler.version.startswith("nvrtc 1")
    assert "--fmad=false" in compiler.version


def test_what_does_not_compile_is_told_with_the_log(compiler: Compiler) -> None:
    with pytest.raises(CompileError, match=r"(?s)broken for sm_90: .*broken.cu\(2\).*nonsense"):
        compiler.compile(TEXT + "nonsense", "sm_90", "broken")
    with pytest.raises(CompileError, match=r"(?s)k for sm_1: .*gpu-architecture"):
        compiler.compile(TEXT, "sm_1", "k")


def test_threads_may_compile_at_once(compiler: Compiler) -> None:
    texts = [TEXT.replace("x[2]", f"x[{i}]") for i in range(6)]
    alone = [compiler.compile(text, "sm_90", "k") for text in texts]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(lambda text: compiler.compile(text, "sm_90", "k"), texts)) == alone


def test_it_is_looked_for_in_the_folders_that_python_imports_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, name = tmp_path / nvrtc._FOLDERS[-1], nvrtc._NAMES[1]
    folder.mkdir(parents=True)
    monkeypatch.setattr("sys.path", ["", str(tmp_path)])
    monkeypatch.setattr(nvrtc, "_by_pathfinder", lambda: None)
    monkeypatch.setattr(nvrtc, "_NAMES", (name,))
    assert nvrtc.find() != str(folder / name)
    (folder / name).touch()
    assert nvrtc.find() == str(folder / name)
