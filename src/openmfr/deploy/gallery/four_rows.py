"""The product of four rows with a probe, in LLVM's language: what numba cannot say.

Numba knows neither float16 nor the instruction that multiplies bytes quickly, nor how to ask for
memory ahead. What is written here means the same on any processor; where there is AVX2, bytes are
multiplied by its instruction, and where there is F16C, float16 is read by its.
"""

from __future__ import annotations

from typing import Any, Final

import llvmlite  # type: ignore[import-untyped]
import llvmlite.binding  # type: ignore[import-untyped]
import llvmlite.ir  # type: ignore[import-untyped]
import numba
import numba.core.cgutils
import numba.core.types
import numba.extending
import numba.np.arrayobj

# What numba says of its types is not what they are when code is compiled.
ir: Any = llvmlite.ir
cgutils: Any = numba.core.cgutils
types: Any = numba.core.types
arrayobj: Any = numba.np.arrayobj
intrinsic: Any = numba.extending.intrinsic

#: Columns of a matrix are filled up with zeros to a multiple of this.
COLUMNS: Final = 64

#: Numbers of a row that are multiplied at once, and how many rows are multiplied together.
_WIDTH: Final = 16
_STREAMS: Final = 4

#: Bytes that memory gives at once, and how far ahead it is asked for them.
_LINE: Final = 64
_AHEAD: Final = 1_024

_BYTE, _SHORT, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOAT: Final = ir.FloatType()


