"""Machine code for the processor at hand, from the assembly of LLVM (https://llvm.org/docs/LangRef.html), in a tenth
of a second: three walks over a block, in groups of 16 elements and in a fixed order. They use no operation that
processors may do differently, so what they compute is the same bit for bit on all of them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

_TRANSLATING = threading.Lock()  # two threads must not at once


class Code(NamedTuple):
    """Functions of the machine, as in the assembly below; other threads run while one of them does."""

    draw: Callable[..., int]
    sizes: Callable[..., None]
    merge: Callable[..., int]
    engine: object
    """It owns the memory in which they lie."""


def code() -> Code:
    """For the processor at hand."""
    with _TRANSLATING:
        return _host()


@cache
def _host() -> Code:
    import llvmlite.binding as llvm

    return translate(llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())


def translate(cpu: str, features: str) -> Code:
    """For a processor by LLVM's name, with features such as "+avx2,-fma"."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=3, jit=True)
    module = llvm.parse_assembly(OPERATIONS + DRAW + SIZES + MERGE)
    module.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(3))
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    place, number = ctypes.c_void_p, ctypes.c_uint64
    draw = ctypes.CFUNCTYPE(number, *[number] * 4, ctypes.c_uint16, number, place)
    sizes = ctypes.CFUNCTYPE(None, *[place] * 3, number, *[place] * 2)
    merge = ctypes.CFUNCTYPE(number, *[place] * 4, ctypes.c_float, number, *[place] * 3)
    find = engine.get_function_address
    return Code(draw(find("draw")), sizes(find("sizes")), merge(find("merge")), engine)


OPERATIONS = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
declare <16 x float> @llvm.fabs.v16f32(<16 x float>)
declare <16 x i16> @llvm.umax.v16i16(<16 x i16>, <16 x i16>)
declare i64 @llvm.umin.i64(i64, i64)
declare i64 @llvm.fshl.i64(i64, i64, i64)
declare i16 @llvm.ctpop.i16(i16)
"""


def _load(array: str) -> str:
    """Group i of an array of bf16, as it is and in fp32."""
    return """
  %at_NAME = getelementptr <16 x i16>, ptr %NAME, i64 %i
  %NAME_bits = load <16 x i16>, ptr %at_NAME, align 1
  %NAME_wide = zext <16 x i16> %NAME_bits to <16 x i32>
  %NAME_high = shl <16 x i32> %NAME_wide, splat (i32 16)
  %NAME_value = bitcast <16 x i32> %NAME_high to <16 x float>
""".replace("NAME", array)


def _word(n: int) -> str:
    """The next word of SFC64 (Doty-Humphrey, PractRand), and the state n + 1 that follows the state n."""
    return """
  %mixedOLD = add i64 %aOLD, %bOLD
  %wordOLD = add i64 %mixedOLD, %dOLD
  %lowOLD = lshr i64 %bOLD, 11
  %aNEW = xor i64 %bOLD, %lowOLD
  %highOLD = shl i64 %cOLD, 3
  %bNEW = add i64 %cOLD, %highOLD
  %turnedOLD = call i64 @llvm.fshl.i64(i64 %cOLD, i64 %cOLD, i64 24)
  %cNEW = add i64 %turnedOLD, %wordOLD
  %dNEW = add i64 %dOLD, 1
