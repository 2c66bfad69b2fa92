"""What an edit runs again: makes each edit in a clone of the committed project and asks `plan`.

`python -m benchmarks.edit_cost`; needs a dvc.lock that is up to date, as it is committed, and no data.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.deciding.plan import plan

ROOT = Path(__file__).parents[1]
Edit = Callable[[Path], None]


def comment(name: str) -> Edit:
    """Append a comment to a file of code, or make a new file of one."""

    def edit(folder: Path) -> None:
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write("# a comment\n")

    return edit


def entry(section: str, text: str) -> Edit:
    """Add an entry to a section of params.yaml that nothing names."""

    def edit(folder: Path) -> None:
        path = folder / "params.yaml"
        before = path.read_text(encoding="utf-8")
        path.write_text(
            before.replace(f"\n{section}:\n", f"\n{section}:\n  nobody_names_it: {text}\n"), encoding="utf-8"
        )

    return edit


def value(before: str, after: str) -> Edit:
    """Change a value of params.yaml."""

    def edit(folder: Path) -> None:
        path = folder / "params.yaml"
        text = path.read_text(encoding="utf-8")
        if before not in text:
            raise ValueError(f"params.yaml: no {before!r}")
        path.write_text(text.replace(before, after, 1), encoding="utf-8")
        subprocess.run(
            [sys.executable, "-m", "components", "list_dependencies"], cwd=folder, check=True, capture_output=True
        )

    return edit


EDITS: dict[str, Edit] = {
    "nothing": lambda _: None,
    "a comment in telemetry/progress.py": comment("components/telemetry/progress.py"),
    "a comment in telemetry/ui.py": comment("components/telemetry/ui.py"),
    "a comment in use/photograph_files.py": comment("components/use/photograph_files.py"),
    "a comment in tasks/derain/rain.py": comment("components/tasks/derain/rain.py"),
    "a comment in tasks/deblur": comment("components/tasks/deblur/__init__.py"),
    "a new file in tasks/": comment("components/tasks/new.py"),
    "a new file in backbones/": comment("components/backbones/new.py"),
    "a new file in backbones/parts/": comment("components/backbones/parts/new.py"),
    "a comment in backbones/uformer.py": comment("components/backbones/uformer.py"),
    "a comment in backbones/parts/lewin.py": comment("components/backbones/parts/lewin.py"),
    "a line in the table METHODS": comment("components/methods/__init__.py"),
    "a line in the table BACKBONES": comment("components/backbones/__init__.py"),
    "an entry in sources": entry("sources", '{files: [{url: "file:x"}]}'),
    "an entry in datasets": entry("datasets", '{source: photographs, clean: ["*.png"]}'),
    "an entry in methods": entry("methods", "{weights: {reconstruction: 1.0}}"),
    "a comment in reporting/wording.py": comment("components/reporting/wording.py"),
    "a comment in exporting/graph.py": comment("components/exporting/graph.py"),
    "a comment in methods/dckd.py": comment("components/methods/dckd.py"),
    "a comment in fetching/servers.py": comment("components/fetching/servers.py"),
    "a comment in validating/judgement.py": comment("components/validating/judgement.py"),
    "a comment in training/loop.py": comment("components/training/loop.py"),
    "another seed beside the first": value("seeds:\n  - 3\n", "seeds:\n  - 3\n  - 4\n"),
}


@contextmanager
def copied(project: Path | None) -> Iterator[Path]:
    """The committed project, or another one without its data, in a folder of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "project")
        if project is None:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        else:
            shutil.copytree(
                project, folder, ignore=shutil.ignore_patterns("data", "cache", ".cache", "__pycache__", ".venv")
            )
        yield folder


def main() -> None:
    """Print a line for each edit: stages that run, and stages that may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.edit_cost", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="edits whose name has these words")
    parser.add_argument(
        "--project", type=Path, metavar="DIR", help="one that has run whole (default: the committed one)"
    )
    parser.add_argument("--targets", nargs="+", default=["report", "export"], help="stages (default: report export)")
    parser.add_argument("--names", action="store_true", help="also name the stages that run")
    arguments = parser.parse_args()
    print("| edit | run | may run | of |\n|---|---|---|---|")
    for name, edit in EDITS.items():
        if arguments.only not in name:
            continue
        with copied(arguments.project) as folder:
            edit(folder)
            lines = plan(folder, arguments.targets, None)
        runs = [line["stage"] for line in lines if line["will"] == "run"]
        may = sum(line["will"] == "may run" for line in lines)
        print(f"| {name} | {len(runs)} | {may} | {len(lines)} |", flush=True)
        if arguments.names and runs:
            print(f"  {', '.join(runs)}")


if __name__ == "__main__":
    main()
