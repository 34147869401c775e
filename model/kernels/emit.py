"""A small vocabulary for writing vector code: LLVM IR through Numba's `intrinsic`.

Numba leaves vectorising to the compiler's luck; the inner loops of a matrix product and of attention are worth saying
exactly. An `Emit` wraps the IR builder inside an intrinsic and speaks in vectors of `LANES` floats; addresses are plain
64-bit integers. One text serves every CPU: where it has AVX2 the byte products become its own instructions, elsewhere
ordinary vector arithmetic with the same integer results.

Floats are never reassociated nor contracted by the compiler: what is written is the order, so a result does not depend
on how many rows were computed together.

It knows nothing of matrices or attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils as untyped_cgutils
from numba.core import config
from numba.extending import intrinsic

LANES = 8  # floats of a vector: one AVX2 register; other widths are split or paired by the compiler
I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64, VOID = ir.HalfType(), ir.FloatType(), ir.DoubleType(), ir.VoidType()
LOG2E = 1.4426950408889634
ROUND = 12582912.0  # 1.5·2^23: adding it to a float leaves the nearest integer in the low bits of the sum

Value = Any  # an IR value: llvmlite has no types of its own
cgutils: Any = untyped_cgutils


@cache
def cpu_features() -> frozenset[str]:
    """What the code generator may use: this CPU's features, or those Numba was told to generate for."""
    told: Any = config  # filled at import, so its names are unknown to a type checker
    if told.CPU_FEATURES is not None:
        return frozenset(f[1:] for f in told.CPU_FEATURES.split(",") if f.startswith("+"))
    if told.CPU_NAME == "generic":
        return frozenset()
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def has_avx2() -> bool:
    """Whether the byte products and half floats of AVX2-class x86 processors are there."""
    return {"avx2", "fma", "f16c"} <= cpu_features()


def vec(t: ir.Type, n: int) -> ir.Type:
    """The type of n lanes of t."""
    return ir.VectorType(t, n)


