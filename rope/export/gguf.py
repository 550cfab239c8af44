"""Put rescale factors into a GGUF file for llama.cpp, whose converter writes neither factors nor attention factor.

llama.cpp divides the angle of pair i by entry i of `rope_factors_long.weight` or `rope_factors_short.weight`, chosen by
the allocated context; both hold the same factors here. Its converter permutes the rows of Q and K of the llama
architecture so that the two dimensions of a pair become neighbours; pair i stays pair i, so factors keep their order.
"""

import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..factors import RescaleFactors
from ..families import find_rope
from ..frequencies import RopeGeometry, inverse_frequencies
from .config import skeleton
from .converter import Outtype, convert, find_converter
from .folder import find_source
from .static import check_static, final_inv_freq

HONOURING = ("llama", "mistral3", "granite", "granitemoe", "minicpm", "phi3", "phimoe")
"""Architectures whose llama.cpp graph uses the factor tensors (llama: also Mistral, Mixtral, SmolLM2)."""
LONG, SHORT, FREQS = "rope_factors_long.weight", "rope_factors_short.weight", "rope_freqs.weight"


def export_gguf(
    source: Path | str,
    factors: RescaleFactors,
    output: Path | str,
    outtype: Outtype = "auto",
    converter: Path | str | None = None,
) -> Path:
    """Write a GGUF file with the factors and scaling keys in it.

    Factors of a model that is scaled already (`rope_freqs` of Llama 3.1, a longrope checkpoint) are folded in.

    Args:
        source: model folder or hub id, converted first, or a GGUF file made by llama.cpp's converter, whose weights of
            any quantisation are copied as they are.
        factors: factors without start tokens, one row for all layers.
        output: file to write; must not exist.
        outtype: type of the weights when a folder is converted.
        converter: where llama.cpp's converter is; see `find_converter`.

    Returns:
        `output`.

    Raises:
        ImportError: the package `gguf` is not installed.
        ValueError: the architecture ignores factors in llama.cpp, the factors don't fit, a file can't be used, or there
            is no converter.
        RuntimeError: the converter fails, or the file does not hold the factors when read back.
    """
    gguf = _gguf()
    check_static(factors)
    output = Path(output)
    if output.exists():
        raise ValueError(f"output must be a new file, got {output}, which exists; choose another name")
    if Path(source).suffix == ".gguf" or Path(source).is_file():
        _put_factors(gguf, Path(source), factors, output)
        return output
    final_inv_freq(find_rope(skeleton(find_source(source, "none"))).geometry, factors)
    command = find_converter(converter)
    folder = find_source(source, "copy")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        file = Path(temporary) / "model.gguf"
        convert(command, folder, file, "--vocab-only")  # seconds, and it says the architecture
        _check_architecture(_read(gguf, file))
        convert(command, folder, file, "--outtype", outtype)
        _put_factors(gguf, file, factors, output)
    return output


def _read(gguf: Any, file: Path) -> Any:
    try:
        return gguf.GGUFReader(file)
    except Exception as error:  # what the reader raises depends on the byte that is wrong
        raise ValueError(f"source must be a GGUF file or a model folder, got {file}: {error}") from error


def _put_factors(gguf: Any, source: Path, factors: RescaleFactors, output: Path) -> None:
    """Copy a GGUF file with the factors in it."""
    reader = _read(gguf, source)
    architecture = _check_architecture(reader)
    geometry = _geometry(reader, architecture, factors.original_length)
    plain = inverse_frequencies(geometry.rotary_dim, geometry.theta)
    divisors = (plain / final_inv_freq(geometry, factors)).astype(np.float32)
    keys = _keys(architecture, factors)
    output.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    os.close(descriptor)
    try:
        _write(gguf, reader, architecture, keys, divisors, Path(temporary))
        _verify(gguf.GGUFReader(temporary), reader, keys, divisors)
        os.chmod(temporary, 0o644)
        os.replace(temporary, output)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _gguf() -> Any:
    try:
        return import_module("gguf")
    except ImportError as error:
        raise ImportError("GGUF export needs the package gguf: pip install gguf") from error


def _value(reader: Any, key: str, default: Any = None) -> Any:
    field = reader.get_field(key)
    return default if field is None else field.contents()


