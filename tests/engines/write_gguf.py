"""Write the GGUF file of each case. Usage: python write_gguf.py WORK CONVERTER

Where `export_gguf` refuses an architecture, the file is written all the same, for llama.cpp to show what it makes of
it, and the refusal is kept beside it.
"""

import json
import sys
from pathlib import Path
from unittest.mock import patch

from longrope.rope import load_factors
from longrope.rope.export import export_gguf, gguf

IGNORING = ("qwen3", "gemma3")


def write(case: Path, converter: str) -> None:
    output, refused = case / "model.gguf", case / "refused.txt"
    source = json.loads((case / "case.json").read_text(encoding="utf-8"))["source"]
    factors = load_factors(case / "factors.json")
    output.unlink(missing_ok=True)
    refused.unlink(missing_ok=True)
    try:
        export_gguf(source, factors, output, "f32", converter)
    except ValueError as error:
        refused.write_text(str(error), encoding="utf-8")
        with patch.object(gguf, "HONOURING", IGNORING):
            export_gguf(source, factors, output, "f32", converter)
    print(f"{case.name}: {'refused' if refused.exists() else 'written'}")


if __name__ == "__main__":
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        write(folder, sys.argv[2])
