"""What generated CUDA kernels call: the elementary functions of :mod:`.elementary`, compiled for the GPU.

There is one text for both machines. Here each function is taken from its source, every product becomes a call of
``mul`` (NVIDIA's compiler fuses a product and a sum that stand beside each other; a product rounded on its own, as in
``mul.rn``, it must leave alone), and the result is compiled as a device function. So a kernel rounds on the GPU exactly
where it rounds on the CPU.

Under Numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1``) the same names are Python functions.
"""

from __future__ import annotations

import ast
import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.core import config

from . import elementary, elementary_composed, elementary_pairs, elementary_single

#: Whether kernels run as Python functions in NVIDIA's absence.
SIMULATED = bool(config.ENABLE_CUDASIM)

#: Functions of the C library that a kernel may call by name; on the GPU they are libdevice's.
LIBRARY = ("exp", "expm1", "log", "log1p", "sinh", "cosh", "tanh", "sin", "cos", "tan", "asin", "acos", "atan",
           "erf", "erfc", "sqrt", "pow")  # fmt: skip


#: Operations on bits and the like of :mod:`.elementary_single`; their code for LLVM serves both machines.
_SINGLE_PRIMITIVES = ("single_fma", "f32", "bits32", "power32", "scaled32", "exponent32")


# ----------------------------------------------------------------------------------------------------------- primitives


def _compiled_primitives() -> dict[str, Any]:
    """Single instructions: products that are rounded, fused multiply-adds, bits, and accesses of 16 bytes."""
    try:
        from numba.cuda.extending import intrinsic
    except ImportError:  # Numba's own CUDA target
        from numba.extending import intrinsic

    def instruction(name: str, arity: int) -> Any:
        """NVIDIA's intrinsic ``llvm.nvvm.NAME.d`` (float64) or ``.f`` (float32)."""

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = values[0].type
            full = f"llvm.nvvm.{name}.{'d' if kind == ir.DoubleType() else 'f'}"
            known = builder.module.globals.get(full)
            return builder.call(
                known or ir.Function(builder.module, ir.FunctionType(kind, [kind] * arity), full), values
            )

        def binary(typingctx: Any, a: Any, b: Any) -> Any:
            wide = types.float32 if a == b == types.float32 else types.float64
            return wide(wide, wide), emit

        def ternary(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
            wide = types.float32 if a == b == c == types.float32 else types.float64
            return wide(wide, wide, wide), emit

        return intrinsic(binary if arity == 2 else ternary)

    def reinterpreted(given: Any, result: Any) -> Any:
        target = {types.int64: ir.IntType(64), types.int32: ir.IntType(32), types.float64: ir.DoubleType(),
                  types.float32: ir.FloatType()}[result]  # fmt: skip

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], target)

        def typed(typingctx: Any, value: Any) -> Any:
            return result(given), emit

        return intrinsic(typed)

    def loading(lanes: int) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = _vector_pointer(context, builder, signature.args[0], values, lanes)
            loaded = builder.load(pointer)
            loaded.align = _alignment(signature.args[0], lanes)
            parts = [builder.extract_element(loaded, ir.Constant(ir.IntType(32), k)) for k in range(lanes)]
            return context.make_tuple(builder, signature.return_type, parts)

        def typed(typingctx: Any, array: Any, index: Any) -> Any:
            return types.UniTuple(array.dtype, lanes)(array, types.intp), emit

        return intrinsic(typed)

    def storing(lanes: int) -> Any:
        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointer = _vector_pointer(context, builder, signature.args[0], values, lanes)
            vector = ir.Constant(pointer.type.pointee, ir.Undefined)
            for k in range(lanes):
                part = builder.extract_value(values[2], k)
                vector = builder.insert_element(vector, part, ir.Constant(ir.IntType(32), k))
            builder.store(vector, pointer).align = _alignment(signature.args[0], lanes)
            return context.get_dummy_value()

        def typed(typingctx: Any, array: Any, index: Any, parts: Any) -> Any:
            return types.void(array, types.intp, types.UniTuple(array.dtype, lanes)), emit

        return intrinsic(typed)

    found = {"mul": instruction("mul.rn", 2), "fma": instruction("fma.rn", 3)}
    found |= {
        "bits_of": reinterpreted(types.float64, types.int64),
        "from_bits": reinterpreted(types.int64, types.float64),
    }
    found |= {"single_from_bits": reinterpreted(types.int32, types.float32)}
    found |= {name: intrinsic(getattr(elementary_single, name)._defn) for name in _SINGLE_PRIMITIVES}
    found["single_copysign"] = math.copysign
    for lanes in (2, 4, 8):
        found |= {f"load{lanes}": loading(lanes), f"store{lanes}": storing(lanes)}
    return found | {"copysign": math.copysign} | {name: getattr(math, name) for name in LIBRARY}


