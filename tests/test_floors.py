"""The house holds: who may import whom, which library is used where, and what loads torch."""

import ast
import fnmatch
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parent.parent / "qeeps_cli"

# A unit is a folder of the package or a module at its top. It imports from itself and from the floors below it.
FLOORS = {
    "errors": 0,
    "clock": 0,
    "cores": 0,
    "types": 0,
    "boxes": 0,
    "images": 1,
    "gallery": 1,
    "videos": 1,
    "device": 1,
    "toml_files": 1,
    "frames": 2,
    "model": 2,
    "sightings": 2,
    "cache": 3,
    "datasets": 3,
    "weights": 3,
    "checkpoints": 4,
    "searching": 4,
    "distributed": 5,
    "evaluation": 5,
    "output": 5,
    "training": 6,
    "cli": 7,
    "keywords": 7,  # of the Python API; knows the types of all floors
    "__init__": 8,  # the Python API: the package's own names, gathered from all floors
    "__main__": 8,  # python -m qeeps_cli
}
GROUND = 0  # the modules of the ground floor are small enough to know each other

# Where a library may be imported at all; a library that is not named may be imported anywhere.
LIBRARIES = {
    "h5py": {"cache"},
    "av": {"videos"},
    "typer": {"cli"},
    "rich": {"cli"},
    "ray": {"distributed"},
    "pyarrow": {"distributed"},
    "fsspec": {"distributed"},
    "click": set(),  # Typer brings its own
    "scipy": {"datasets"},
    "matplotlib": {"training"},
    "openvino": {"training"},
    "sklearn": set(),
    "cv2": set(),
    "pickle": set(),
    "requests": set(),
    "urllib": set(),
}
MODEL_LIBRARIES = {"torch", "torchvision", "numpy"}

# Units whose modules can be imported without torch; the commands load it when they run.
TORCH_FREE = {"errors", "clock", "types", "boxes", "images", "gallery", "videos", "frames"}
TORCH_FREE |= {"sightings", "datasets", "toml_files", "output", "cli", "keywords", "__init__"}
TORCH_FREE_MODULES = {
    "qeeps_cli.weights",
    "qeeps_cli.checkpoints.catalogue",
    "qeeps_cli.evaluation.metrics",
    "qeeps_cli.evaluation.detection",
}


class Import(NamedTuple):
    """One imported name: `from qeeps_cli.model import qsse` is qeeps_cli.model.qsse."""

    source: Path
    line: int
    name: str


