"""The BLAS and LAPACK that SciPy ships, called from kernels: rank updates, products, Cholesky factors, solves.

Arrays are C-contiguous, all float64 or all float32; of a symmetric matrix only the lower triangle is read and written.
Every function works on one matrix of the size of a block of coefficients. SciPy exports the routines' addresses for
Cython; LLVM learns each under a name of its own, so that cached machine code, which refers to the name, finds it in
every process. `ranef.engine` holds BLAS to one thread.
"""

from __future__ import annotations

import ctypes
from types import ModuleType
from typing import Any

import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

# what a routine takes, letter by letter: c a character, i an integer, s a scalar, a an array, o the returned code
_ROUTINES: dict[str, tuple[ModuleType, str]] = {
    "gemm": (scipy.linalg.cython_blas, "cciiisaiaisai"),
    "gemv": (scipy.linalg.cython_blas, "ciisaiaisai"),
    "symv": (scipy.linalg.cython_blas, "cisaiaisai"),
    "syrk": (scipy.linalg.cython_blas, "cciisaisai"),
    "trsm": (scipy.linalg.cython_blas, "cccciisaiai"),
    "potrf": (scipy.linalg.cython_lapack, "ciaio"),
    "potri": (scipy.linalg.cython_lapack, "ciaio"),
    "potrs": (scipy.linalg.cython_lapack, "ciiaiaio"),
}
_PREFIX = {types.float64: "d", types.float32: "s"}


def _address(module: ModuleType, name: str) -> int:
    capsule = module.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(get_pointer(capsule, get_name(capsule)))


for _name, (_module, _) in _ROUTINES.items():
    for _letter in _PREFIX.values():
        binding.add_symbol(f"ranef_{_letter}{_name}", _address(_module, _letter + _name))


def _routine(name: str) -> Any:
    """An intrinsic that calls a routine with a tuple of its arguments: by value here, by reference there."""
    kinds = _ROUTINES[name][1]
    given = kinds.replace("o", "")

    @intrinsic
    def call(typing_context, arguments):
        arrays = {value.dtype for value, kind in zip(arguments, given, strict=True) if kind == "a"}
        if len(arrays) != 1 or not arrays <= set(_PREFIX):
            raise TypingError(f"{name}: all arrays must be float64, or all float32; these are {arguments}")
        (number,) = arrays
        wanted = {"c": types.int8, "i": types.int32, "s": number}
        signature = types.int32(arguments)

        def generate(context, builder, signature, passed):
            code = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(32), 0))
            pointers = []
            values = iter(zip(arguments, cgutils.unpack_tuple(builder, passed[0]), strict=True))
            for kind in kinds:
                if kind == "o":
                    pointers.append(code)
                    continue
                of_type, value = next(values)
                if kind == "a":
                    pointers.append(context.make_array(of_type)(context, builder, value).data)
                else:
                    value = context.cast(builder, value, of_type, wanted[kind])
                    pointers.append(cgutils.alloca_once_value(builder, value))
            byte = ir.IntType(8).as_pointer()
            routine = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [byte] * len(kinds)), f"ranef_{_PREFIX[number]}{name}"
            )
            builder.call(routine, [builder.bitcast(pointer, byte) for pointer in pointers])
            return builder.load(code)

        return signature, generate

    return call


_gemm, _gemv, _symv, _syrk, _trsm = (_routine(name) for name in ("gemm", "gemv", "symv", "syrk", "trsm"))
_potrf, _potri, _potrs = (_routine(name) for name in ("potrf", "potri", "potrs"))

# SciPy's routines count by columns: a C-contiguous array is its transpose to them, and its lower triangle the upper
_N, _T, _U, _L = ord("N"), ord("T"), ord("U"), ord("L")


@njit(nogil=True, cache=True)
def rank_update(alpha, panel, beta, out):
    """``out = alpha panel' panel + beta out``: ``panel`` (rows, k), ``out`` (k, k)."""
    k = out.shape[0]
    _syrk((_U, _N, k, panel.shape[0], alpha, panel, k, beta, out, k))


@njit(nogil=True, cache=True)
def multiply(alpha, a, b, beta, out):
    """``out = alpha a b + beta out``: shapes (m, n), (n, k) and (m, k)."""
    m, n, k = a.shape[0], a.shape[1], b.shape[1]
    _gemm((_N, _N, k, m, n, alpha, b, k, a, n, beta, out, k))


@njit(nogil=True, cache=True)
def multiply_transposed(alpha, a, b, beta, out):
    """``out = alpha a b' + beta out``: shapes (m, n), (k, n) and (m, k)."""
    m, n, k = a.shape[0], a.shape[1], b.shape[0]
    _gemm((_T, _N, k, m, n, alpha, b, n, a, n, beta, out, k))


@njit(nogil=True, cache=True)
def transposed_multiply(alpha, a, b, beta, out):
    """``out = alpha a' b + beta out``: shapes (n, m), (n, k) and (m, k)."""
    n, m, k = a.shape[0], a.shape[1], b.shape[1]
    _gemm((_N, _T, k, m, n, alpha, b, k, a, m, beta, out, k))


@njit(nogil=True, cache=True)
def multiply_vector(alpha, a, x, beta, out):
    """``out = alpha a x + beta out``: shapes (m, n), (n,) and (m,)."""
    _gemv((_T, a.shape[1], a.shape[0], alpha, a, a.shape[1], x, 1, beta, out, 1))


@njit(nogil=True, cache=True)
def transposed_vector(alpha, a, x, beta, out):
    """``out = alpha a' x + beta out``: shapes (m, n), (m,) and (n,)."""
    _gemv((_N, a.shape[1], a.shape[0], alpha, a, a.shape[1], x, 1, beta, out, 1))


@njit(nogil=True, cache=True)
def symmetric_vector(alpha, a, x, beta, out):
    """``out = alpha a x + beta out`` from the lower triangle of ``a`` (k, k)."""
    k = a.shape[0]
    _symv((_U, k, alpha, a, k, x, 1, beta, out, 1))


@njit(nogil=True, cache=True)
def cholesky(a):
    """The lower Cholesky factor ``L`` of ``a = L L'`` in its place; not 0 if ``a`` is not positive definite."""
    k = a.shape[0]
    return _potrf((_U, k, a, k))


@njit(nogil=True, cache=True)
def cholesky_solve(factor, b):
    """``(L L')^-1`` times each row of ``b`` (sides, k) in its place."""
    k = factor.shape[0]
    return _potrs((_U, k, b.shape[0], factor, k, b, k))


@njit(nogil=True, cache=True)
def cholesky_inverse(factor):
    """The lower triangle of ``(L L')^-1`` in the place of ``L``."""
    k = factor.shape[0]
    return _potri((_U, k, factor, k))


@njit(nogil=True, cache=True)
def solve_lower(factor, b):
    """``L^-1`` times each row of ``b`` (sides, m) in its place; ``L`` is the leading (m, m) of ``factor`` (k, k)."""
    _trsm((_L, _U, _T, _N, b.shape[1], b.shape[0], 1.0, factor, factor.shape[1], b, b.shape[1]))


@njit(nogil=True, cache=True)
def solve_lower_transposed(factor, b):
    """As `solve_lower`, ``L'^-1`` times each row of ``b``: ``L'^-1 z`` of a standard normal has (L L')^-1."""
    _trsm((_L, _U, _N, _N, b.shape[1], b.shape[0], 1.0, factor, factor.shape[1], b, b.shape[1]))