def _vector_pointer(context: Any, builder: Any, kind: Any, values: Any, lanes: int) -> Any:
    array = context.make_array(kind)(context, builder, values[0])
    place = builder.gep(array.data, [values[1]])
    vector = ir.VectorType(context.get_data_type(kind.dtype), lanes)
    return builder.bitcast(place, vector.as_pointer(place.type.addrspace))


def _alignment(kind: Any, lanes: int) -> int:
    return lanes * int(kind.dtype.bitwidth) // 8


def _simulated_primitives() -> dict[str, Any]:
    """The same names for the simulator: single operations compiled for the CPU, NumPy's functions for the library's."""

    @numba.njit
    def fma64(a: float, b: float, c: float) -> float:
        return elementary.fma(a, b, c)

    def fma(a: Any, b: Any, c: Any) -> Any:
        if all(isinstance(v, np.float32) for v in (a, b, c)):  # the product of two of 24 bits is exact in float64
            return _odd_rounded_sum(np.float64(a) * np.float64(b), np.float64(c))
        return np.float64(fma64(float(a), float(b), float(c)))

    def mul(a: Any, b: Any) -> Any:
        single = isinstance(a, np.float32) and isinstance(b, np.float32)
        return a * b if single else np.float64(a) * np.float64(b)

    def view(given: Any, result: Any) -> Callable[[Any], Any]:
        return lambda value: given(value).view(result)

    def loading(lanes: int) -> Callable[..., Any]:
        return lambda array, index: tuple(array[index + k] for k in range(lanes))

    def storing(lanes: int) -> Callable[..., None]:
        def store(array: Any, index: int, parts: Any) -> None:
            for k in range(lanes):
                array[index + k] = parts[k]

        return store

    found: dict[str, Any] = {"mul": mul, "fma": fma, "copysign": np.copysign}
    found |= {"bits_of": view(np.float64, np.int64), "from_bits": view(np.int64, np.float64)}
    found |= {"bits32": view(np.float32, np.int32), "single_from_bits": view(np.int32, np.float32), "f32": np.float32}
    found["single_fma"] = lambda a, b, c: fma(np.float32(a), np.float32(b), np.float32(c))
    found["power32"] = lambda n: (np.int32(n) << np.int32(23)).view(np.float32)
    found["scaled32"] = lambda v, n: (v.view(np.int32) + (np.int32(n) << np.int32(23))).view(np.float32)
    found["exponent32"] = lambda v: (v.view(np.int32) - np.int32(0x3F3504F3)) >> np.int32(23)
    found["single_copysign"] = lambda a, b: np.copysign(np.float32(a), np.float32(b))
    for lanes in (2, 4, 8):
        found |= {f"load{lanes}": loading(lanes), f"store{lanes}": storing(lanes)}
    names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "pow": "power"}
    found |= {name: getattr(np, names.get(name, name)) for name in LIBRARY if name not in ("erf", "erfc")}
    return found | {
        name: (lambda f: lambda v: np.float64(f(float(v))))(getattr(math, name)) for name in ("erf", "erfc")
    }


def _odd_rounded_sum(a: np.float64, b: np.float64) -> np.float32:
    """a + b rounded once to float32: the float64 sum is rounded to odd first, so that the second rounding sees it."""
    total = a + b
    if not np.isfinite(total):
        return np.float32(total)
    rest = (a - (total - (total - a))) + (b - (total - a))
    if rest != 0 and not int(total.view(np.int64)) & 1:
        total = np.nextafter(total, np.float64(np.inf if rest > 0 else -np.inf))
    return np.float32(total)


PRIMITIVES: dict[str, Any] = _simulated_primitives() if SIMULATED else _compiled_primitives()


# ------------------------------------------------------------------------------------ sine and cosine of every float32
#
# x = m·2ᴱ with m < 2²⁴. Of m·2ᴱ·(2/π) only what is below 4 counts; 128 bits of 2/π, from the one of weight 2 on, hold
# it to 2⁻⁶². Payne & Hanek's reduction, for arguments of 24 bits, without a table.

