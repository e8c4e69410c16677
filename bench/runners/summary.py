"""The few lines after a run that say what it found; all of it comes from the record."""

from __future__ import annotations

from collections.abc import Sequence

from analysis import statistics
from bench import errors
from bench.record import Json
from bench.runners import merge
from bench.screen import Screen

_ENDS = {
    'num_batches': 'as many as were asked for',
    'precise': 'until the interval was within 1 %',
    'max_seconds': '--max_seconds was reached before the interval was within 1 %',
    'interrupted': 'interrupted',
}
# Of fewer there is no interval (analysis/statistics.py).
_LEAST_STEPS = 3
# Workers whose speeds are told one by one.
_MOST_LISTED = 8


def show(record: Json, screen: Screen) -> None:
    """Prints the summary of a record and its warnings."""
    for label, text in _lines(record):
        screen.line(f'{label:<12}{text}')
    for warning in record['warnings']:
        screen.line(f'warning: {warning["text"]}')


def title(record: Json) -> str:
    """What was run, in a line."""
    config = record['config']
    network, step, data = config['network'], config['step'], config['data']
    job = 'input alone' if data['input_only'] else 'inference' if step['forward_only'] else 'training'
    source = data['data_dir'] or 'synthetic images'
    size = network['image_size']
    clones = f'{step["num_clones"]} clones of ' if step['num_clones'] > 1 else ''
    workers = len(record['workers'])
    each = f'{workers} workers, ' if workers > 1 else ''
    replicas = config['distribution']['num_workers'] if config['distribution']['variable_update'] == 'replicated' else 1
    each += f'{replicas} replicas of ' if (replicas or 1) > 1 else ''
    batch = f'{each}{clones}batch {network["batch_size"]} of {size}x{size}'
    xla = ', XLA' if step['xla'] else ''
    return f'{network["model"]}, {job}, {batch}, {network["data_format"]}, {network["precision"]}{xla}, {source}'


def _lines(record: Json) -> list[tuple[str, str]]:
    lines = [('run', title(record))]
    if record['throughput']:
        lines += [('throughput', _throughput(record)), ('step time', _step_times(record))]
    elif any(worker['throughput'] for worker in record['workers']):
        lines.append(('throughput', _of_some(record['workers'])))
    elif record['ended']['status'] == 'interrupted':
        lines.append(('throughput', 'interrupted before a step was measured'))
    if record['work']:
        lines.append(('machine', _machine(record)))
    if record['distribution']:
        lines += _shared(record)
    threads = record['config']['threads']
    workers = record['workers']
    memory = max((worker['peak_memory_bytes'] or 0 for worker in workers), default=0)
    lines += [
        ('memory', f'{memory / 2**30:.2f} GiB at the most{" in a worker" if len(workers) > 1 else ""}'),
        ('threads', f'{threads["num_intra_threads"]} within an operation, {threads["num_inter_threads"]} between'),
    ]
    noise = record['workers'][0]['noise']
    if noise:
        lines.append(('noise', _noise(noise)))
    if record['settings']:
        lines.append(('settings', settings_text(record['settings'])))
    return lines


def _machine(record: Json) -> str:
    work, rates = record['work'], record['machine_rates']
    return (
        f'{work["gflops"]:.1f} GFLOP/s, {100 * work["fraction"]:.0f} % of the {work["peak_gflops"]:.0f} that large '
        f'products in {rates["precision"]} reach with these settings; memory {rates["memory_gb_per_second"]:.1f} GB/s'
    )


def _noise(noise: Json) -> str:
    """The two that are nowhere 0; what else there was is in the record, and in a warning if it was much."""
    processors, others, stolen = noise['processors'], noise['other_processors'], noise['stolen_seconds']
    if others is None or stolen is None:
        return 'this system does not tell of other processes'
    share = 100 * stolen / noise['seconds'] / processors
    text = f'other processes kept {others:.2f} of {processors} processors busy; {share:.1f} % of their time was stolen'
    watched = {'their frequency': noise['megahertz'], 'whether heat slows them': noise['thermal_throttles']}
    untold = [what for what, seen in watched.items() if seen is None]
    verb = 'is' if len(untold) == 1 else 'are'
    return f'{text}; {" and ".join(untold)} {verb} not told here' if untold else text


