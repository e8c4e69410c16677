"""What an operation of TensorFlow has to do, from the shapes of its tensors: arithmetic, and bytes to move.

Knows the operations that grappler and oneDNN put in the place of those of the graph (_FusedConv2D,
_MklNativeFusedConv2D, _MklMatMul ...) by what they compute. The method is the roofline model's: Williams, Waterman and
Patterson, Roofline: an insightful visual performance model for multicore architectures, CACM 52 (2009).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

# What is put before the name of an operation that another library computes; and what is put before and behind that of a
# product which does what comes before or after it as well.
_LIBRARY = re.compile(r'^_*(?:Mkl)?(?:Native)?')
_FUSED = re.compile(r'^(?:PadWith)?(?:Fused)?|(?:WithBias)?$')
_PRODUCTS = frozenset({
    'Conv2D', 'Conv2DBackpropFilter', 'Conv2DBackpropInput', 'DepthwiseConv2dNative',
    'DepthwiseConv2dNativeBackpropFilter', 'DepthwiseConv2dNativeBackpropInput', 'MatMul', 'BatchMatMul',
    'BatchMatMulV2', 'BatchMatMulV3',
})  # fmt: skip
# These hand a buffer on, or read nothing but a shape.
_NO_TRAFFIC = frozenset({
    'Arg', 'Assert', 'BroadcastGradientArgs', 'ConcatOffset', 'Const', 'ExpandDims', 'HostConst', 'Identity',
    'IdentityN', 'IteratorGetNext', 'NoOp', 'Placeholder', 'PreventGradient', 'Rank', 'ReadVariableOp', 'Recv',
    'Reshape', 'Retval', 'Send', 'Shape', 'ShapeN', 'Size', 'Squeeze', 'StopGradient', 'VarHandleOp', 'VariableV2',
})  # fmt: skip
# These read no more of their operand than they give.
_READ_WHAT_THEY_GIVE = frozenset({'Slice', 'StridedSlice', 'GatherV2', 'Fill', 'ZerosLike', 'OnesLike'})


@dataclasses.dataclass(frozen=True)
class Operand:
    """A tensor that goes into an operation or comes out of it.

    Attributes:
      precision: 'bf16', 'fp32' or another type's name.
      item_bytes: of one element; 0 for a handle of a variable.
    """

    shape: tuple[int, ...]
    precision: str
    item_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.item_bytes


@dataclasses.dataclass(frozen=True)
class Work:
    """What has to be done at least.

    Attributes:
      operations: of floating point: two for a multiply-add of a product; any other operation counts one for each
        element of its largest tensor, because memory decides how fast it is.
      bytes: each operand read once and each result written once, as if nothing were in the caches before.
      product: it is a convolution, a matrix product or a gradient of one.
    """

    operations: int
    bytes: int
    product: bool


def base(kind: str) -> str:
    """What an operation of this type computes: Conv2D for _MklNativeFusedConv2D, Relu for _MklNativeRelu."""
    name = _LIBRARY.sub('', kind)
    product = _FUSED.sub('', name)
    return product if product in _PRODUCTS else name


def work(
    kind: str, inputs: Sequence[Operand], outputs: Sequence[Operand], transposed: Mapping[str, bool] | None = None
) -> Work:
    """What an operation of a type has to do.

    Args:
      kind: the type in the graph that runs.
      transposed: the attributes transpose_a and adj_x, where the operation has one.

    Raises:
      LookupError: an operand of a product is missing.
    """
    name = base(kind)
    if name in _PRODUCTS:
        return Work(2 * _multiply_adds(name, inputs, outputs, transposed or {}), _bytes(inputs, outputs), True)
    if name in _NO_TRAFFIC:
        return Work(0, 0, False)
    if name in _READ_WHAT_THEY_GIVE:
        return Work(0, 2 * _bytes((), outputs), False)
    elements = max((operand.elements for operand in (*inputs, *outputs)), default=0)
    return Work(elements, _bytes(inputs, outputs), False)


def _multiply_adds(
    name: str, inputs: Sequence[Operand], outputs: Sequence[Operand], transposed: Mapping[str, bool]
) -> int:
    if 'MatMul' in name:
        rows, columns = inputs[0].shape[-2:]
        is_transposed = transposed.get('transpose_a') or transposed.get('adj_x')
        return outputs[0].elements * (rows if is_transposed else columns)
    # The gradients take the same multiply-adds as the convolution, one for each element of its result and each of the
    # weights that it is made with. Weights are [height, width, inputs, outputs] in every layout of the images.
    weights = outputs[0] if name.endswith('BackpropFilter') else inputs[1]
    result = inputs[2] if 'Backprop' in name else outputs[0]
    height, width, summed, _ = weights.shape
    return result.elements * height * width * (1 if name.startswith('Depthwise') else summed)


def _bytes(inputs: Sequence[Operand], outputs: Sequence[Operand]) -> int:
    # A variable that is updated in place is read and written, and as large as what it is updated with.
    variables = sum(operand.precision == 'resource' for operand in inputs)
    update = max((operand.bytes for operand in inputs if operand.precision != 'resource'), default=0)
    return sum(operand.bytes for operand in (*inputs, *outputs)) + 2 * variables * update
