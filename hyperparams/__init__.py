"""Settings and published factors that are shipped as data."""

from importlib.resources import files
from pathlib import Path


def preset(name: str) -> Path:
    """Return the path of a settings file: one that exists, or a shipped one by name (`longrope`, `tiny`).

    Raises:
        ValueError: there is no such file.
    """
    if Path(name).is_file():
        return Path(name)
    folder = Path(str(files(__name__)))
    if (shipped := folder / f"{name}.yaml").is_file():
        return shipped
    names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise ValueError(f"hyper-params must be a file that exists or one of {names}, got {name!r}; check the path")
