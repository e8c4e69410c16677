"""Profiles: the roofline by hand, the names of layers, and the work of whole networks as TensorFlow ran them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow.compat.v1 as tf
from capable import CAN
from program import run

from bench import config as configs
from bench import options
from bench.cli import main
from bench.machine import rates
from bench.machine.rates import Rates
from bench.models import registry
from bench.runners import execution, profile, session, step, trace
from bench.runners.operation_work import Work
from bench.runners.trace import Operation, Trace
from bench.screen import Screen

RATES = {
    'fp32': Rates('fp32', 2, {'a': 150e9, 'b': 200e9}, 20e9),
    'bf16': Rates('bf16', 2, {'a': 400e9}, 19e9),
}


def operation(name: str, kind: str, seconds: float, work: Work | None, precision: str = 'fp32') -> Operation:
    return Operation(name, kind, 1, seconds, work, precision)


def test_the_roofline_is_the_slower_of_arithmetic_and_memory() -> None:
    seen = Trace(
        (0.07,),
        (
            # 2 G operations: 10 ms at 200 GFLOP/s; 0.1 GB: 5 ms at 20 GB/s.
            operation('net/conv1/Conv2D', '_MklNativeConv2D', 0.016, Work(2 * 10**9, 10**8, True)),
            # The same arithmetic takes 5 ms in bfloat16.
            operation('net/conv2/Conv2D', '_MklNativeConv2D', 0.020, Work(2 * 10**9, 10**7, True), 'bf16'),
            operation('net/conv1/Relu', 'Relu', 0.030, Work(10**7, 4 * 10**8, False)),
            operation('net/conv1/Const', 'Const', 0.001, Work(0, 0, False)),
            operation('strange', 'unknown', 0.002, None),
        ),
        (0.001,),
    )
    lines = {line['name']: line for line in profile.assemble(seen, RATES, {})['operations']}
    limits = {name: line['roofline_seconds'] for name, line in lines.items()}
    assert limits == pytest.approx(
        {'net/conv1/Conv2D': 0.010, 'net/conv2/Conv2D': 0.005, 'net/conv1/Relu': 0.020, 'net/conv1/Const': 0.0}
        | {'strange': None}
    )
    assert list(lines)[:3] == ['net/conv2/Conv2D', 'net/conv1/Relu', 'net/conv1/Conv2D'], 'those that lose most first'
    assert lines['net/conv1/Conv2D']['lost_seconds'] == pytest.approx(0.006)


def test_a_network_that_computes_in_bfloat16_unasked_loses_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, 'measure', lambda _, precision: RATES[precision])
    work = Work(10**7, 4 * 10**8, False)
    seen = Trace((0.1,), (operation('a', 'Relu', 0.03, work), operation('b', 'Relu', 0.03, work, 'bf16')), (0.0,))
    run = configs.BenchmarkConfig()
    measured = execution._machine_rates(run, seen, Screen())
    assert list(measured) == ['fp32', 'bf16']
    assert len(profile.assemble(seen, measured, {})['operations']) == 2
    assert list(execution._machine_rates(run, None, Screen())) == ['fp32']


def test_an_operation_faster_than_the_roofline_loses_nothing() -> None:
    seen = Trace((0.1,), (operation('net/conv1/Relu', 'Relu', 0.001, Work(10**7, 4 * 10**8, False)),), (0.0,))
    (line,) = profile.assemble(seen, RATES, {})['operations']
    assert line['lost_seconds'] == 0.0


def noted(spans: dict[str, tuple[int, int]]) -> tf.RunMetadata:
    """A step as TensorFlow notes it: of each operation the milliseconds between which it ran, after 1 s."""
    step = tf.RunMetadata()
    device = step.step_stats.dev_stats.add()
    # The graph's beginning is no operation; 1 ms before and after each is TensorFlow's own.
    for name, (start, end) in {'_SOURCE': (0, 30), **spans}.items():
        device.node_stats.add(
            node_name=name,
            all_start_nanos=10**9 + (start - 1) * 10**6,
            op_start_rel_nanos=10**6,
            op_end_rel_nanos=(end - start + 1) * 10**6,
            all_end_rel_nanos=(end - start + 2) * 10**6,
        )
    return step


def test_time_in_which_no_operation_runs_belongs_to_none_and_is_lost_from_the_step() -> None:
    # From -1 (_SOURCE) to 41 ms: 42; operations 5 to 10, 12 to 32 (two at a time, one within the other), 35 to 40.
    steps = [noted({'a': (5, 10), 'b': (12, 32), 'c': (14, 20), 'd': (35, 40)})]
    # One after the other: 42 - 5 - 20 - 6 - 4.
    steps.append(noted({'a': (5, 10), 'b': (10, 30), 'c': (30, 36), 'd': (36, 40)}))
    seen = trace.read(steps)
    assert seen.step_seconds == pytest.approx((0.042, 0.042))
    assert seen.between_seconds == pytest.approx((0.012, 0.007))
    found = profile.assemble(dataclasses.replace(seen, between_seconds=(0.004, 0.009, 0.005)), RATES, {})
    assert found['between_seconds'] == pytest.approx(0.005)


LAYERS = frozenset({'vgg_16/conv1/conv1_2', 'vgg_16/conv1', 'resnet/unit_1/conv1'})


@pytest.mark.parametrize(
    ('name', 'layer'),
    [
        ('vgg_16/conv1/conv1_2/Relu', 'vgg_16/conv1/conv1_2'),
        ('gradients/vgg_16/conv1/conv1_2/Conv2D_grad/Conv2DBackpropFilter', 'vgg_16/conv1/conv1_2'),
        ('gradients/clone_1/vgg_16/conv1/conv1_2/Conv2D_grad/Conv2DBackpropInput', 'vgg_16/conv1/conv1_2'),
        ('clone_0/vgg_16/conv1/conv1_2/BiasAdd', 'vgg_16/conv1/conv1_2'),
        ('GradientDescent/update_vgg_16/conv1/conv1_2/weights/ResourceApply', 'vgg_16/conv1/conv1_2'),
        ('resnet/unit_1/conv1/BatchNorm/FusedBatchNormV3', 'resnet/unit_1/conv1'),
        ('gradients/AddN_12', 'AddN_12'),
        ('vgg_16/pool1/MaxPool', 'vgg_16/pool1'),
        ('gradients/vgg_16/pool1/MaxPool_grad/MaxPoolGrad', 'vgg_16/pool1'),
        ('gradients/LeNet/pool1_grad/MaxPoolGrad', 'LeNet/pool1'),
    ],
)
def test_gradients_and_updates_belong_to_their_layer(name: str, layer: str) -> None:
    assert profile.layer(name, LAYERS) == layer


# The last layer's scope would be `conv1` were the folded batch norm's name taken for a layer's.
def test_a_folded_batch_norm_is_no_layer() -> None:
    product = Work(1, 1, True)
    found = profile.layers([operation('net/conv1/BatchNorm/FusedBatchNormV3', '_FusedConv2D', 1.0, product)])
    assert found == {'net/conv1'}


def traced(model: str, **changes: Any) -> tuple[Trace, int]:
    """One traced step, and the multiply-adds that were counted from the network's own graph for a batch."""
    given = {
        name: changes.pop(name) for name in ('batch_size', 'image_size', 'data_format', 'precision') if name in changes
    }
    config = configs.BenchmarkConfig(
        network=options.NetworkOptions(model=model, **{'batch_size': 2, **given}),
        step=options.StepOptions(**changes),
    ).resolved(registry.get(model), None, 2)
    proto = session.config(
        intra_threads=2,
        inter_threads=1,
        precision=config.network.precision,
        xla=False,
        frozen=config.step.forward_only,
    )
    made = step.benchmark_step(config, registry.get(model), None, proto)
    with tf.Session(graph=made.graph, config=proto) as running:
        step.prepare(made, running)
        stops = iter([False, False, True])
        seen = trace.trace(running, [made.operation, made.loss], lambda: next(stops))
    assert seen is not None
    assert len(seen.step_seconds) == 1
    # One operation at a time: they and what is between them are the step. A process has the threads that its first
    # session asked for: where another test's had more, operations also run at the same time.
    between, together = seen.between_seconds[0], sum(each.seconds for each in seen.operations)
    assert 0 < between < seen.step_seconds[0]
    assert between + together > 0.999 * seen.step_seconds[0]
    return seen, made.multiply_adds * config.images_per_step


