"""Work of operations whose shapes are small enough to count by hand."""

from __future__ import annotations

import pytest

from bench.runners import operation_work
from bench.runners.operation_work import Operand, Work


def fp32(*shape: int) -> Operand:
    return Operand(shape, 'fp32', 4)


def bf16(*shape: int) -> Operand:
    return Operand(shape, 'bf16', 2)


VARIABLE = Operand((), 'resource', 0)
SIZES = Operand((4,), 'int32', 4)
# A 3x3 convolution of 5 to 7 channels on maps of 8x8, stride 2: 4x4 results.
X, WEIGHTS, Y = fp32(2, 8, 8, 5), fp32(3, 3, 5, 7), fp32(2, 4, 4, 7)
ADDS = 2 * 4 * 4 * 7 * (3 * 3 * 5)


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('Conv2D', 'Conv2D'),
        ('_FusedConv2D', 'Conv2D'),
        ('_MklNativeConv2D', 'Conv2D'),
        ('_MklNativeFusedConv2D', 'Conv2D'),
        ('_MklNativePadWithFusedConv2D', 'Conv2D'),
        ('_MklNativePadWithConv2D', 'Conv2D'),
        ('_MklFusedConv2D', 'Conv2D'),
        ('_MklNativeConv2DWithBias', 'Conv2D'),
        ('_MklNativeConv2DBackpropFilter', 'Conv2DBackpropFilter'),
        ('_MklNativeConv2DBackpropFilterWithBias', 'Conv2DBackpropFilter'),
        ('_MklNativeConv2DBackpropInput', 'Conv2DBackpropInput'),
        ('_FusedDepthwiseConv2dNative', 'DepthwiseConv2dNative'),
        ('_MklNativeFusedDepthwiseConv2dNative', 'DepthwiseConv2dNative'),
        ('_MklNativeDepthwiseConv2dNativeBackpropInput', 'DepthwiseConv2dNativeBackpropInput'),
        ('_MklMatMul', 'MatMul'),
        ('_FusedMatMul', 'MatMul'),
        ('_MklNativeFusedMatMul', 'MatMul'),
        ('_MklNativeRelu', 'Relu'),
        ('_MklNativeFusedBatchNormGradV3', 'FusedBatchNormGradV3'),
        ('FusedBatchNormV3', 'FusedBatchNormV3'),
        ('_Retval', 'Retval'),
    ],
)
def test_rewritten_operations_are_known_by_what_they_compute(kind: str, name: str) -> None:
    assert operation_work.base(kind) == name


def test_convolution_and_its_gradients_take_the_same_operations() -> None:
    total = 4 * (640 + 315 + 224)
    assert operation_work.work('_MklNativeConv2D', [X, WEIGHTS], [Y]) == Work(2 * ADDS, total, True)
    with_bias = operation_work.work('_FusedConv2D', [X, WEIGHTS, fp32(7)], [Y])
    assert with_bias == Work(2 * ADDS, total + 28, True)
    to_x = operation_work.work('_MklNativeConv2DBackpropInput', [SIZES, WEIGHTS, Y], [X])
    to_weights = operation_work.work('Conv2DBackpropFilter', [X, SIZES, Y], [WEIGHTS])
    assert to_x == to_weights == Work(2 * ADDS, total + 16, True)


def test_layout_changes_neither_operations_nor_bytes() -> None:
    nchw = operation_work.work('_MklNativeConv2D', [fp32(2, 5, 8, 8), WEIGHTS], [fp32(2, 7, 4, 4)])
    assert nchw == operation_work.work('_MklNativeConv2D', [X, WEIGHTS], [Y])


def test_bfloat16_halves_the_bytes_alone() -> None:
    narrow = operation_work.work('_MklNativeConv2D', [bf16(2, 8, 8, 5), bf16(3, 3, 5, 7)], [bf16(2, 4, 4, 7)])
    assert narrow == Work(2 * ADDS, 2 * (640 + 315 + 224), True)


def test_depthwise_convolution_sums_no_channels() -> None:
    x, weights, y = fp32(2, 8, 8, 5), fp32(3, 3, 5, 2), fp32(2, 8, 8, 10)
    adds = 2 * 8 * 8 * 10 * 9
    assert operation_work.work('DepthwiseConv2dNative', [x, weights], [y]).operations == 2 * adds
    assert operation_work.work('DepthwiseConv2dNativeBackpropInput', [SIZES, weights, y], [x]).operations == 2 * adds
    assert operation_work.work('DepthwiseConv2dNativeBackpropFilter', [x, SIZES, y], [weights]).operations == 2 * adds


def test_transposed_matrices_are_summed_over_the_right_dimension() -> None:
    plain = operation_work.work('_MklMatMul', [fp32(2, 3), fp32(3, 5)], [fp32(2, 5)], {'transpose_a': False})
    turned = operation_work.work('MatMul', [fp32(3, 2), fp32(3, 5)], [fp32(2, 5)], {'transpose_a': True})
    assert plain == turned == Work(2 * 2 * 5 * 3, 4 * (6 + 15 + 10), True)
    batches = operation_work.work('BatchMatMulV2', [fp32(9, 3, 2), fp32(9, 3, 5)], [fp32(9, 2, 5)], {'adj_x': True})
    assert batches.operations == 9 * 60


def test_an_update_in_place_reads_and_writes_the_variables() -> None:
    gradient, rate = fp32(100), fp32()
    descent = operation_work.work('ResourceApplyGradientDescent', [VARIABLE, rate, gradient], [])
    assert descent.bytes == 3 * 400 + 4
    momentum = operation_work.work('ResourceApplyMomentum', [VARIABLE, VARIABLE, rate, gradient, rate], [])
    assert momentum.bytes == 5 * 400 + 8


def test_handing_a_buffer_on_moves_nothing_and_a_slice_moves_what_it_gives() -> None:
    assert operation_work.work('Reshape', [fp32(2, 6), SIZES], [fp32(3, 4)]).bytes == 0
    assert operation_work.work('ReadVariableOp', [VARIABLE], [fp32(9)]).bytes == 0
    assert operation_work.work('Slice', [fp32(1000), SIZES, SIZES], [fp32(10)]).bytes == 80
    assert operation_work.work('Relu', [fp32(10)], [fp32(10)]) == Work(10, 80, False)


def test_a_product_with_a_missing_operand_is_not_counted_as_nothing() -> None:
    with pytest.raises(LookupError):
        operation_work.work('Conv2D', [X], [Y])