class _Float32:
    """Rows of float32 with a probe of float32."""

    size, result = 4, types.float32

    @staticmethod
    def total() -> Any:
        """Type of what is added up."""
        return ir.VectorType(_FLOAT, _WIDTH)

    @staticmethod
    def load(builder: Any, pointer: Any) -> Any:
        """Load numbers of a row."""
        return _load(builder, pointer, _FLOAT)

    @classmethod
    def add_product(cls, builder: Any, total: Any, row: Any, probe: Any) -> Any:
        """Add the products of a row's numbers and the probe's."""
        product = builder.fmul(row, probe, flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    @staticmethod
    def load_probe(builder: Any, pointer: Any) -> Any:
        """Load numbers of the probe."""
        return _load(builder, pointer, _FLOAT)

    @staticmethod
    def add_up(builder: Any, total: Any) -> Any:
        """Add up a total's numbers."""
        kind = ir.FunctionType(_FLOAT, [_FLOAT, total.type])
        function = _function(builder, kind, f"llvm.vector.reduce.fadd.v{_WIDTH}f32")
        return builder.call(function, [_FLOAT(0.0), total], fastmath=("reassoc",))


class _Float16(_Float32):
    """Rows of float16, given as their bits in uint16, with a probe of float32."""

    size = 2

    @staticmethod
    def load(builder: Any, pointer: Any) -> Any:
        """Load numbers of a row and make them float32."""
        bits = _load(builder, pointer, _SHORT)
        if _host_has("f16c"):
            half = builder.bitcast(bits, ir.VectorType(ir.HalfType(), _WIDTH))
            return builder.fpext(half, ir.VectorType(_FLOAT, _WIDTH))
        # Exponent and mantissa are moved to where float32 has them; the biases differ by a factor.
        wide = builder.zext(bits, ir.VectorType(_INT, _WIDTH))
        size = builder.shl(builder.and_(wide, _same(_INT, 0x7FFF)), _same(_INT, 13))
        sign = builder.shl(builder.and_(wide, _same(_INT, 0x8000)), _same(_INT, 16))
        value = builder.bitcast(builder.or_(size, sign), ir.VectorType(_FLOAT, _WIDTH))
        return builder.fmul(value, _same(_FLOAT, 2.0**112))


class _Int8:
    """Rows of int8 with a probe of int16, exactly, in int32."""

    size, result = 1, types.int32

    @staticmethod
    def total() -> Any:
        """Type of what is added up; with AVX2 neighbours are added at once."""
        return ir.VectorType(_INT, _WIDTH // 2 if _host_has("avx2") else _WIDTH)

    @staticmethod
    def load(builder: Any, pointer: Any) -> Any:
        """Load numbers of a row and make them int16."""
        return builder.sext(_load(builder, pointer, _BYTE), ir.VectorType(_SHORT, _WIDTH))

    @classmethod
    def add_product(cls, builder: Any, total: Any, row: Any, probe: Any) -> Any:
        """Add the products of a row's numbers and the probe's."""
        if _host_has("avx2"):
            kind = ir.FunctionType(cls.total(), [row.type, probe.type])
            function = _function(builder, kind, "llvm.x86.avx2.pmadd.wd")
            return builder.add(total, builder.call(function, [row, probe]))
        product = builder.mul(builder.sext(row, cls.total()), builder.sext(probe, cls.total()))
        return builder.add(total, product)

    @staticmethod
    def load_probe(builder: Any, pointer: Any) -> Any:
        """Load numbers of the probe."""
        return _load(builder, pointer, _SHORT)

    @staticmethod
    def add_up(builder: Any, total: Any) -> Any:
        """Add up a total's numbers."""
        kind = ir.FunctionType(_INT, [total.type])
        name = f"llvm.vector.reduce.add.v{total.type.count}i32"
        return builder.call(_function(builder, kind, name), [total])


_KINDS: Final[dict[Any, Any]] = {
    types.float32: _Float32,
    types.uint16: _Float16,
    types.int8: _Int8,
}


@intrinsic  # type: ignore[untyped-decorator]
def four_products(_typing: Any, rows: Any, first: Any, step: Any, probe: Any) -> Any:
    """Multiply rows first, first + step, first + 2 step, first + 3 step with a probe.

    See `kernels.products` for types; returns four numbers.
    """
    kind = _KINDS[rows.dtype]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        matrix = arrayobj.make_array(signature.args[0])(context, builder, arguments[0])
        vector = arrayobj.make_array(signature.args[3])(context, builder, arguments[3])
        columns = builder.extract_value(matrix.shape, 1)
        totals, starts = [], []
        for stream in range(_STREAMS):
            row = builder.add(arguments[1], builder.mul(arguments[2], _LONG(stream)))
            starts.append(builder.gep(matrix.data, [builder.mul(row, columns)]))
            totals.append(cgutils.alloca_once(builder, kind.total()))
            builder.store(ir.Constant(kind.total(), None), totals[-1])
        line = _LINE // kind.size
        with cgutils.for_range_slice(builder, _LONG(0), columns, _LONG(line)) as (at, _):
            for start in starts:
                _ask_for(builder, builder.gep(start, [at]))
            for offset in range(0, line, _WIDTH):
                column = builder.add(at, _LONG(offset))
                other = kind.load_probe(builder, builder.gep(vector.data, [column]))
                for start, total in zip(starts, totals, strict=True):
                    part = kind.load(builder, builder.gep(start, [column]))
                    added = kind.add_product(builder, builder.load(total), part, other)
                    builder.store(added, total)
        results = [kind.add_up(builder, builder.load(total)) for total in totals]
        return context.make_tuple(builder, signature.return_type, results)

    return types.UniTuple(kind.result, _STREAMS)(rows, first, step, probe), generate


def _host_has(feature: str) -> bool:
    """Whether code is compiled for this very processor, and it has a feature."""
    config: Any = numba.config
    if config.CPU_NAME or config.CPU_FEATURES is not None:
        return False
    return bool(llvmlite.binding.get_host_cpu_features().get(feature, False))


def _load(builder: Any, pointer: Any, element: Any) -> Any:
    vector = ir.VectorType(element, _WIDTH).as_pointer()
    return builder.load(builder.bitcast(pointer, vector), align=1)


def _ask_for(builder: Any, pointer: Any) -> None:
    """Have memory brought near that is a little further on; it may lie beyond the end."""
    pointer = builder.bitcast(pointer, _BYTE.as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INT, _INT, _INT])
    to_read, as_near_as_possible, data = _INT(0), _INT(3), _INT(1)
    place = builder.gep(pointer, [_LONG(_AHEAD)])
    function = _function(builder, kind, "llvm.prefetch.p0i8")
    builder.call(function, [place, to_read, as_near_as_possible, data])


def _same(element: Any, value: float) -> Any:
    return ir.Constant(ir.VectorType(element, _WIDTH), [value] * _WIDTH)


def _function(builder: Any, kind: Any, name: str) -> Any:
    return cgutils.get_or_insert_function(builder.module, kind, name)
