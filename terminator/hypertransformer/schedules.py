"""What changes with the step: weights of the warm-up heads.

Source: the reference implementation of arXiv 2201.04182.  Golden: hypertransformer_schedules.
"""


def warmup_weights(step: int, warmup_steps: int, heads: int) -> list[float]:
    """Loss weights at a step: of the auxiliary heads in the layers' order, then of the true loss.

    Head j peaks at step j T / heads and fades over T / heads before and after; from T on only the
    true loss counts. At most two are above 0. Without heads or warm-up it is the true loss alone.

    Args:
        step: from 0.
        warmup_steps: T.
        heads: their number.

    Returns:
        heads + 1 numbers from 0 to 1.
    """
    if not heads or not warmup_steps:
        return [0.0] * heads + [1.0]
    spacing = warmup_steps / heads
    weights = [max(0.0, 1 - abs(step - j * spacing) / spacing) for j in range(heads)]
    return [*weights, min(1.0, max(0.0, 1 + (step - warmup_steps) / spacing))]