def settings_text(found: Json) -> str:
    """What a settings file brought."""
    came = {'kept': 'not applied: the environment has another say'}
    texts = [
        f'--{each["flag"]}={each["value"]} ({came.get(each["status"], each["status"])})' for each in found['flags']
    ]
    return f'{found["file"]}: {", ".join(texts) or "the defaults"}'


def _shared(record: Json) -> list[tuple[str, str]]:
    """What several workers are to each other."""
    shared, lines = record['distribution'], []
    images = record['config']['network']['batch_size'] * record['config']['step']['num_clones']
    rates = merge.own_speeds(record['workers'], images, synchronous=shared['synchronous'])
    # Not the record's, which those of before have not, or of steps in which all wait for the slowest.
    spread = merge.spread(rates)
    if spread:
        low, median, high = (spread[name] for name in ('low', 'median', 'high'))
        each = f'{", ".join(f"{rate:.2f}" for rate in rates)} images/sec'
        if len(rates) > _MOST_LISTED:
            each = f'{len(rates)} from {low:.2f} to {high:.2f} images/sec, median {median:.2f}'
        how = 'without exchange ' if shared['synchronous'] else ''
        apart = f'{100 * (high - low) / median:.1f} % apart'
        lines.append(('workers', f'{shared["variable_update"]}; {how}{each}, {apart}'))
    exchange = shared['exchange']
    # Of a run without a step nothing was exchanged.
    if exchange and record['throughput']:
        text = f'{exchange["payload_bytes"] / 2**20:.1f} MiB of gradients a step'
        if exchange['seconds'] is not None:
            fraction = exchange['seconds'] / (exchange['seconds'] + exchange['seconds_without'])
            text += f', for which a step waits {1e3 * exchange["seconds"]:.1f} ms ({100 * fraction:.1f} %)'
            if exchange['seconds'] <= 0:
                text += ': steps differ by more than the exchange takes'
        lines.append(('exchange', text))
    scaling = shared['scaling']
    if scaling:
        text = f'{scaling["efficiency"]:.3f} of one worker on the same processors'
        if statistics.tells(scaling['low'], scaling['high']):
            text += f', 95 % interval {scaling["low"]:.3f} to {scaling["high"]:.3f}'
        else:
            text += f', {_without_interval(record)}'
        lines.append(('scaling', text))
    return lines


def _of_some(workers: Sequence[Json]) -> str:
    """Of a job with workers of which no step is known: they computed too, so that it is no speed of the job."""
    known = [worker for worker in workers if worker['throughput']][:_MOST_LISTED]
    each = (f'worker {worker["rank"]} {worker["throughput"]["images_per_second"]:.2f} images/sec' for worker in known)
    return f'of all together unknown, because of some no step is known; {", ".join(each)}'


def _throughput(record: Json) -> str:
    rate = record['throughput']
    text = f'{rate["images_per_second"]:.2f} images/sec'
    if statistics.tells(rate['low'], rate['high']):
        half = (rate['high'] - rate['low']) / 2 / rate['images_per_second']
        text += f', {100 * rate["confidence"]:.0f} % interval {rate["low"]:.2f} to {rate["high"]:.2f}'
        text += f' (+/- {100 * half:.1f} %)'
    else:
        text += f', {_without_interval(record)}'
    steps = errors.number(_steps(record), 'step')
    return f'{text}; {steps}, {_ENDS.get(record["ended"]["reason"], "then it failed")}'


def _without_interval(record: Json) -> str:
    """Why there is none: that of so few steps that vary so much would exclude hardly any speed, or not even 0."""
    return f'too few steps{"" if _steps(record) < _LEAST_STEPS else ", too different"} for an interval'


def _steps(record: Json) -> int:
    """Of the job: the first worker's are counted where workers do not do each step together."""
    counts = [len(worker['step_seconds']) for worker in record['workers']]
    return counts[0] or max(counts)


def _step_times(record: Json) -> str:
    times = record['step_seconds']
    return f'{1e3 * times["median"]:.1f} ms median, {1e3 * times["p95"]:.1f} p95, {1e3 * times["p99"]:.1f} p99'
