"""Training episodes per second: many in one step, as here, against one a step, as the reference
takes them.
"""

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import torch

from terminator.bench import measure
from terminator.data.episodes.sampling import episode_generator
from terminator.hypertransformer.fewshot.config import FewShotConfig
from terminator.hypertransformer.fewshot.data import EpisodeData
from terminator.hypertransformer.fewshot.tasks import Step, build_network, build_task
from terminator.runtime import provenance
from terminator.runtime.distributed import choose_device


def episode_speed(
    config: FewShotConfig,
    data: EpisodeData,
    batches: Sequence[int] = (1, 8),
    repeats: int = 5,
    warm_up: int = 2,
) -> dict[str, Any]:
    """Time whole training steps (drawing, forward, backward, update by plain SGD), in float32, for
    several numbers of episodes a step.

    Args:
        config: resolved or not.
        batches: episodes per step.
        repeats: timed steps, after `warm_up` others.

    Returns:
        a record's part: device (its name), repeats, and `rows`: batch, episodes_per_s (median over
        the steps), slowest and fastest (of single steps), ms_per_step.
    """
    config = config.resolved(data.info.shape[0], data.real_classes)
    device = choose_device(config.train.device)
    rows = []
    for batch in batches:
        seconds = _step_seconds(config, data, batch, repeats, warm_up, device)
        middle = statistics.median(seconds)
        rows.append(
            {
                "batch": batch,
                "episodes_per_s": batch / middle,
                "slowest": batch / max(seconds),
                "fastest": batch / min(seconds),
                "ms_per_step": 1e3 * middle,
            }
        )
    return {"device": provenance.device_name(device.type), "repeats": repeats, "rows": rows}


def _step_seconds(
    config: FewShotConfig,
    data: EpisodeData,
    batch: int,
    repeats: int,
    warm_up: int,
    device: torch.device,
) -> list[float]:
    model = build_network(config).to(device).train()
    task = build_task(model, config)
    times = task.ways_times(True)
    episodes = data.episodes(config, "train", training=True, ways_times=times, device=device)
    optimizer = torch.optim.SGD(model.parameters(), config.optimizer.learning_rate)
    steps = itertools.count()

    def step() -> None:
        number = next(steps)
        drawn = episodes.batch(batch, episode_generator(0, 0, number))
        terms, _ = task.loss_terms(model, Step(drawn, number), task.targets(drawn))
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    return measure.seconds(step, repeats, warm_up, device.type)[warm_up:]
