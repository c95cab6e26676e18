"""The sources as a graph of imports: `python tests/_support/structure.py [ROOT]` prints figures."""

import ast
import statistics
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Sources:
    """Modules by dotted name, and the modules that each imports, at its top or in a function."""

    def __init__(self, root=ROOT):
        self.file_of = {}
        for place, package in (("qattn", "qattn"), ("hardware", "qattn.hardware"),
                               ("simulators", "qattn.simulators")):  # fmt: skip
            for file in sorted((root / place).rglob("*.py")):
                inside = file.relative_to(root / place)
                if place == "qattn" and inside.parts[0] in ("hardware", "simulators"):
                    continue  # the links
                parts = (package, *inside.with_suffix("").parts)
                self.file_of[".".join(part for part in parts if part != "__init__")] = file
        trees = {
            name: ast.parse(file.read_text(encoding="utf-8")) for name, file in self.file_of.items()
        }
        self.imports = {name: self._imports(tree) - {name} for name, tree in trees.items()}
        type_checking = {name: _without_type_checking(tree) for name, tree in trees.items()}
        self.at_run_time = {n: self._imports(tree) - {n} for n, tree in type_checking.items()}

    def _imports(self, tree):
        """Modules of ours that a tree names in its imports."""
        imported = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    imported.add(inner if inner in self.file_of else node.module)
        return imported & self.file_of.keys()

    def room(self, module):
        """The folder of a module."""
        return module if self.file_of[module].stem == "__init__" else module.rpartition(".")[0]

    def shelves(self):
        """Number of files of each folder, without ``__init__`` and ``__main__``."""
        return Counter(
            self.room(name) for name, file in self.file_of.items() if not file.stem.startswith("__")
        )

    def lines(self):
        return {name: file.read_text().count("\n") for name, file in self.file_of.items()}

    def arrows_between_rooms(self):
        return {
            (self.room(a), self.room(b))
            for a, others in self.imports.items()
            for b in others
            if self.room(a) != self.room(b)
        }

    def cycles(self, imports=None):
        """Groups of modules that import each other in a loop (Tarjan's components)."""
        imports = self.at_run_time if imports is None else imports
        index, low, stack, groups = {}, {}, [], []

        def visit(name):
            index[name] = low[name] = len(index)
            stack.append(name)
            for other in imports[name]:
                if other not in index:
                    visit(other)
                    low[name] = min(low[name], low[other])
                elif other in stack:
                    low[name] = min(low[name], index[other])
            if low[name] == index[name]:
                start = stack.index(name)
                group = stack[start:]
                del stack[start:]
                if len(group) > 1:
                    groups.append(sorted(group))

        for name in imports:
            if name not in index:
                visit(name)
        return groups


def _without_type_checking(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def kinds_of_lines(file):
    """Lines of code, of docstrings and of comments in a file."""
    text = file.read_text(encoding="utf-8")
    strings = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for number in range(node.lineno, node.end_lineno + 1)
    }
    kinds = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        if number in strings:
            kinds["docstrings"] += 1
        elif line.strip():
            kinds["comments" if line.strip().startswith("#") else "code"] += 1
    return kinds


if __name__ == "__main__":
    sources = Sources(Path(sys.argv[1]) if sys.argv[1:] else ROOT)
    lines = sources.lines()
    kinds = sum((kinds_of_lines(file) for file in sources.file_of.values()), Counter())
    longest = max(lines, key=lines.get)
    print(f"files {len(lines)}, lines {sum(lines.values())}:", dict(kinds))
    print(f"median file {statistics.median(lines.values())}, longest {lines[longest]} ({longest})")
    print("fullest shelves:", sources.shelves().most_common(5))
    rooms = {sources.room(name) for name in sources.file_of}
    arrows = sources.arrows_between_rooms()
    print(f"rooms {len(rooms)}, arrows between rooms {len(arrows)}")
    print(f"arrows between files {sum(map(len, sources.imports.values()))}")
    print("import cycles:", sources.cycles())
