"""Write the pages of the documentation that are printed from the code: `make docs` runs it.

The terminal's reference comes from its help texts, the policy examples from `export`.
"""

import subprocess
import sys
from pathlib import Path

from explorer import Session, catalog

PAGES = Path(__file__).resolve().parent.parent / "docs" / "reference"
SHORT = "digits-cnn"  # a small network, so that an example is short


def terminal() -> str:
    """Every command with its options."""
    command = [sys.executable, "-m", "typer", "explorer.cli", "utils", "docs", "--name", "explorer"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return text.replace("# `explorer`", "# Terminal", 1)


def policies() -> str:
    """A policy document of each family, for the smallest network that the family applies to."""
    parts = [
        "# Policy examples\n\n"
        "One document of each family; their schema is "
        "[explained here](../policy-json.md). Printed by `make docs`.\n"
    ]
    for family in catalog.names("policy"):
        model = next(name for name in (SHORT, *catalog.names("model")) if _applies(name, family))
        document = Session(model=model, device="gap9", policy=family).export()
        parts.append(f"\n## {family}\n\n```json\n{document.to_json()}```\n")
    return "".join(parts)


def _applies(model: str, family: str) -> bool:
    infos = Session(model=model, device="gap9").policies()
    return any(info.name == family and info.applicable for info in infos)


if __name__ == "__main__":
    for name, text in (("terminal", terminal()), ("policies", policies())):
        (PAGES / f"{name}.md").write_text(text, "utf-8")
