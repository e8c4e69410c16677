"""NASNet-A (Zoph et al. 2017, arXiv:1707.07012) and PNASNet-5 (Liu et al. 2017, arXiv:1712.00559), as slim/nets/nasnet
has them.

A cell sees the outputs of the two cells before it. It makes five new states, each the sum of two operations on earlier
states; its output is all states that no operation used, side by side.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from bench.models.registry import register
from bench.models.style import BatchNorm, Initializer

if TYPE_CHECKING:
    from bench.models.layers import Layers


@dataclasses.dataclass(frozen=True)
class _Cell:
    """Operations, the states that they see (0: the cell before, 1: the one before that, then new ones), and the output.

    An operation is the kernel's size of two separable convolutions, 'avg' or 'max' of 3x3, or 'none'.
    """

    operations: tuple[tuple[int | str, int | str], ...]
    states: tuple[tuple[int, int], ...]
    outputs: tuple[int, ...]


_NORMAL = _Cell(
    ((5, 3), (5, 3), ('avg', 'none'), ('avg', 'avg'), (3, 'none')),
    ((0, 1), (1, 1), (0, 1), (1, 1), (0, 0)),
    (1, 2, 3, 4, 5, 6),
)
_REDUCTION = _Cell(
    ((5, 7), ('max', 7), ('avg', 5), ('none', 'avg'), (3, 'max')),
    ((0, 1), (0, 1), (0, 1), (3, 2), (2, 0)),
    (3, 4, 5, 6),
)
_PNAS = _Cell(
    ((5, 'max'), (7, 'max'), (5, 3), (3, 'max'), (3, 'none')),
    ((1, 1), (0, 0), (0, 0), (4, 0), (1, 0)),
    (2, 3, 4, 5, 6),
)


_IMAGENET = BatchNorm(decay=0.9997, epsilon=0.001, scale=True)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What the published networks differ in.

    Attributes:
      cells: number of normal cells.
      filters: of the first cells; doubled twice.
      stem_filters: of the first convolution.
      keep_path: the probability to keep a branch (drop path) at the end.
      steps: of the training, until drop path's probability is reached.
      keep_dropout: before the last layer.
      imagenet: whether the stem has two cells that halve the map.
      progressive: PNASNet: there is one kind of cell.
      skip_reduction: a cell after a reduction sees the cell before the reduction, and not the one before that.
      batch_norm: of all layers.
    """

    cells: int
    filters: int
    stem_filters: int
    keep_path: float
    steps: int = 250_000
    keep_dropout: float = 0.5
    imagenet: bool = True
    progressive: bool = False
    skip_reduction: bool = False
    batch_norm: BatchNorm = _IMAGENET

    @property
    def total_cells(self) -> int:
        """Cells of all kinds, by which drop path's probability grows."""
        reductions = 0 if self.progressive else 2
        return self.cells + reductions + (2 if self.imagenet else 0)


_CIFAR = _Plan(
    18,
    32,
    96,
    keep_path=0.6,
    steps=937_500,
    keep_dropout=1.0,
    imagenet=False,
    batch_norm=BatchNorm(decay=0.9, epsilon=1e-5, scale=True),
)


@register(
    'nasnet_cifar',
    image_size=32,
    least_image_size=9,
    preprocessing='cifarnet',
    parameters=4_145_865,
    multiply_adds=545_094_400,
)
def nasnet_cifar(net: Layers, images: Any) -> Any:
    """18 cells for CIFAR-10."""
    return _nasnet(net, images, _CIFAR)


@register('nasnet_mobile', image_size=224, least_image_size=67, parameters=5_327_773, multiply_adds=563_639_872)
def nasnet_mobile(net: Layers, images: Any) -> Any:
    """12 cells."""
    return _nasnet(net, images, _Plan(12, 44, 32, keep_path=1.0))


@register(
    'nasnet_large',
    image_size=331,
    least_image_size=67,
    batch_size=4,
    parameters=88_953_851,
    multiply_adds=23_783_418_690,
)
def nasnet_large(net: Layers, images: Any) -> Any:
    """18 cells."""
    return _nasnet(net, images, _Plan(18, 168, 96, keep_path=0.7, skip_reduction=True))


