"""Builds the one compiled part, where there is a C compiler; without one the same is done in Python, more slowly."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension

NAME = "modelry.server.api.doors._regular"
SOURCE = Path("src", *NAME.split(".")).with_suffix(".c")


class CompiledPart(BuildHookInterface[Any]):
    """Puts the extension beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel, or the link of an editable install, is made."""
        extension = Extension(
            NAME,
            [str(SOURCE)],
            py_limited_api=True,
            # A missing compiler is a warning.
            optional=True,
            extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra"],
        )
        distribution = Distribution({"ext_modules": [extension], "package_dir": {"": "src"}})
        command = distribution.get_command_obj("build_ext")
        command.inplace = True  # type: ignore[attr-defined]
        with TemporaryDirectory() as folder:
            command.build_temp = command.build_lib = folder  # type: ignore[attr-defined]
            command.ensure_finalized()
            command.run()
        built = list(Path(self.root, SOURCE.parent).glob(f"{SOURCE.stem}*.so"))
        if built:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] += [str(one.relative_to(self.root)) for one in built]
