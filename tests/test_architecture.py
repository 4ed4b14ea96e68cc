"""Who may import whom, read from the source without importing it."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("core", "demos", "viz")
MAX_LINES = 400

# A room may import itself and what is named here. The longest matching room decides.
MAY_IMPORT = {
    "core.errors": [],
    "core.data": ["core.errors"],
    "core.model": ["core.data", "core.errors"],
    "core.retrieval": ["core.data", "core.model", "core.errors"],
    "core.engine": ["core.model", "core.data", "core.errors"],
    "core.training": ["core.model", "core.data", "core.errors"],
    "core.pretraining": ["core.model", "core.data", "core.errors"],
    "core.llm": ["core.data", "core.errors"],
    "core.llm.backends": ["core.llm", "core.engine", "core.data", "core.errors"],
    "core.chains": ["core.llm", "core.retrieval", "core.data", "core.errors"],
    "core.persona": ["core.llm", "core.retrieval", "core.data", "core.errors"],
    "viz": ["core.data", "core.errors"],
    "demos": ["core"],
}
EDGE_LIBRARIES = {"argparse", "fastapi", "gradio", "moderngl"}
HEAVY_LIBRARIES = {"chromadb", "gradio", "langchain_core", "torch", "transformers"}
DOTTED_NAME = re.compile(r"(core|demos|viz)(\.\w+)+(:\w+)?")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported_names(module: str, tree: ast.AST, *, is_package: bool) -> Iterator[str]:
    """Every dotted name that the module imports, or names in a string such as "core.llm.backends.x:Class"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                package = module.split(".") if is_package else module.split(".")[:-1]
                parents = package[: len(package) - node.level + 1]
                source = ".".join([*parents, source] if source else parents)
            # "from core import __version__" asks for the package itself.
            yield from (source if alias.name.startswith("__") else f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED_NAME.fullmatch(node.value):
            name, is_reference, _ = node.value.partition(":")
            if is_reference or name in MODULES:
                yield name


def names_of(module: str) -> set[str]:
    path = MODULES[module]
    return set(imported_names(module, syntax_tree(path), is_package=path.name == "__init__.py"))


def is_under(name: str, room: str) -> bool:
    return f"{name}.".startswith(f"{room}.")


def room_of(module: str) -> str | None:
    return max((room for room in MAY_IMPORT if is_under(module, room)), key=len, default=None)


def strays_of(module: str, names: set[str]) -> list[str]:
    """The names of ours that the module's room has no right to. ``core`` itself holds only the version."""
    room = room_of(module)
    allowed = [room, *MAY_IMPORT[room]] if room else []
    ours = {name for name in names if name.split(".")[0] in PACKAGES} - {"core"}
    return sorted(name for name in ours if not any(is_under(name, other) for other in allowed))


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_room_may(module):
    assert module == "core" or room_of(module), f"{module} lies in no room of MAY_IMPORT; give it one"
    strays = strays_of(module, names_of(module))
    assert not strays, f"{module} imports {strays}"


def test_at_most_one_language_model_backend_knows_the_engine():
    users = [m for m in MODULES if is_under(m, "core.llm") and any(is_under(n, "core.engine") for n in names_of(m))]
    assert len(users) <= 1, f"{users} import core.engine"


@pytest.mark.parametrize(
    ("module", "source", "strays"),
    [
        ("core.data.text", "import core.model.glm", ["core.model.glm"]),
        ("core.data.text", "from core import model", ["core.model"]),
        ("core.data.text", "from core import __version__, errors", []),
        ("core.data.text", "from .. import retrieval", ["core.retrieval"]),
        ("core.data.text", "from ..llm.backends import x", ["core.llm.backends.x"]),
        ("core.data.text", "from . import chunks", []),
        ("core.llm.registry", 'TABLE = {"lowbit": "core.llm.backends.lowbit:LowBit"}', []),
        ("core.llm.registry", 'TABLE = {"lowbit": "core.engine.lowbit:LowBit"}', ["core.engine.lowbit"]),
        ("core.chains.qa", "def f():\n    from core.persona import cards", ["core.persona.cards"]),
        ("viz.scene", "from core.data.tables import EmbeddingTable\nimport core.retrieval", ["core.retrieval"]),
        ("core.model.glm", "import demos", ["demos"]),
    ],
)
def test_the_rule_sees_every_way_of_importing(module, source, strays):
    assert strays_of(module, set(imported_names(module, ast.parse(source), is_package=False))) == strays


@pytest.mark.parametrize("module", [m for m in MODULES if is_under(m, "core")])
def test_core_knows_no_page_server_window_or_command_line(module):
    libraries = {name.split(".")[0] for name in names_of(module)}
    assert not libraries & EDGE_LIBRARIES


@pytest.mark.parametrize("module", [m for m in MODULES if m != "demos.settings"])
def test_only_the_settings_of_the_demos_touch_the_environment(module):
    lines = [
        node.lineno
        for node in ast.walk(syntax_tree(MODULES[module]))
        if (isinstance(node, ast.Attribute) and is_environment(node.attr) and ast.unparse(node.value) == "os")
        or (
            isinstance(node, ast.ImportFrom) and node.module == "os" and any(is_environment(a.name) for a in node.names)
        )
    ]
    assert not lines, f"{MODULES[module]} touches the environment at lines {lines}; demos/settings.py may"


def is_environment(name: str) -> bool:
    return name in {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Names that the module's top level binds, also inside ``if`` and ``try``."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            waiting.extend(ast.iter_child_nodes(node))


def declared_names(tree: ast.Module) -> list[str] | None:
    """The value of ``__all__``, or None where the module has none."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return ast.literal_eval(node.value)
    return None


@pytest.mark.parametrize("module", [m for m in MODULES if not m.split(".")[-1].startswith("_")])
def test_a_public_module_declares_names_that_exist(module):
    tree = syntax_tree(MODULES[module])
    bound = set(bound_names(tree))
    declared = declared_names(tree)
    if declared is None:
        own = {n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
        assert not own, f"{MODULES[module]} defines {sorted(own)} and has no __all__"
        return
    assert len(declared) == len(set(declared))
    missing = set(declared) - bound
    assert not missing or "__getattr__" in bound, f"__all__ names {sorted(missing)}, which nothing binds"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_opens_with_a_docstring_and_stays_readable(module):
    path = MODULES[module]
    assert ast.get_docstring(syntax_tree(path)), f"{path} has no docstring"
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path} has {lines} lines; split it by subject"


@pytest.mark.skipif("demos.cli" not in MODULES, reason="demos/cli.py is not written yet")
def test_help_loads_no_heavy_library():
    command = [sys.executable, "-X", "importtime", "-m", "demos", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "demos" in loaded
    heavy = loaded & HEAVY_LIBRARIES
    assert not heavy