@register('pnasnet_mobile', image_size=224, least_image_size=67, parameters=5_099_232, multiply_adds=587_294_280)
def pnasnet_mobile(net: Layers, images: Any) -> Any:
    """9 cells."""
    return _nasnet(net, images, _Plan(9, 54, 32, keep_path=1.0, progressive=True, skip_reduction=True))


@register(
    'pnasnet_large',
    image_size=331,
    least_image_size=67,
    batch_size=4,
    parameters=86_238_977,
    multiply_adds=24_937_400_112,
)
def pnasnet_large(net: Layers, images: Any) -> Any:
    """12 cells."""
    return _nasnet(net, images, _Plan(12, 216, 96, keep_path=0.6, progressive=True, skip_reduction=True))


def _nasnet(net: Layers, images: Any, plan: _Plan) -> Any:
    style: dict[str, Any] = {
        'activation': None,
        'initializer': Initializer(fan_out=True),
        'regularize_depthwise': True,
    }
    with net.style(**style, bias=None):
        x = _Builder(net, plan).cells(images)
    with net.scope('final_layer'), net.style(**style):
        x = net.squeeze(net.global_pool(net.relu(x), 'Mean'), 'Squeeze')
        x = net.dropout(net.end('global_pool', x), plan.keep_dropout, 'dropout')
        x = net.end('Logits', net.dense(x, net.num_classes, 'FC'))
        net.end('Predictions', net.softmax(x, 'predictions'))
    return x


