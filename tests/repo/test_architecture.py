"""The house: what DESIGN section 2 promises about doorpi.py, read from its syntax tree."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "doorpi.py"
TEXT = PROGRAM.read_text(encoding="utf-8")
TREE = ast.parse(TEXT)

TITLES = (
    "Vocabulary",
    "Rules",
    "Signals",
    "Settings",
    "The settings file",
    "Edits",
    "Ports",
    "Moving a lock",
    "The doorway",
    "Open hours",
    "Judging",
    "The door",
    "HTTP",
    "Locks",
    "Databases",
    "The log",
    "People",
    "Readers",
    "Secure cards",
    "Other sources",
    "The Pi",
    "Authorities",
    "Why",
    "The owner's tools",
    "Lists from elsewhere",
    "Online",
    "Cobot",
    "Chat",
    "MQTT",
    "The published list",
    "Home Assistant",
    "Pictures",
    "Doctor",
    "Wiring",
    "Verbs",
    "Verbs of the list",
    "Command line",
)  # fmt: skip

BANNERS = {
    line_number: (int(match[1]), match[2])
    for line_number, line in enumerate(TEXT.splitlines(), 1)
    if (match := re.match(r"# (\d+)\. ([A-Z][A-Za-z' ]+?) -- ", line))
}

THIRD_PARTY = {"nfc", "gpiozero", "requests", "urllib3", "tomli_w", "cryptography", "usb1", "serial", "segno", "paho"}  # fmt: skip

#: Modules and names that touch the world, which the sections up to Edits must not.
WORLDLY = {
    "os", "time", "socket", "sqlite3", "signal", "select", "threading", "tempfile",
    "random", "Path", "open", "print", "input", "log",
}  # fmt: skip
WORLDLY_METHODS = {"now", "today", "utcnow", "environ", "astimezone", "timestamp"}


def touches_the_world(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return node.id if node.id in WORLDLY else None
    if isinstance(node, ast.Attribute):
        return node.attr if node.attr in WORLDLY_METHODS else None
    return None


def number_of(title: str) -> int:
    return TITLES.index(title) + 1


def section_of(line_number: int) -> int:
    return max((n for at, (n, _) in BANNERS.items() if at <= line_number), default=0)


def definitions() -> dict[str, ast.stmt]:
    """Every name the module defines at its top level, with the statement that does."""
    found: dict[str, ast.stmt] = {}
    for node in TREE.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {t.id: node for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def names_used(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def functions() -> list[ast.FunctionDef]:
    return [n for n in ast.walk(TREE) if isinstance(n, ast.FunctionDef)]


def test_the_sections_are_numbered_and_named_as_in_the_design():
    assert [title for _, title in BANNERS.values()] == list(TITLES)
    assert [number for number, _ in BANNERS.values()] == list(range(1, len(TITLES) + 1))


def test_nothing_depends_on_a_later_section():
    home = {name: section_of(node.lineno) for name, node in definitions().items()}

    backwards = [
        f"{name} (section {home[name]}) uses {used} (section {home[used]})"
        for name, node in definitions().items()
        for used in sorted(names_used(node) & home.keys())
        if home[used] > home[name]
    ]

    assert backwards == []


def test_http_knows_nothing_of_locks():
    """An authority asks over it as well."""
    of_ports = {
        name
        for name, node in definitions().items()
        if section_of(node.lineno) == number_of("Ports")
    }
    used = {
        name
        for statement in TREE.body
        if section_of(statement.lineno) == number_of("HTTP")
        for name in names_used(statement)
    }

    assert used & of_ports <= {"Clock", "ProcessSignals", "start_thread"}


@pytest.mark.parametrize("section", range(1, number_of("Edits") + 1))
def test_the_pure_sections_touch_no_clock_disk_network_or_environment(section):
    touched = [
        f"line {node.lineno}: {name}"
        for statement in TREE.body
        if section_of(statement.lineno) == section
        for node in ast.walk(statement)
        if (name := touches_the_world(node))
    ]

    assert touched == []


def test_the_door_reaches_the_world_through_its_ports_only():
    """It logs, knows one signal's number and has a default for its dice: no thread is
    its own, for workers come in through a port."""
    touched = {
        name
        for statement in TREE.body
        if TITLES[section_of(statement.lineno) - 1]
        in ("Moving a lock", "Judging", "The door")
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and (name := touches_the_world(node))
    }

    assert touched == {"log", "signal", "random"}


def imports_inside_functions() -> list[tuple[int, str]]:
    return [
        (node.lineno, name.split(".")[0])
        for function in functions()
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    ]


def test_third_party_libraries_are_imported_only_inside_functions():
    at_top = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").split(".")[
            0
        ]
        for node in TREE.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }

    assert at_top & THIRD_PARTY == set()
    assert {name for _, name in imports_inside_functions()} & THIRD_PARTY


def test_imports_inside_functions_are_the_adapters_business():
    """The door and what lies below it need no library."""
    assert {section_of(line) for line, _ in imports_inside_functions()} <= set(
        range(number_of("HTTP"), len(TITLES) + 1)
    )


def test_no_section_is_longer_than_a_reader_can_hold():
    begins = [*BANNERS, len(TEXT.splitlines())]
    lengths = dict(
        zip(BANNERS.values(), map(int.__sub__, begins[1:], begins), strict=True)
    )

    assert {title: lines for title, lines in lengths.items() if lines > 1200} == {}


def test_functions_keep_to_their_budget():
    budget = {"make_parser": 80}

    too_long = [
        f"{f.name}: {f.end_lineno - f.lineno + 1} lines"
        for f in functions()
        if f.end_lineno - f.lineno + 1 > budget.get(f.name, 40)
    ]

    assert too_long == []


def test_every_public_class_and_function_of_the_module_has_a_docstring():
    silent = {
        name
        for name, node in definitions().items()
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        and not name.startswith(("_", "cmd_"))
        and ast.get_docstring(node) is None
    }

    assert silent == {"complain", "set_up_logging", "make_parser"}


def test_broad_excepts_are_only_where_drivers_nfcpy_pyserial_services_and_doctor_need_them():
    broad = [
        section_of(node.lineno)
        for node in ast.walk(TREE)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") == "Exception")
    ]

    assert Counter(TITLES[number - 1] for number in broad) == {
        "Moving a lock": 1, "The door": 1, "Readers": 2, "Other sources": 1, "Online": 1, "Chat": 1, "MQTT": 3, "Doctor": 1,
    }  # fmt: skip


LOADED = """
import sys
{code}
print(sorted({third!r} & {{name.split(".")[0] for name in sys.modules}}))
"""


@pytest.mark.parametrize(
    "code",
    ["import doorpi", "import doorpi; doorpi.main(['--config', {toml!r}, 'check'])",
     "import doorpi; doorpi.main(['--config', {toml!r}, 'log'])",
     "import doorpi; doorpi.main(['--config', {toml!r}, 'cards'])"],
    ids=["import", "check", "log", "cards"],
)  # fmt: skip
def test_no_third_party_library_is_loaded_by(code, tmp_path):
    toml = tmp_path / "doorpi.toml"
    toml.write_bytes((ROOT / "doorpi.toml").read_bytes())
    script = LOADED.format(code=code.format(toml=str(toml)), third=THIRD_PARTY)

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_the_top_level_holds_the_layout_and_nothing_else():
    """Names with a dot are the tools': editors and caches bring their own."""
    layout = {
        "doorpi.py", "doorpi.toml", "systemd", "tests", "README.md", "LICENSE",
    }  # fmt: skip
    by_products = {"__pycache__", "state"}  # git ignores them

    found = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}

    assert found - by_products == layout, (
        "pages belong in tests/docs, programs in tests/tools; notes of your own may lie"
        " here under a name with a dot"
    )


def test_the_docstring_names_things_that_exist():
    """The change recipes of the tour are kept true."""
    recipes = ast.get_docstring(TREE) or ""

    for name in ("RULES", "SIGNALS", "LOCKS", "LOCK_KINDS", "VERBS"):
        assert name in recipes
        assert name in definitions()


def test_the_readme_of_the_tests_names_files_that_exist():
    here = ROOT / "tests"
    spans = re.findall(r"`([^`]+)`", (here / "README.md").read_text(encoding="utf-8"))
    words = [word.removeprefix("tests/") for span in spans for word in span.split()]
    paths = {word for word in words if re.fullmatch(r"[\w/]+(/|\.(py|sh|md|txt|toml))", word)}  # fmt: skip
    around = {"doorpi.py", "doorpi.toml", "systemd/"}
    known = {path.name for path in here.rglob("*")} | around

    assert {p for p in paths if not (here / p).exists() and p not in known} == set()
    folders = {p.name for p in here.iterdir() if (p / "__init__.py").exists()}
    assert folders <= {path.strip("/") for path in paths}