def of_products(seen: Trace) -> int:
    unknown = [each.name for each in seen.operations if each.work is None]
    assert not unknown
    return sum(each.work.operations for each in seen.operations if each.work and each.work.product)


def forward(seen: Trace, layer: str) -> int:
    """Operations of a layer's product in the forward pass."""
    return sum(
        each.work.operations
        for each in seen.operations
        if each.work and each.work.product and 'gradients' not in each.name and f'{layer}/' in each.name
    )


LAYOUTS = ['NHWC', *(['NCHW'] if CAN.onednn else [])]
PRECISIONS = ['fp32', *(['bf16'] if CAN.bf16 else [])]
LARGE = [
    ('mobilenet_v1_025', 32, 'MobilenetV1/Conv2d_0'),
    ('vgg_16', 224, 'vgg_16/conv1/conv1_1'),
    ('alexnet_v2', 224, 'alexnet_v2/conv1'),
    ('resnet_v1_50', 64, 'resnet_v1_50/conv1'),
    ('resnet_v2_50', 64, 'resnet_v2_50/conv1'),
    ('inception_v3', 139, 'InceptionV3/Conv2d_1a_3x3'),
    ('mobilenet_v2', 64, 'MobilenetV2/Conv'),
    ('keras/DenseNet121', 64, 'conv1/conv'),
]