""".replace("OLD", str(n)).replace("NEW", str(n + 1))


DRAW = f"""
; Bit i of kept is set where the i-th 16 bits of the stream of SFC64, from the state (a, b, c, d) on, are at most
; `last`, for 16 * groups elements. Returns how many are set.
define i64 @draw(i64 %a, i64 %b, i64 %c, i64 %d, i16 %last, i64 %groups, ptr %kept) {{
start:
  %one = insertelement <16 x i16> poison, i16 %last, i32 0
  %lasts = shufflevector <16 x i16> %one, <16 x i16> poison, <16 x i32> zeroinitializer
  br label %group

group:
  %i = phi i64 [0, %start], [%next, %group]
  %count = phi i64 [0, %start], [%count_after, %group]
  %a0 = phi i64 [%a, %start], [%a4, %group]
  %b0 = phi i64 [%b, %start], [%b4, %group]
  %c0 = phi i64 [%c, %start], [%c4, %group]
  %d0 = phi i64 [%d, %start], [%d4, %group]
  {_word(0)} {_word(1)} {_word(2)} {_word(3)}
  %words0 = insertelement <4 x i64> poison, i64 %word0, i32 0
  %words1 = insertelement <4 x i64> %words0, i64 %word1, i32 1
  %words2 = insertelement <4 x i64> %words1, i64 %word2, i32 2
  %words3 = insertelement <4 x i64> %words2, i64 %word3, i32 3
  %lanes = bitcast <4 x i64> %words3 to <16 x i16>
  %keep = icmp ule <16 x i16> %lanes, %lasts
  %bits = bitcast <16 x i1> %keep to i16
  %at_kept = getelementptr i16, ptr %kept, i64 %i
  store i16 %bits, ptr %at_kept, align 1
  %ones = call i16 @llvm.ctpop.i16(i16 %bits)
  %ones_wide = zext i16 %ones to i64
  %count_after = add i64 %count, %ones_wide
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %groups
  br i1 %more, label %group, label %end

end:
  ret i64 %count_after
}}
"""

SIZES = f"""
; Sums of |model - base| over 16 * groups elements: of all into `whole`, of those that are kept into `left`, 16 doubles
; each. They are in fp32 for a row of 256 groups, then in fp64.
define void @sizes(ptr %base, ptr %model, ptr %kept, i64 %groups, ptr %whole, ptr %left) {{
start:
  br label %row

row:
  %first = phi i64 [0, %start], [%next, %end_of_row]
  %whole_before = phi <16 x double> [zeroinitializer, %start], [%whole_after, %end_of_row]
  %left_before = phi <16 x double> [zeroinitializer, %start], [%left_after, %end_of_row]
  %far = add i64 %first, 256
  %stop = call i64 @llvm.umin.i64(i64 %far, i64 %groups)
  br label %group

group:
  %i = phi i64 [%first, %row], [%next, %group]
  %all = phi <16 x float> [zeroinitializer, %row], [%all_after, %group]
  %some = phi <16 x float> [zeroinitializer, %row], [%some_after, %group]
  {_load("base")} {_load("model")}
  %vector = fsub <16 x float> %model_value, %base_value
  %size = call <16 x float> @llvm.fabs.v16f32(<16 x float> %vector)
  %at_kept = getelementptr i16, ptr %kept, i64 %i
  %keep_bits = load i16, ptr %at_kept, align 1
  %keep = bitcast i16 %keep_bits to <16 x i1>
  %kept_size = select <16 x i1> %keep, <16 x float> %size, <16 x float> zeroinitializer
  %all_after = fadd <16 x float> %all, %size
  %some_after = fadd <16 x float> %some, %kept_size
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %stop
  br i1 %more, label %group, label %end_of_row

end_of_row:
  %all_wide = fpext <16 x float> %all_after to <16 x double>
  %some_wide = fpext <16 x float> %some_after to <16 x double>
  %whole_after = fadd <16 x double> %whole_before, %all_wide
  %left_after = fadd <16 x double> %left_before, %some_wide
  %again = icmp ult i64 %next, %groups
  br i1 %again, label %row, label %end

end:
  store <16 x double> %whole_after, ptr %whole, align 1
  store <16 x double> %left_after, ptr %left, align 1
  ret void
}}
"""

MERGE = f"""
; out[i] = kept[i] ? bf16(anchor[i] + factor * (model[i] - base[i])) : base[i], for 16 * groups elements, with one
; rounding to fp32 and one to bf16, to the nearest, ties to even. Returns how many are kept; squares (16 doubles): sums
; of (model - base)**2, by rows as above; tops (16 words): the largest |out|, as bits.
define i64 @merge(ptr %base, ptr %model, ptr %anchor, ptr %kept, float %factor, i64 %groups, ptr %out,
                  ptr %squares, ptr %tops) {{
start:
  %one = insertelement <16 x float> poison, float %factor, i32 0
  %factors = shufflevector <16 x float> %one, <16 x float> poison, <16 x i32> zeroinitializer
  br label %row

row:
  %first = phi i64 [0, %start], [%next, %end_of_row]
  %total = phi <16 x double> [zeroinitializer, %start], [%total_after, %end_of_row]
  %count_before = phi i64 [0, %start], [%count_after, %end_of_row]
  %top_before = phi <16 x i16> [zeroinitializer, %start], [%top_after, %end_of_row]
  %far = add i64 %first, 256
  %stop = call i64 @llvm.umin.i64(i64 %far, i64 %groups)
  br label %group

group:
  %i = phi i64 [%first, %row], [%next, %group]
  %sum = phi <16 x float> [zeroinitializer, %row], [%sum_after, %group]
  %count = phi i64 [%count_before, %row], [%count_after, %group]
  %top = phi <16 x i16> [%top_before, %row], [%top_after, %group]
  {_load("base")} {_load("model")} {_load("anchor")}
  %vector = fsub <16 x float> %model_value, %base_value
  %sum_after = call <16 x float> @llvm.fma.v16f32(<16 x float> %vector, <16 x float> %vector, <16 x float> %sum)
  %exact = call <16 x float> @llvm.fma.v16f32(<16 x float> %vector, <16 x float> %factors, <16 x float> %anchor_value)

  %bits = bitcast <16 x float> %exact to <16 x i32>
  %high = lshr <16 x i32> %bits, splat (i32 16)
  %odd = and <16 x i32> %high, splat (i32 1)
  %half = add <16 x i32> %odd, splat (i32 32767)
  %up = add <16 x i32> %bits, %half
  %up_high = lshr <16 x i32> %up, splat (i32 16)
  %rounded = trunc <16 x i32> %up_high to <16 x i16>

  %at_kept = getelementptr i16, ptr %kept, i64 %i
  %keep_bits = load i16, ptr %at_kept, align 1
  %keep = bitcast i16 %keep_bits to <16 x i1>
  %ones = call i16 @llvm.ctpop.i16(i16 %keep_bits)
  %ones_wide = zext i16 %ones to i64
  %count_after = add i64 %count, %ones_wide
  %merged = select <16 x i1> %keep, <16 x i16> %rounded, <16 x i16> %base_bits
  %at_out = getelementptr <16 x i16>, ptr %out, i64 %i
  store <16 x i16> %merged, ptr %at_out, align 1
  %size = and <16 x i16> %merged, splat (i16 32767)
  %top_after = call <16 x i16> @llvm.umax.v16i16(<16 x i16> %top, <16 x i16> %size)

  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %stop
  br i1 %more, label %group, label %end_of_row

end_of_row:
  %sum_wide = fpext <16 x float> %sum_after to <16 x double>
  %total_after = fadd <16 x double> %total, %sum_wide
  %again = icmp ult i64 %next, %groups
  br i1 %again, label %row, label %end

end:
  store <16 x double> %total_after, ptr %squares, align 1
  store <16 x i16> %top_after, ptr %tops, align 1
  ret i64 %count_after
}}
"""
