"""Build hook: compile the optional C accelerators, or say in one line why there are none.

The package is complete without them: ``dispatcharr.face._fastpath_c`` only shortens the way of
small arrays through the operators, ``dispatcharr.storage._pool_c`` keeps the memory of large ones
for the next, and ``dispatcharr.kernels._crew_c`` has threads that compiled kernels start on sooner.
So whatever keeps them from being compiled (no compiler, no headers) costs the user a notice and
never the installation. An extension is built beside its source, for the interpreter that builds,
which serves editable installations and wheels alike.

Environment
-----------
DISPATCHARR_NO_EXTENSION
    ``1``: do not build them.
DISPATCHARR_REQUIRE_EXTENSION
    ``1``: fail where one cannot be built (for CI and for those who package).
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
from pathlib import Path
from textwrap import shorten
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = ["dispatcharr.face._fastpath_c"]
if os.name == "posix":
    MODULES += ["dispatcharr.storage._pool_c", "dispatcharr.kernels._crew_c"]


class NotBuiltError(Exception):
    """Why the extension could not be compiled, in the user's words."""


class AcceleratorHook(BuildHookInterface[Any]):
    """Adds the compiled accelerator to a wheel (or an editable tree) where it can be built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            # The tree is what will be imported: nothing of an earlier build may stay in it.
            self.clean([version])
        if _flag("DISPATCHARR_NO_EXTENSION"):
            self._say("C accelerators skipped, as DISPATCHARR_NO_EXTENSION asks")
            return
        for module in MODULES:
            self._build(module, build_data)

    def _build(self, module: str, build_data: dict[str, Any]) -> None:
        target = self._target(module)
        try:
            _compile(module, Path(self.root), target)
        except NotBuiltError as reason:
            if _flag("DISPATCHARR_REQUIRE_EXTENSION"):
                raise
            self._say(
                f"C accelerator {module} not built ({reason}); going on without it: "
                "results are the same, some operations cost more"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        # Git ignores the binary, so the wheel must be told of it; by its full name, because
        # binaries for other interpreters may lie beside it.
        build_data["artifacts"].append(target.relative_to(self.root).as_posix())

    def clean(self, versions: list[str]) -> None:
        for module in MODULES:
            self._target(module).unlink(missing_ok=True)

    def _target(self, module: str) -> Path:
        folder, _, name = module.rpartition(".")
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        return Path(self.root, *folder.split("."), name + suffix)

    def _say(self, text: str) -> None:
        self.app.display_warning(f"dispatcharr: {text}")


def _flag(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def _compile(module: str, root: Path, target: Path) -> None:
    """Compile the source of `module` into `target`, or raise `NotBuiltError` with the reason."""
    path = Path(*module.removesuffix("_c").split(".")).with_suffix(".c")
    source = root / path
    if not source.is_file():
        raise NotBuiltError(f"{path.as_posix()} is missing")
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
                # Products that are added are rounded first, as NumPy's are.
                ext.extra_compile_args = ["-O3", "-Wall", "-ffp-contract=off"]
            super().build_extension(ext)

    extension = Extension(
        module,
        [str(source)],
        include_dirs=[numpy.get_include()],
        libraries=["m"] if os.name == "posix" else [],
    )
    with tempfile.TemporaryDirectory() as scratch:
        command = Optimised(Distribution({"name": "dispatcharr", "ext_modules": [extension]}))
        command.build_lib = command.build_temp = scratch
        try:
            command.ensure_finalized()
            command.run()
        except (BaseError, CCompilerError, OSError) as error:
            # The compiler's own messages stand above; its whole command line helps nobody.
            raise NotBuiltError(shorten(str(error), 120, placeholder=" ...")) from error
        _replace(Path(command.get_ext_fullpath(module)), target)


def _replace(built: Path, target: Path) -> None:
    """Put `built` in place in one step: a running interpreter keeps the file it has mapped."""
    staged = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    staged.write_bytes(built.read_bytes())
    staged.chmod(0o755)
    staged.replace(target)
