"""The rules of the house that can be read off the source: who may import whom, and how large a file may be."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from srgui.places import ROOT

# From the ground up. A module may import from lower rooms and from its own; rooms in one line do not know each other.
ROOMS = (
    ("srgui",),  # the version
    ("errors",),
    ("protocol",),
    ("places",),
    ("device",),
    ("resample",),
    ("images",),
    ("degradations", "metrics"),
    ("blends",),
    ("models", "lora"),
    ("inference",),
    ("training",),  # validates with the engine that will run what it trains
    ("unfolding", "diffusion"),
    ("restorers", "evaluation"),
    ("survey",),
    ("tuning",),
    ("reports",),
    ("ui",),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}

# Which room alone may import a package: these are slow, or many-headed.
KEEPERS = {
    "gradio": "ui",
    "spandrel": "models",
    "spandrel_extra_arches": "models",
    "diffusers": "diffusion",
    "transformers": "diffusion",
    "PIL": ("images", "degradations"),
    "cv2": ("images", "degradations"),
}

SOURCES = sorted((ROOT / "srgui").rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in SOURCES]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES}
every_source = pytest.mark.parametrize("path", SOURCES, ids=IDS)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return next(name for name, where in MODULES.items() if where == path)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "srgui"


def imports(path: Path) -> Iterator[str]:
    """The full names of all that a file imports, anywhere in it: at the top, in functions, for type checking."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import; write the whole name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def test_every_room_has_a_place() -> None:
    assert {room_of(module) for module in MODULES} <= set(RANK)


@every_source
def test_imports_go_downwards(path: Path) -> None:
    here = room_of(name_of(path))
    for module in imports(path):
        if module.split(".")[0] == "srgui":
            there = room_of(module)
            allowed = there == here or RANK[there] < RANK[here]
            assert allowed, f"{name_of(path)} imports {module}: {here} may not know {there}"


@every_source
def test_packages_stay_in_their_rooms(path: Path) -> None:
    here = room_of(name_of(path))
    for module in imports(path):
        keepers = KEEPERS.get(module.split(".")[0], here)
        assert here == keepers or here in keepers, f"{name_of(path)} imports {module}, which is for {keepers} alone"


def test_no_module_imports_itself_around_a_corner() -> None:
    graph = {name: {module for module in imports(path) if module in MODULES and module != name} for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, f"a circle: {' -> '.join((*above[above.index(name) :], name))}"
        if name not in done:
            for module in graph[name]:
                visit(module, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_the_checks_above_see_what_they_should(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        "import gradio.themes\nfrom srgui import metrics, __version__\nfrom srgui.models.load import x\n"
        "def f():\n    from srgui.ui import app\n    if TYPE_CHECKING:\n        import torch\n"
    )
    assert set(imports(path)) == {"gradio.themes", "srgui.metrics", "srgui", "srgui.models.load", "srgui.ui.app", "torch"}


@every_source
def test_a_file_can_be_read_at_one_sitting(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_app_py_is_short() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) < 30


@every_source
def test_no_handler_swallows_everything(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            named = [name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)] if node.type else []
            assert node.type is not None, f"{path}:{node.lineno} catches everything"
            assert "Exception" not in named, f"{path}:{node.lineno} catches Exception"


@every_source
def test_every_module_says_what_it_is_for(path: Path) -> None:
    if path.name != "__main__.py":
        assert ast.get_docstring(tree(path)), f"{path} has no docstring"


def test_no_file_names_a_place_on_the_machine_it_was_written_on() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("needs git and a checkout to know which files are ours")
    places = [f"/{name}/".encode() for name in ("work", "root", "tmp/pytest-of-root")]
    for name in listed.stdout.decode().split("\0")[:-1]:
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" not in content[:8000]:
            for place in places:
                assert place not in content, f"{name} names {place.decode()}"
