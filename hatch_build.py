"""Build hook: compile the optional C accelerator, or say in one line why there is none.

The package is complete without ``dispatcharr.face._fastpath_c``: the module only shortens the way
of small arrays through the operators. So whatever keeps it from being compiled (no compiler, no
headers) costs the user a notice and never the installation. The extension is built beside its
source, for the interpreter that builds, which serves editable installations and wheels alike.

Environment
-----------
DISPATCHARR_NO_EXTENSION
    ``1``: do not build it.
DISPATCHARR_REQUIRE_EXTENSION
    ``1``: fail where it cannot be built (for CI and for those who package).
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
from pathlib import Path
from textwrap import shorten
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "dispatcharr.face._fastpath_c"
SOURCE = Path("dispatcharr", "face", "_fastpath.c")


class NotBuiltError(Exception):
    """Why the extension could not be compiled, in the user's words."""


class AcceleratorHook(BuildHookInterface[Any]):
    """Adds the compiled accelerator to a wheel (or an editable tree) where it can be built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        target = self._target()
        if version == "editable":
            # The tree is what will be imported: nothing of an earlier build may stay in it.
            target.unlink(missing_ok=True)
        if _flag("DISPATCHARR_NO_EXTENSION"):
            self._say("C accelerator skipped, as DISPATCHARR_NO_EXTENSION asks")
            return
        try:
            _compile(Path(self.root, SOURCE), target)
        except NotBuiltError as reason:
            if _flag("DISPATCHARR_REQUIRE_EXTENSION"):
                raise
            self._say(
                f"C accelerator not built ({reason}); going on without it: "
                "results are the same, operations on small arrays cost more"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        # Git ignores the binary, so the wheel must be told of it; by its full name, because
        # binaries for other interpreters may lie beside it.
        build_data["artifacts"].append(target.relative_to(self.root).as_posix())

    def clean(self, versions: list[str]) -> None:
        self._target().unlink(missing_ok=True)

    def _target(self) -> Path:
        name = MODULE.rpartition(".")[2] + sysconfig.get_config_var("EXT_SUFFIX")
        return Path(self.root, SOURCE.parent, name)

    def _say(self, text: str) -> None:
        self.app.display_warning(f"dispatcharr: {text}")


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def _compile(source: Path, target: Path) -> None:
    """Compile `source` into `target`, or raise `NotBuiltError` with the reason."""
    if not source.is_file():
        raise NotBuiltError(f"{SOURCE.as_posix()} is missing")
    try:
        import numpy
        from setuptools import Distribution, Extension
        from setuptools.command.build_ext import build_ext
        from setuptools.errors import BaseError, CCompilerError
    except ImportError as error:
        raise NotBuiltError(f"the build needs {error.name}") from error

    class Optimised(build_ext):
        def build_extension(self, ext: Extension) -> None:
            if self.compiler.compiler_type != "msvc":
                # No -march: the wheel must run on every machine of its platform.
                ext.extra_compile_args = ["-O3", "-Wall"]
            super().build_extension(ext)

    extension = Extension(MODULE, [str(source)], include_dirs=[numpy.get_include()])
    with tempfile.TemporaryDirectory() as scratch:
        command = Optimised(Distribution({"name": "dispatcharr", "ext_modules": [extension]}))
        command.build_lib = command.build_temp = scratch
        try:
            command.ensure_finalized()
            command.run()
        except (BaseError, CCompilerError, OSError) as error:
            # The compiler's own messages stand above; its whole command line helps nobody.
            raise NotBuiltError(shorten(str(error), 120, placeholder=" ...")) from error
        _replace(Path(command.get_ext_fullpath(MODULE)), target)


def _replace(built: Path, target: Path) -> None:
    """Put `built` in place in one step: a running interpreter keeps the file it has mapped."""
    staged = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    staged.write_bytes(built.read_bytes())
    staged.chmod(0o755)
    staged.replace(target)
