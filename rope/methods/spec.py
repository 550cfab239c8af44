"""Methods from text: `yarn`, `yarn:beta_fast=16,beta_slow=2`, `ntk:alpha=2,resonance=true`."""

import math
from dataclasses import MISSING, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ..factors import RescaleFactors
from ..names import unknown_name
from .base import METHODS, Method
from .formulas import NoScaling


def build_method(spec: str, factor: float) -> Method:
    """Return the method that a text like `NAME` or `NAME:PARAMETER=VALUE,...` describes.

    Values are read by the type of the parameter: numbers, `true` / `false`, several numbers joined by `/`, and a source
    of `load_factors` where a method takes factors (`short-long:short=FILE,long=FILE`; such methods have the extension
    ratio of their factors).

    Args:
        spec: name and parameters; the parameters are the fields of the method's dataclass.
        factor: s, target length / original length, unless the text has another `factor`.

    Raises:
        ValueError: the name or a parameter is unknown or missing, or a value is of the wrong type or out of range.
    """
    name, _, text = spec.partition(":")
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    method = METHODS[name]
    kinds = get_type_hints(method)
    parameters = {field.name: field for field in fields(method) if field.init}
    ratio: dict[str, Any] = {"factor": factor} if "factor" in parameters else {}
    if method is NoScaling:
        del parameters["factor"]  # it would change nothing
    values: dict[str, Any] = {}
    for part in text.split(",") if text else []:
        key, _, value = part.partition("=")
        if key not in parameters:
            raise unknown_name(f"parameter of {name}", key, parameters)
        if key in values:
            raise ValueError(f"parameters must be given once, got {key} twice in {spec!r}; keep one of them")
        values[key] = _parse(f"{name}:{key}", value, kinds[key])
    required = [key for key, field in parameters.items() if field.default is MISSING]
    if missing := [key for key in required if key not in values]:
        example = ",".join(f"{key}=FILE" for key in required)
        raise ValueError(f"{name} must be given {', '.join(missing)}, got {spec!r}; write {name}:{example}")
    return method(**ratio | values)


def _parse(what: str, text: str, kind: Any) -> Any:
    """Read a value by a field's annotation; of several allowed types, text is the last resort."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if RescaleFactors in kinds:
        from ..reading import load_factors  # it needs the methods itself

        return load_factors(text)
    if bool in kinds:
        if text not in ("true", "false"):
            raise ValueError(f"{what} must be true or false, got {text!r}; write {what.partition(':')[2]}=true")
        return text == "true"
    if any(get_origin(option) is tuple for option in kinds):
        return tuple(_number(what, number, float) for number in text.split("/"))
    try:
        return _number(what, text, int if int in kinds else float)
    except ValueError:
        if str in kinds:
            return text
        raise


def _number(what: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        wanted = "a whole number" if kind is int else "a finite number"
        raise ValueError(f"{what} must be {wanted}, got {text!r}; leave it out for the default")
    return number
