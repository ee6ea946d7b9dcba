"""What pyproject.toml can not say: four folders are packages of other names, and one has native libraries."""

from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

KERNELS = Path(__file__).parent / "kernels"
FOLDERS = {
    "workbench.kernels": "kernels",
    "workbench.notebooks": "notebooks",
    "workbench.recorded": "data/runs",
    "workbench.shapes": "data/models",
}


class BuildLibrary(build_ext):
    """Builds a plain shared library: it has no Python.h, so one file serves every Python of the machine."""

    def get_ext_filename(self, fullname: str) -> str:
        """Gives the library's path without the interpreter's own suffix, so that ctypes and LD_PRELOAD find it."""
        return str(Path(*fullname.split("."))) + ".so"


recorder = Extension(
    "workbench.kernels._recorder",
    sources=sorted(f"kernels/{source.name}" for source in KERNELS.glob("*.c")),
    depends=sorted(f"kernels/{header.name}" for header in KERNELS.glob("*.h")),
    extra_compile_args=["-std=gnu11", "-O2", "-g0", "-fexceptions", "-Wall", "-Wextra"],
    extra_link_args=["-static-libgcc"],  # it unwinds stacks; a preloaded library brings no others along
    libraries=["dl", "pthread"],
)

# Compiled for OpenMP and not linked to one: they run on the threads of torch's. No loop of theirs needs the order that
# sums are written in, nor traps, nor compares what is not a number.
cpu = Extension(
    "workbench.kernels._cpu",
    sources=sorted(f"kernels/cpu/{source.name}" for source in KERNELS.glob("cpu/*.c")),
    depends=sorted(f"kernels/cpu/{header.name}" for header in KERNELS.glob("cpu/*.h")),
    extra_compile_args=[
        *("-std=gnu11", "-O3", "-g0", "-Wall", "-Wextra", "-fopenmp", "-fno-math-errno"),
        *("-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math", "-ffinite-math-only"),
    ],
    libraries=["m"],
)

streams = Extension(
    "workbench.kernels._streams",
    sources=sorted(f"kernels/streams/{source.name}" for source in KERNELS.glob("streams/*.c")),
    depends=sorted(f"kernels/streams/{header.name}" for header in KERNELS.glob("streams/*.h")),
    extra_compile_args=["-std=gnu11", "-O2", "-g0", "-fvisibility=hidden", "-Wall", "-Wextra"],
    libraries=["dl", "pthread"],
)

setup(
    packages=[*find_packages(include=["workbench", "workbench.*"]), *FOLDERS],
    package_dir={"workbench": "workbench", **FOLDERS},
    ext_modules=[library for library in (recorder, cpu, streams) if library.sources],
    cmdclass={"build_ext": BuildLibrary},
)