def _check_architecture(reader: Any) -> str:
    architecture = _value(reader, "general.architecture")
    if architecture not in HONOURING:
        raise ValueError(
            f"source must have an architecture whose llama.cpp graph uses factors ({', '.join(HONOURING)}), got "
            f"{architecture!r}, of which it refuses a file with them or runs without; use Transformers, vLLM or SGLang"
        )
    if _value(reader, "split.count", 1) > 1:
        raise ValueError("source must be one file, got a part of one; merge it with llama-gguf-split first")
    scaling = _value(reader, f"{architecture}.rope.scaling.type", "none")
    if scaling not in ("none", "longrope"):
        raise ValueError(
            f"source must be unscaled or of type longrope, got scaling {scaling!r}; convert the model without it"
        )
    return architecture


def _geometry(reader: Any, architecture: str, original_length: int) -> RopeGeometry:
    """Return the RoPE that llama.cpp computes from the file before the factors are put in."""
    heads, width = (_value(reader, f"{architecture}.{key}") for key in ("attention.head_count", "embedding_length"))
    head_dim = _value(reader, f"{architecture}.attention.key_length") or width // heads
    rotary_dim = _value(reader, f"{architecture}.rope.dimension_count", head_dim)
    theta = float(_value(reader, f"{architecture}.rope.freq_base", 10000.0))
    inv_freq = inverse_frequencies(rotary_dim, theta)
    longrope = _value(reader, f"{architecture}.rope.scaling.type") == "longrope"
    for tensor in reader.tensors:
        if tensor.name == (LONG if longrope else FREQS):
            inv_freq = inv_freq / tensor.data.astype(np.float64)
    return RopeGeometry(rotary_dim, theta, original_length, inv_freq)


def _keys(architecture: str, factors: RescaleFactors) -> dict[str, tuple[Any, str]]:
    """Return each key to set with its value and GGUF type."""
    rope = f"{architecture}.rope"
    return {
        f"{architecture}.context_length": (factors.target_length, "UINT32"),
        f"{rope}.dimension_count": (factors.rotary_dim, "UINT32"),
        f"{rope}.freq_base": (factors.theta, "FLOAT32"),
        f"{rope}.scaling.type": ("longrope", "STRING"),
        f"{rope}.scaling.attn_factor": (factors.attention_factor, "FLOAT32"),
        f"{rope}.scaling.original_context_length": (factors.original_length, "UINT32"),
    }


def _write(
    gguf: Any,
    reader: Any,
    architecture: str,
    keys: dict[str, tuple[Any, str]],
    divisors: NDArray[np.float32],
    path: Path,
) -> None:
    writer = gguf.GGUFWriter(path, architecture, endianess=reader.endianess)
    writer.data_alignment = reader.alignment
    # llama.cpp would divide all frequencies by scaling.factor once more.
    dropped = {f"{architecture}.rope.scaling.factor", f"{architecture}.rope.scale_linear", "general.architecture"}
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name not in dropped | keys.keys():
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
    for name, (value, kind) in keys.items():
        writer.add_key_value(name, value, gguf.GGUFValueType[kind])
    kept = _kept_tensors(reader)
    for name in (LONG, SHORT):
        writer.add_tensor_info(name, divisors.shape, divisors.dtype, divisors.nbytes)
    for tensor in kept:
        writer.add_tensor_info(tensor.name, tensor.data.shape, tensor.data.dtype, tensor.n_bytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _ in (LONG, SHORT):
        writer.write_tensor_data(divisors)
    for tensor in kept:
        writer.write_tensor_data(tensor.data, tensor_endianess=reader.endianess)
    writer.flush()
    writer.close()


def _kept_tensors(reader: Any) -> list[Any]:
    """All but old factors: they are folded in, and llama.cpp refuses a file with tensors it does not use."""
    return [tensor for tensor in reader.tensors if tensor.name not in (LONG, SHORT, FREQS)]


def _verify(written: Any, source: Any, keys: dict[str, tuple[Any, str]], divisors: NDArray[np.float32]) -> None:
    for name, (value, kind) in keys.items():
        found = _value(written, name)
        if found != (float(np.float32(value)) if kind == "FLOAT32" else value):
            raise RuntimeError(f"GGUF key {name} must be {value} after writing, got {found}")
    tensors = {tensor.name: tensor for tensor in written.tensors}
    for name in (LONG, SHORT):
        if name not in tensors or not np.array_equal(tensors[name].data, divisors):
            raise RuntimeError(f"GGUF tensor {name} must hold the factors after writing, but does not")
    for tensor in _kept_tensors(source):
        if tensor.name not in tensors or tensors[tensor.name].n_bytes != tensor.n_bytes:
            raise RuntimeError(f"GGUF tensor {tensor.name} must be copied whole, but is not")
