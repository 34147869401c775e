"""The GGUF reader against the `gguf` package, and against files that are not what they say."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.gguf import GGUF, GGUFError

QUANTISED = {
    "Q4_0": gguf.GGMLQuantizationType.Q4_0,
    "Q4_1": gguf.GGMLQuantizationType.Q4_1,
    "Q8_0": gguf.GGMLQuantizationType.Q8_0,
}


def _floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def write(path: Path) -> Path:
    """A small file with every kind of value and tensor."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("v.u8", 200)
    writer.add_int8("v.i8", -100)
    writer.add_uint16("v.u16", 60000)
    writer.add_int16("v.i16", -30000)
    writer.add_uint32("v.u32", 1 << 31)
    writer.add_int32("v.i32", -(1 << 30))
    writer.add_uint64("v.u64", 1 << 63)
    writer.add_int64("v.i64", -(1 << 62))
    writer.add_float32("v.f32", 0.5)
    writer.add_float64("v.f64", 0.1)
    writer.add_bool("v.bool", True)
    writer.add_string("v.text", "größer 🦜")
    writer.add_array("v.texts", ["a", "", "ähm", "語"])
    writer.add_array("v.numbers", [1, -2, 3])
    writer.add_array("v.bools", [True, False, True])
    writer.add_array("v.nested", [[1, 2], [3, 4]])
    writer.add_tensor("f32", _floats(3, 5))
    writer.add_tensor("f16", _floats(4).astype(np.float16))
    for name, kind in QUANTISED.items():
        writer.add_tensor(name, gguf.quants.quantize(_floats(4, 96), kind), raw_dtype=kind)
    bf16 = gguf.GGMLQuantizationType.BF16
    writer.add_tensor("BF16", gguf.quants.quantize(_floats(2, 8), bf16), raw_dtype=bf16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "small.gguf")


def read_everything(path: Path) -> None:
    """Open, and read every tensor."""
    file = GGUF(path)
    readers = {"Q4_0": file.q4_0, "Q4_1": file.q4_1, "Q8_0": file.q8_0}
    for info in file.tensors.values():
        readers.get(info.type, file.floats)(info.name)


def test_values_of_every_kind(small: Path) -> None:
    values = GGUF(small).metadata
    assert values["v.u8"] == 200
    assert values["v.i8"] == -100
    assert values["v.u16"] == 60000
    assert values["v.i16"] == -30000
    assert values["v.u32"] == 1 << 31
    assert values["v.i32"] == -(1 << 30)
    assert values["v.u64"] == 1 << 63
    assert values["v.i64"] == -(1 << 62)
    assert values["v.f32"] == 0.5
    assert values["v.f64"] == 0.1
    assert values["v.bool"] is True
    assert values["v.text"] == "größer 🦜"
    assert values["v.texts"] == ["a", "", "ähm", "語"]
    assert np.array_equal(values["v.numbers"], [1, -2, 3])
    assert np.array_equal(values["v.bools"], [True, False, True])
    assert [list(inner) for inner in values["v.nested"]] == [[1, 2], [3, 4]]