class Emit:
    """An IR builder that speaks in vectors. Sizes are lanes; addresses are i64 values."""

    def __init__(self, builder: ir.IRBuilder, lanes: int = LANES) -> None:
        self.b = builder
        self.lanes = lanes
        self.floats = vec(F32, lanes)

    def at(self, base: Value, *offsets: Value) -> Value:
        """base + offsets, each an i64 value or a number of bytes."""
        for offset in offsets:
            base = self.b.add(base, offset if isinstance(offset, ir.Value) else ir.Constant(I64, offset))
        return base

    def times(self, value: Value, factor: int) -> Value:
        """An i64 value times a number."""
        return self.b.mul(value, ir.Constant(I64, factor))

    def load(self, address: Value, t: ir.Type) -> Value:
        """A value of type t from anywhere (no alignment is assumed)."""
        return self.b.load(self.b.inttoptr(address, t.as_pointer()), align=1, typ=t)

    def store(self, value: Value, address: Value) -> None:
        """Store `value` anywhere (no alignment is assumed)."""
        self.b.store(value, self.b.inttoptr(address, value.type.as_pointer()), align=1)

    def prefetch(self, address: Value) -> None:
        """Start to read the cache line at an address, which need not exist."""
        place = self.b.inttoptr(address, I8.as_pointer())
        self.call("llvm.prefetch.p0", VOID, place, *(ir.Constant(I32, flag) for flag in (0, 3, 1)))

    def call(self, name: str, result: ir.Type, *args: Value) -> Value:
        """An LLVM intrinsic by name."""
        function_type = ir.FunctionType(result, [a.type for a in args])
        return self.b.call(cgutils.get_or_insert_function(self.b.module, function_type, name), args)

    def constant(self, t: ir.Type, n: int, value: float) -> Value:
        """n lanes of a constant."""
        return ir.Constant(vec(t, n), [ir.Constant(t, value)] * n)

    def scalar(self, t: ir.Type, value: float) -> Value:
        """One constant."""
        return ir.Constant(t, value)

    def f(self, value: float) -> Value:
        """A vector of floats, all `value`."""
        return self.constant(F32, self.lanes, value)

    def splat(self, value: Value) -> Value:
        """A scalar in every lane."""
        one = self.b.insert_element(ir.Constant(vec(value.type, self.lanes), ir.Undefined), value, ir.Constant(I32, 0))
        return self.b.shuffle_vector(one, one, ir.Constant(vec(I32, self.lanes), [ir.Constant(I32, 0)] * self.lanes))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a·b + c, rounded once (twice where the CPU has no such instruction)."""
        name = "fma" if has_avx2() or "neon" in cpu_features() else "fmuladd"
        suffix = f"v{self.lanes}f32" if isinstance(a.type, ir.VectorType) else "f32"
        return self.call(f"llvm.{name}.{suffix}", a.type, a, b, c)

    def variables(self, n: int, initial: Value) -> list[Value]:
        """n variables for use across loops; the optimiser keeps them in registers."""
        slots = [cgutils.alloca_once(self.b, initial.type) for _ in range(n)]
        for slot in slots:
            self.b.store(initial, slot)
        return slots

    def get(self, variable: Value) -> Value:
        """A variable's value."""
        return self.b.load(variable, typ=variable.allocated_type)

    def put(self, value: Value, variable: Value) -> None:
        """Set a variable."""
        self.b.store(value, variable)

    @contextmanager
    def loop(self, count: Value) -> Iterator[Value]:
        """for index in range(count)."""
        with cgutils.for_range(self.b, count) as loop:
            yield loop.index

    def reduce(self, v: Value, combine: Callable[[Value, Value], Value]) -> Value:
        """All lanes to one scalar, halves first: the order is fixed."""
        n = self.lanes
        while n > 1:
            half = n // 2
            lower, upper = (
                self.b.shuffle_vector(
                    v, v, ir.Constant(vec(I32, half), [ir.Constant(I32, k) for k in range(start, start + half)])
                )
                for start in (0, half)
            )
            v, n = combine(lower, upper), half
        return self.b.extract_element(v, ir.Constant(I32, 0))

    def greater(self, a: Value, b: Value) -> Value:
        """max(a, b) per lane; b where either is NaN."""
        return self.b.select(self.b.fcmp_ordered(">", a, b), a, b)

    def widen(self, address: Value, bfloat16: bool) -> Value:
        """A vector of floats from float32 or bfloat16 memory."""
        if not bfloat16:
            return self.load(address, self.floats)
        wide = self.b.zext(self.load(address, vec(I16, self.lanes)), vec(I32, self.lanes))
        return self.b.bitcast(self.b.shl(wide, self.constant(I32, self.lanes, 16)), self.floats)

    def narrow(self, v: Value, address: Value, bfloat16: bool) -> None:
        """Store a vector of floats as float32 or, rounded to nearest even, as bfloat16 (NaN stays NaN)."""
        if not bfloat16:
            self.store(v, address)
            return
        n, wide = self.lanes, vec(I32, self.lanes)
        bits = self.b.bitcast(v, wide)
        odd = self.b.and_(self.b.lshr(bits, self.constant(I32, n, 16)), self.constant(I32, n, 1))
        rounded = self.b.add(bits, self.b.add(odd, self.constant(I32, n, 0x7FFF)))
        quiet = self.b.or_(bits, self.constant(I32, n, 0x00400000))
        bits = self.b.select(self.b.fcmp_unordered("uno", v, v), quiet, rounded)
        self.store(self.b.trunc(self.b.lshr(bits, self.constant(I32, n, 16)), vec(I16, n)), address)

    def exp(self, x: Value) -> Value:
        """e^x within 2 units in the last place; 0 below −87, +inf above 88.7; NaN gives NaN.

        x = n·ln 2 + r with |r| ≤ ½ ln 2, so e^x = 2^n·e^r; e^r by its Taylor polynomial to r^7, whose rest is below
        6e-9; ln 2 in two parts so that r is exact.
        """
        shifted = self.fma(x, self.f(LOG2E), self.f(ROUND))
        n = self.b.fsub(shifted, self.f(ROUND))
        r = self.fma(n, self.f(-0.693359375), x)
        r = self.fma(n, self.f(2.12194440e-4), r)
        p = self.f(1.0 / 5040)
        for c in (1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5, 1.0, 1.0):
            p = self.fma(p, r, self.f(c))
        exponent = self.b.shl(self.b.bitcast(shifted, vec(I32, self.lanes)), self.constant(I32, self.lanes, 23))
        scaled = self.b.bitcast(self.b.add(self.b.bitcast(p, vec(I32, self.lanes)), exponent), self.floats)
        scaled = self.b.select(self.b.fcmp_ordered("<", x, self.f(-87.0)), self.f(0.0), scaled)
        scaled = self.b.select(self.b.fcmp_ordered(">", x, self.f(88.3)), self.f(float("inf")), scaled)
        return self.b.select(self.b.fcmp_unordered("uno", x, x), x, scaled)


def routine(arguments: int, result: Any = types.void) -> Callable[[Callable[[Emit, Sequence[Value]], Any]], Any]:
    """Turn `write(emit, args)` into a function of that many int64 arguments, callable from compiled code only.

    result: the Numba type of the value `write` returns; where it is void, what is returned is ignored.
    """

    def decorate(write: Callable[[Emit, Sequence[Value]], Any]) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            value = write(Emit(builder), args)
            return context.get_dummy_value() if result == types.void else value

        def typed(_typing: Any, *_args: Any) -> Any:
            return result(*[types.int64] * arguments), codegen

        # Numba asks for named parameters.
        names = ["typing", *(f"a{i}" for i in range(arguments))]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        typed.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]  # mypy knows no functions with it
        return intrinsic(typed)

    return decorate