def imports(path: Path, package: Path) -> Iterator[Import]:
    """Everything that a module imports, at its top or inside functions."""
    parents = ("qeeps_cli", *path.relative_to(package).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(path, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (Import(path, node.lineno, f"{module}.{alias.name}") for alias in node.names)


def unit_of_file(path: Path, package: Path) -> str:
    return path.relative_to(package).with_suffix("").parts[0]


def unit_of_name(name: str, package: Path) -> str | None:
    """The unit that an imported name belongs to; None: not ours. Names of the package itself are of its __init__."""
    parts = name.split(".")
    if parts[0] != "qeeps_cli":
        return None
    if len(parts) > 1 and ((package / parts[1]).is_dir() or (package / f"{parts[1]}.py").is_file()):
        return parts[1]
    return "__init__"


def floor_violations(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        unit = unit_of_file(path, package)
        for item in imports(path, package):
            other = unit_of_name(item.name, package)
            if other is None or other == unit or FLOORS[other] < FLOORS[unit]:
                continue
            if FLOORS[other] == FLOORS[unit] == GROUND:
                continue
            found.append(f"{path.relative_to(package)}:{item.line} imports {item.name}, of floor {FLOORS[other]}")
    return found


def library_violations(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        unit = unit_of_file(path, package)
        for item in imports(path, package):
            library = item.name.split(".")[0]
            allowed = unit in LIBRARIES.get(library, {unit})
            if unit == "model":
                allowed = library in MODEL_LIBRARIES | {"qeeps_cli"} | set(sys.stdlib_module_names)
            if not allowed:
                found.append(f"{path.relative_to(package)}:{item.line} imports {library}")
    return found


def calls(package: Path) -> Iterator[tuple[Path, str, ast.Call]]:
    """(file, what is called, call) of every call."""
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func), node


def test_every_unit_has_a_floor():
    units = {unit_of_file(path, PACKAGE) for path in PACKAGE.rglob("*.py")}
    assert units <= FLOORS.keys()


def test_imports_go_down():
    assert floor_violations(PACKAGE) == []


def test_libraries_stay_where_they_belong():
    assert library_violations(PACKAGE) == []


def test_only_images_opens_images():
    """Augmentation reads back the JPEG that it has just made, to degrade a picture."""
    opened = {path.name for path, name, _ in calls(PACKAGE) if name in ("Image.open", "PIL.Image.open")}
    assert "images.py" in opened and opened <= {"images.py", "augment.py"}


def test_torchvision_is_imported_in_one_place():
    """The one that keeps it from bringing PyTorch's compiler."""
    found = [(path, item.name.split(".")[0]) for path in PACKAGE.rglob("*.py") for item in imports(path, PACKAGE)]
    assert {path for path, library in found if library == "torchvision"} == {PACKAGE / "model" / "torchvision_parts.py"}


def test_only_the_command_line_prints():
    printing = {unit_of_file(path, PACKAGE) for path, name, _ in calls(PACKAGE) if name == "print"}
    assert printing <= {"cli"}


def test_nothing_is_unpickled():
    loads = [node for _, name, node in calls(PACKAGE) if name == "torch.load"]
    for node in loads:
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert keywords.get("weights_only") == "True", ast.unparse(node)


def modules_without_torch() -> list[str]:
    files = [path for path in PACKAGE.rglob("*.py") if unit_of_file(path, PACKAGE) in TORCH_FREE]
    parts = [path.relative_to(PACKAGE.parent).with_suffix("").parts for path in files]
    return sorted({".".join(part).removesuffix(".__init__") for part in parts} | TORCH_FREE_MODULES)


def loaded_by(modules: list[str]) -> set[str]:
    program = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_command_line_starts_without_torch():
    heavy = {"torch", "torchvision", "h5py", "scipy", "matplotlib", "av", "ray"}
    assert not heavy & loaded_by(["qeeps_cli", "qeeps_cli.cli"])


def test_what_needs_no_torch_does_not_load_it():
    modules = modules_without_torch()
    assert "qeeps_cli.images" in modules and "qeeps_cli.datasets.coco" in modules
    assert not {"torch", "torchvision", "scipy"} & loaded_by(modules)


# The checks above would also hold of a walker that sees nothing.


@pytest.fixture
def house(tmp_path):
    def house(files: dict[str, str]) -> Path:
        for name, text in {"images.py": "", "model/__init__.py": "", "searching/__init__.py": "", **files}.items():
            path = tmp_path / "qeeps_cli" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "qeeps_cli"

    return house


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("import torch\nfrom torch import nn\nimport math", 0),
        ("from qeeps_cli.images import resize\nfrom qeeps_cli import images\nimport qeeps_cli.images", 0),
        ("from . import qsse\nfrom .. import images\nfrom ..images import resize\nfrom qeeps_cli.model import x", 0),
        ("from qeeps_cli.searching import exact", 1),
        ("from qeeps_cli import searching", 1),
        ("import qeeps_cli.searching.exact as exact", 1),
        ("from .. import searching", 1),
        ("from ..searching import exact", 1),
        ("from qeeps_cli import load_model", 1),
        ("import qeeps_cli", 1),
        ("def f():\n    from qeeps_cli.searching import exact", 1),
    ],
)
def test_the_walker_sees_imports_that_go_up(house, text, count):
    assert len(floor_violations(house({"model/qeeps.py": text}))) == count


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("cache/segment.py", "import h5py", 0),
        ("searching/exact.py", "import h5py", 1),
        ("searching/exact.py", "def f():\n    from rich import print", 1),
        ("model/qeeps.py", "import scipy.io", 1),
        ("model/qeeps.py", "import PIL", 1),
        ("images.py", "from PIL import Image", 0),
    ],
)
def test_the_walker_sees_libraries_out_of_place(house, name, text, count):
    assert len(library_violations(house({name: text}))) == count


def test_what_coverage_leaves_out_exists():
    """A pattern that no file fits any more would let its successor count, or hide what comes by that name later."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["tool"]["coverage"]["run"]
    files = [path.as_posix() for path in PACKAGE.rglob("*.py")]
    assert settings["omit"]
    assert [pattern for pattern in settings["omit"] if not fnmatch.filter(files, pattern)] == []


def test_what_a_command_imports_can_be_imported_first():
    """Whatever was imported before it: commands and the Python API import when they run, in orders of their own."""
    files = [path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py")]
    own = {".".join(file.parts).removesuffix(".__init__") for file in files}
    importers = [PACKAGE / "__init__.py", *(PACKAGE / "cli").glob("*.py")]
    names = {found.name for path in importers for found in imports(path, PACKAGE)}
    modules = sorted(own & {module for name in names for module in (name, name.rpartition(".")[0])})
    assert {"qeeps_cli.searching.run", "qeeps_cli.training.run"} <= set(modules)
    program = """
import importlib, os, sys, traceback
import av, h5py, matplotlib.figure, numpy, PIL.Image, rich.console, rich.progress, rich.table  # once for all
import safetensors.torch, scipy.io, torch, torchvision.models, typer.testing  # of our own, nothing
failed = []
for module in sys.argv[1:]:
    if (child := os.fork()) == 0:
        try:
            importlib.import_module(module)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(module)
print(*failed)
"""
    command = [sys.executable, "-c", program, *modules]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "", done.stderr