def test_float_tensors_are_what_was_written(small: Path) -> None:
    file = GGUF(small)
    assert np.array_equal(file.floats("f32"), _floats(3, 5))
    assert np.array_equal(file.floats("f16"), _floats(4).astype(np.float16))
    widened = (file.floats("BF16").astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(
        widened, gguf.quants.dequantize(file.raw("BF16"), gguf.GGMLQuantizationType.BF16).reshape(2, 8)
    )


def test_blocks_dequantise_as_the_gguf_package_does(small: Path) -> None:
    file = GGUF(small)

    def per_weight(scale: np.ndarray) -> np.ndarray:
        return np.repeat(scale.astype(np.float32), 32, axis=-1)

    q, d, m = file.q4_1("Q4_1")
    found = {"Q4_1": per_weight(d) * q + per_weight(m)}
    q, d = file.q4_0("Q4_0")
    found["Q4_0"] = per_weight(d) * (q.astype(np.float32) - 8)
    q8, d = file.q8_0("Q8_0")
    found["Q8_0"] = per_weight(d) * q8
    for name, kind in QUANTISED.items():
        expected = gguf.quants.dequantize(file.raw(name), kind).reshape(4, 96)
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
        assert np.abs(expected).max() > 1


def test_version_2_is_read_and_others_are_not(small: Path, tmp_path: Path) -> None:
    data = bytearray(small.read_bytes())
    data[4] = 2
    (older := tmp_path / "v2.gguf").write_bytes(data)
    assert GGUF(older).version == 2
    data[4:8] = (3).to_bytes(4, "big")
    (big_endian := tmp_path / "big.gguf").write_bytes(data)
    with pytest.raises(GGUFError, match=r"big\.gguf: header: version 50331648"):
        GGUF(big_endian)


def _header(tensors: int = 0, values: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, values)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


HUGE = (1 << 63) - 1
BAD = {
    "empty": (b"", "cannot be opened"),
    "magic": (b"GGML" + bytes(40), "begins with b'GGML'"),
    "four bytes": (b"GGUF", "header: the file ends"),
    "tensor count": (_header(tensors=HUGE) + bytes(99), f"{HUGE} tensors cannot fit"),
    "value count": (_header(values=HUGE) + bytes(99), f"{HUGE} metadata values cannot fit"),
    "key length": (_header(values=1) + struct.pack("<Q", HUGE) + bytes(99), "metadata value 0: the file ends"),
    "key bytes": (_header(values=1) + struct.pack("<Q", 2) + b"\xff\xfe" + bytes(99), "not UTF-8"),
    "value type": (
        _header(values=1) + _text("k") + struct.pack("<I", 77) + bytes(99),
        "metadata 'k': unknown value type",
    ),
    "number array": (_header(values=1) + _text("k") + struct.pack("<IIQ", 9, 4, HUGE) + bytes(99), "cannot fit"),
    "text array": (_header(values=1) + _text("k") + struct.pack("<IIQ", 9, 8, HUGE) + bytes(99), "cannot fit"),
    "text in array": (
        _header(values=1) + _text("k") + struct.pack("<IIQQ", 9, 8, 2, 1 << 40) + bytes(99),
        "metadata 'k': text 0 of 2 reaches past the end",
    ),
    "bytes in array": (
        _header(values=1) + _text("k") + struct.pack("<IIQQ", 9, 8, 1, 1) + b"\xff" + bytes(99),
        "text 0 of 1 is not UTF-8",
    ),
    "nesting": (_header(values=1) + _text("k") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 9, "nested"),
    "same key": (
        _header(values=2) + (_text("k") + struct.pack("<IB", 0, 1)) * 2 + bytes(99),
        "metadata 'k': is there twice",
    ),
    "alignment": (
        _header(values=1) + _text("general.alignment") + struct.pack("<II", 4, 0) + bytes(99),
        "'general.alignment': 0 is no alignment",
    ),
    "dimensions": (_header(tensors=1) + _tensor("t", (1,) * 5, 0, 0) + bytes(99), "tensor 't': 5 dimensions"),
    "tensor type": (_header(tensors=1) + _tensor("t", (32,), 14, 0) + bytes(999), "tensor 't': tensor type 14"),
    "part of a block": (_header(tensors=1) + _tensor("t", (33,), 8, 0) + bytes(999), "tensor 't': shape"),
    "no element": (_header(tensors=1) + _tensor("t", (0, 3), 0, 0) + bytes(999), "tensor 't': shape"),
    "offset": (_header(tensors=1) + _tensor("t", (32,), 0, 1 << 50) + bytes(999), "tensor 't': its 128 bytes"),
    "size": (_header(tensors=1) + _tensor("t", (1 << 62, 4), 0, 0) + bytes(999), "reach past the end"),
    "same tensor": (_header(tensors=2) + _tensor("t", (1,), 0, 0) * 2 + bytes(99), "tensor 't': is there twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_its_reason_and_costs_nothing(case: str, tmp_path: Path) -> None:
    content, reason = BAD[case]
    (path := tmp_path / "bad.gguf").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(GGUFError) as raised:
            GGUF(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(raised.value)
    assert reason in str(raised.value)
    assert peak < 1 << 20


def test_a_missing_file_tensor_or_type_is_named(small: Path, tmp_path: Path) -> None:
    with pytest.raises(GGUFError, match=r"none\.gguf: cannot be opened"):
        GGUF(tmp_path / "none.gguf")
    with pytest.raises(GGUFError, match=r"small\.gguf: tensor 'nothing' is not in the file"):
        GGUF(small).raw("nothing")
    with pytest.raises(GGUFError, match=r"small\.gguf: tensor 'f32' is F32, not Q4_1"):
        GGUF(small).q4_1("f32")


def test_a_file_cut_anywhere_is_refused(small: Path, tmp_path: Path) -> None:
    data, path = small.read_bytes(), tmp_path / "cut.gguf"
    tail = data.rstrip(b"\0")  # the last tensor's own padding is no loss
    for length in [*range(0, 1200, 7), len(tail) - 40, len(tail) - 33]:
        path.write_bytes(data[:length])
        with pytest.raises(GGUFError, match=r"cut\.gguf"):
            GGUF(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 2000), st.binary(min_size=1, max_size=9)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 2000),
)
def test_mutated_bytes_are_read_or_refused_and_nothing_else(
    small: Path, tmp_path: Path, changes: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(small.read_bytes())
    for at, new in changes:
        data[at : at + len(new)] = new
    path = tmp_path / "mutated.gguf"
    path.write_bytes(data[:cut])
    with suppress(GGUFError):  # read or refused: anything else fails here
        read_everything(path)


def test_the_api_can_import_it_without_torch() -> None:
    code = (
        "import model.gguf, model.tokenizer, sys; print(sorted({'torch', 'transformers', 'gguf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
