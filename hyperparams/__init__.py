"""Settings and published factors that are shipped as data."""

from importlib.resources import files
from pathlib import Path


def preset(name: str) -> Path:
    """Return the path of a settings file: one that exists, or a shipped one by name (`longrope`, `tiny`).

    Raises:
        ValueError: there is no such file.
    """
    return _find("hyper-params", name, _folder())


def sweep_file(name: str) -> Path:
    """Return the path of a sweep: a file that exists, or a shipped one by the name of its method.

    Raises:
        ValueError: there is no such file.
    """
    return _find("sweeps", name, _folder() / "sweeps")


def finetune_recipe(name: str) -> Path:
    """Return the path of a recipe for fine-tuning: a file that exists, or a shipped one by name.

    Raises:
        ValueError: there is no such file.
    """
    return _find("recipe", name, _folder() / "finetune")


def extend_recipe(name: str) -> Path:
    """Return the path of a recipe for a whole extension: a file that exists, or a shipped one by name.

    Raises:
        ValueError: there is no such file.
    """
    return _find("recipe", name, _folder() / "extend")


def _folder() -> Path:
    return Path(str(files(__name__)))


def _find(what: str, name: str, folder: Path) -> Path:
    if Path(name).is_file():
        return Path(name)
    if (shipped := folder / f"{name}.yaml").is_file():
        return shipped
    names = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise ValueError(f"{what} must be a file that exists or one of {names}, got {name!r}; check the path")
