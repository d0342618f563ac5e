"""Write the JSON Schema of policy documents that ships with the package."""

import json
from pathlib import Path

from explorer.document import PolicyDocument

PATH = Path(__file__).resolve().parent.parent / "explorer" / "policy.schema.json"


def schema_text() -> str:
    """The schema generated from the document's own types."""
    return json.dumps(PolicyDocument.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(schema_text(), "utf-8")
    print(PATH.name)