@pytest.mark.parametrize('data_format', LAYOUTS)
@pytest.mark.parametrize('precision', PRECISIONS)
def test_traced_inference_has_the_multiply_adds_of_the_graph(precision: str, data_format: str) -> None:
    seen, counted = traced('lenet', forward_only=True, precision=precision, data_format=data_format)
    assert of_products(seen) == 2 * counted


@pytest.mark.parametrize('data_format', LAYOUTS)
@pytest.mark.parametrize('precision', PRECISIONS)
def test_traced_training_has_three_times_as_many_but_for_the_images(precision: str, data_format: str) -> None:
    seen, counted = traced('lenet', precision=precision, data_format=data_format)
    # The images need no gradient.
    assert of_products(seen) == 3 * 2 * counted - forward(seen, 'LeNet/conv1')


@pytest.mark.slow
@pytest.mark.parametrize('forward_only', [False, True])
@pytest.mark.parametrize(('precision', 'data_format'), {('fp32', 'NHWC'): 0, (PRECISIONS[-1], LAYOUTS[-1]): 0})
@pytest.mark.parametrize(('name', 'size', 'first'), LARGE)
def test_operations_of_large_networks_add_up(
    name: str, size: int, first: str, precision: str, data_format: str, forward_only: bool
) -> None:
    seen, counted = traced(
        name, image_size=size, precision=precision, data_format=data_format, forward_only=forward_only
    )
    if forward_only:
        assert of_products(seen) == 2 * counted
    else:
        assert of_products(seen) == 3 * 2 * counted - forward(seen, first)


def test_a_run_that_is_over_has_no_more_steps_for_its_profile() -> None:
    # Without a session, in which any step would fail.
    assert trace.trace(None, [], lambda: True) is None


def test_operations_of_one_layer_in_bfloat16_are_said_to_be_in_it() -> None:
    if not CAN.bf16:
        pytest.skip(CAN.bf16_reason)
    seen, _ = traced('lenet', precision='bf16')
    convolutions = [each for each in seen.operations if 'LeNet/conv2' in each.name and each.work and each.work.product]
    assert len(convolutions) == 3
    assert {each.precision for each in convolutions} == {'bf16'}


@pytest.mark.parametrize('other', ['--xla', '--input_only'])
def test_a_profile_that_cannot_be_is_refused(other: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['--model=lenet', '--profile', other]) == 2
    assert '--profile' in capsys.readouterr().err


def test_a_run_that_is_stopped_while_it_is_traced_keeps_its_record_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As it gives where the end was asked for before the first step was traced.
    monkeypatch.setattr(trace, 'trace', lambda session, fetches, stop_requested: None)
    # Without huge pages, for which the program would start this process anew.
    words = ['--model=lenet', '--batch_size=2', '--num_warmup_batches=1', '--num_batches=2', '--profile']
    assert main([*words, '--huge_pages=off', f'--result_dir={tmp_path}']) == 1
    (path,) = tmp_path.iterdir()
    written = json.loads(path.read_text())
    assert (written['profile'], len(written['workers'][0]['step_seconds'])) == (None, 2)
    assert 'before its profile was made' in capsys.readouterr().err


def test_a_profile_lies_beside_its_record_with_its_plot(tmp_path: Path) -> None:
    words = ['--model=lenet', '--batch_size=8', '--num_warmup_batches=2', '--num_batches=5', '--profile']
    done = run(*words, f'--result_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.iterdir())
    (record,) = (name for name in names if '.profile' not in name)
    stem = record.removesuffix('.json')
    assert names == sorted([record, f'{stem}.profile.json', f'{stem}.profile.png'])
    written = json.loads((tmp_path / record).read_text())
    found = json.loads((tmp_path / f'{stem}.profile.json').read_text())
    assert written['profile'] == f'{stem}.profile.json'
    assert (tmp_path / f'{stem}.profile.png').read_bytes().startswith(b'\x89PNG')
    assert {'LeNet/conv2', 'LeNet/fc3'} < {line['layer'] for line in found['operations']}
    # lenet's convolutions and matrix products are most of its time, and all of them have been found.
    products = sum(line['operations'] for line in found['operations'] if line['product'])
    assert products > 0.9 * 6 * 8 * written['work']['multiply_adds_per_image']
    assert 'above the roofline' in done.stdout
    assert stem in done.stdout