_REDUCTION = '''
def wide_quadrants(x):
    """|x|/(π/2) modulo 4 in units of 2⁻⁶², for a float32 with 2⁻⁶ < |x| < ∞."""
    bits = bits_of(abs(x))
    m = numba.uint64((bits >> 29) & 0x7FFFFF | 0x800000)
    s = (bits >> 52) - 1023 - 23 - 2 + 16
    r = numba.uint64(s & 63)
    a = {0} if s < 64 else {1}
    b = {1} if s < 64 else {2}
    c = {2} if s < 64 else {3}
    one = numba.uint64(1)
    rest = numba.uint64(63) - r
    high = (a << r) | ((b >> one) >> rest)
    low = (b << r) | ((c >> one) >> rest)
    return whole(high, m) + (whole(low >> numba.uint64(32), m) >> numba.uint64(32))
'''
_WIDE = '''
def wide_{name}(x):
    """{name} x for every float32, for results of 24 bits."""
    if abs(x) <= 65536.0:
        return short_{name}(x)
    u = wide_quadrants(x) + numba.uint64(0x2000000000000000)
    n = numba.int64(u >> numba.uint64(62))
    f = float(numba.int64(u & numba.uint64(0x3FFFFFFFFFFFFFFF)) - 0x2000000000000000)
    r = f * 3.4061215800865545e-19
    s, c = r * short_sin_polynomial(r * r), short_cos_polynomial(r * r)
    far = from_bits(bits_of({chosen}) ^ ({turned} << 62))
    return ({signed}) if abs(x) < math.inf else x - x
'''


_HALF = """
def to_float16(v):
    return np.float16(v)

def from_bfloat16(x):
    return single_from_bits(numba.int32(numba.int32(x) << 16))

def to_bfloat16(v):
    bits = bits32(v)
    rounded = numba.int16((bits + 32767 + ((bits >> 16) & 1)) >> 16)
    return rounded if v == v else numba.int16(32704)
"""


def _two_over_pi() -> tuple[str, ...]:
    """2/π in four words of 64 bits, the first 16 bits of them zero."""
    from flint import arb, ctx

    with ctx.workprec(400):
        words = int((2 / arb.pi() * arb(2) ** 240).floor().unique_fmpz())
    return tuple(f"numba.uint64({words >> shift & (1 << 64) - 1:#x})" for shift in (192, 128, 64, 0))


def _wide_source() -> str:
    sine = _WIDE.format(name="sin", chosen="c if n & 1 else s", turned="(n & 2)", signed="-far if x < 0.0 else far")
    cosine = _WIDE.format(name="cos", chosen="s if n & 1 else c", turned="((n + 1) & 2)", signed="far")
    return _REDUCTION.format(*_two_over_pi()) + sine + cosine + _HALF


# ----------------------------------------------------------------------------------------------------- device functions


class _RoundedProducts(ast.NodeTransformer):
    """Every product of floats as a call of ``mul``; decorators and annotations dropped."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Mult):
            return ast.copy_location(ast.Call(ast.Name("mul", ast.Load()), [node.left, node.right], []), node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list, node.returns = [], None
        for argument in node.args.args:
            argument.annotation = None
        self.generic_visit(node)
        return node


def _definitions() -> dict[str, ast.FunctionDef]:
    """The compiled functions of the modules of elementary functions, and the reductions above, in order."""
    modules = (elementary, elementary_single, elementary_pairs, elementary_composed)
    files = (Path(module.__file__ or "") for module in modules)
    bodies = (ast.parse(path.read_text(encoding="utf-8")).body for path in files)
    plain = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]
    kept = [node for node in plain if any("njit" in ast.unparse(d) for d in node.decorator_list)]
    wide = [node for node in ast.parse(textwrap.dedent(_wide_source())).body if isinstance(node, ast.FunctionDef)]
    return {node.name: node for node in [*kept, *wide]}


def _compile(definitions: dict[str, ast.FunctionDef]) -> dict[str, Any]:
    # Integer products are written as calls of ``whole``, so that those that are left are products of floats.
    space: dict[str, Any] = dict(PRIMITIVES) | {"math": math, "np": np, "numba": numba, "whole": _whole_product()}
    for name, definition in definitions.items():
        tree = ast.fix_missing_locations(ast.Module([_RoundedProducts().visit(definition)], []))
        exec(compile(tree, elementary.__file__, "exec"), space)  # the package's own text
        space[name] = space[name] if SIMULATED else cuda.jit(device=True)(space[name])
    return space


def _whole_product() -> Any:
    def whole(a: Any, b: Any) -> Any:
        return a * b

    return whole if SIMULATED else cuda.jit(device=True)(whole)


FUNCTIONS: dict[str, Any] = _compile(_definitions())


def __getattr__(name: str) -> Any:
    """Generated kernels import the functions by name; the library's under ``library_exp`` and so on."""
    if name.startswith("library_") and name.removeprefix("library_") in LIBRARY:
        return PRIMITIVES[name.removeprefix("library_")]
    if name in FUNCTIONS and not name.startswith("_"):
        return FUNCTIONS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
