"""What loops over the entries of a row need beside elementary functions for LLVM to make vectors of them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def larger(typingctx: Any, a: Any, b: Any) -> Any:
    """The larger of two floats of one type, neither of them NaN: one instruction.

    NaN is looked for beside it: a maximum that passes NaN on takes six, one after the other.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(values[0].type, [values[0].type] * 2)
        function = builder.module.declare_intrinsic("llvm.maxnum", [values[0].type], kind)
        return builder.call(function, values, fastmath=("nnan", "nsz"))

    return a(a, a), code


@intrinsic
def plus(typingctx: Any, total: Any, term: Any) -> Any:
    """total + term as a step of a sum whose order is free, so that it may be made of sums in vectors.

    Nothing else may be regrouped: with the licence for all that a function does, LLVM makes v·(1/s) a division again.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fadd(*values, flags=("reassoc",))

    return types.float64(types.float64, types.float64), code


@intrinsic
def apart(typingctx: Any) -> Any:
    """Nothing at run time: says that no array of floats given to this function shares memory with another that is
    written to.

    Otherwise LLVM compares all their ends before a loop, or gives up where there are many.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for argument in builder.function.args:
            kind = argument.type
            if isinstance(kind, ir.PointerType) and isinstance(kind.pointee, (ir.FloatType, ir.DoubleType)):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), code