class _Builder:
    """Builds the cells; it knows how many there are before the one being built."""

    def __init__(self, net: Layers, plan: _Plan) -> None:
        self._net = net
        self._plan = plan
        self._built = 0

    def cells(self, images: Any) -> Any:
        """The stem, the cells in three groups with a reduction before the second and the third, the auxiliary head."""
        net, plan = self._net, self._plan
        outputs = self._stem(images)
        reductions = [plan.cells // 3, 2 * plan.cells // 3]
        filters = plan.filters
        for index in range(plan.cells):
            before = outputs[-2]
            halves = index in reductions
            if halves:
                filters *= 2
            if halves and not plan.progressive:
                number = reductions.index(index)
                x = self._cell(outputs[-1], outputs[-2], _REDUCTION, filters, 2, f'reduction_cell_{number}')
                outputs.append(net.end(f'Reduction_Cell_{number}', x))
                before = before if plan.skip_reduction else outputs[-2]
            cell, stride = (_PNAS, 2 if halves else 1) if plan.progressive else (_NORMAL, 1)
            x = self._cell(outputs[-1], before, cell, filters, stride, f'cell_{index}')
            outputs.append(net.end(f'Cell_{index}', x))
            if net.is_training and index == reductions[1] - 1:
                self._auxiliary_head(outputs[-1], f'aux_{index}')
        return outputs[-1]

    def _stem(self, images: Any) -> list[Any]:
        """The outputs that the first cells see."""
        net, plan = self._net, self._plan
        if not plan.imagenet:
            x = net.conv(images, plan.stem_filters, 3, 'l1_stem_3x3')
            x = net.batch_norm(x, plan.batch_norm, 'l1_stem_bn')
            return [None, net.end('Stem', x)]
        x = net.conv(images, plan.stem_filters, 3, 'conv0', stride=2, padding='VALID')
        outputs = [None, net.batch_norm(x, plan.batch_norm, 'conv0_bn')]
        cell = _PNAS if plan.progressive else _REDUCTION
        for index, filters in enumerate((plan.filters // 4, plan.filters // 2)):
            outputs.append(self._cell(outputs[-1], outputs[-2], cell, filters, 2, f'cell_stem_{index}'))
        net.end('Stem', outputs[-1])
        return outputs

    def _cell(self, x: Any, before: Any, cell: _Cell, filters: int, stride: int, scope: str) -> Any:
        net, bn = self._net, self._plan.batch_norm
        with net.scope(scope):
            before = x if before is None else self._matched(before, x, filters)
            x = net.batch_norm(net.conv(net.relu(x), filters, 1, '1x1'), bn, 'beginning_bn')
            states = [x, before]
            for index, (operations, seen) in enumerate(zip(cell.operations, cell.states, strict=True)):
                with net.scope(f'comb_iter_{index}'):
                    terms = []
                    for side, operation, state in zip(('left', 'right'), operations, seen, strict=True):
                        with net.scope(side):
                            terms.append(self._operation(states[state], operation, filters, stride if state < 2 else 1))
                    states.append(terms[0] + terms[1])
            with net.scope('cell_output'):
                size = net.map_size(states[-1])
                outputs = []
                for index in cell.outputs:
                    state = states[index]
                    if net.map_size(state) != size or net.channels(state) != filters:
                        with net.scope(f'reduction_{index}'):
                            state = self._factorized(state, filters, 2 if net.map_size(state) != size else 1)
                    outputs.append(state)
                x = net.concat(outputs)
        self._built += 1
        return x

    def _matched(self, before: Any, x: Any, filters: int) -> Any:
        """The output of the cell before the last, with the map's size of the last one's and with `filters` channels."""
        net = self._net
        if net.map_size(before) != net.map_size(x):
            return self._factorized(net.relu(before), filters, 2)
        if net.channels(before) != filters:
            before = net.conv(net.relu(before), filters, 1, 'prev_1x1')
            return net.batch_norm(before, self._plan.batch_norm, 'prev_bn')
        return before

    def _factorized(self, x: Any, filters: int, stride: int) -> Any:
        """Halves the map by two convolutions of every second pixel, of which one sees the map one pixel further."""
        net, bn = self._net, self._plan.batch_norm
        if stride == 1:
            return net.batch_norm(net.conv(x, filters, 1, 'path_conv'), bn, 'path_bn')
        one = net.conv(net.avg_pool(x, 1, 'path1_pool'), filters // 2, 1, 'path1_conv')
        other = net.conv(net.avg_pool(net.shift(x), 1, 'path2_pool'), filters - filters // 2, 1, 'path2_conv')
        return net.batch_norm(net.concat([one, other]), bn, 'final_path_bn')

    def _operation(self, x: Any, operation: int | str, filters: int, stride: int) -> Any:
        net, bn = self._net, self._plan.batch_norm
        if operation == 'none':
            if stride == 1 and net.channels(x) == filters:
                return x
            return net.batch_norm(net.conv(net.relu(x), filters, 1, '1x1', stride=stride), bn, 'bn_1')
        if isinstance(operation, int):
            for index in (1, 2):
                name = f'{operation}x{operation}_{index}'
                x = net.separable(net.relu(x), filters, operation, f'separable_{name}', stride=stride)
                x = net.batch_norm(x, bn, f'bn_sep_{name}')
                stride = 1
        else:
            pool = net.avg_pool if operation == 'avg' else net.max_pool
            x = pool(x, 3, 'pool', stride=stride, padding='SAME')
            if net.channels(x) != filters:
                x = net.batch_norm(net.conv(x, filters, 1, '1x1'), bn, 'bn_1')
        depth = (self._built + 1) / self._plan.total_cells
        return net.drop_path(x, self._plan.keep_path, depth, self._plan.steps)

    def _auxiliary_head(self, x: Any, scope: str) -> None:
        """Logits from two thirds of the network; its last convolution's kernel is the whole map, of any size."""
        net, bn = self._net, self._plan.batch_norm
        with net.scope(f'{scope}/aux_logits'):
            x = net.conv(net.avg_pool(net.relu(x), 5, 'AvgPool2D', stride=3), 128, 1, 'proj')
            x = net.relu(net.batch_norm(x, bn, 'aux_bn0'))
            x = net.relu(net.batch_norm(net.full_conv(x, 768, net.map_size(x), 'Conv'), bn, 'aux_bn1'))
            logits = net.dense(net.flatten(x), net.num_classes, 'FC', bias=0.0)
            net.aux_logits.append(net.end('AuxLogits', logits))
