"""Choose characters, get a classifier: with widgets where somebody can use them, as one example
elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from terminator.data.episodes.augment import network_input
from terminator.data.episodes.classes import ClassImages
from terminator.hypertransformer import figures
from terminator.hypertransformer.model import HyperTransformer
from terminator.runtime.progress import shows_bars

QUERIES = 2  # per character; batch statistics are those of all queries together


@torch.no_grad()
def classify(model: HyperTransformer, support: Tensor, query: Tensor) -> Tensor:
    """Probabilities (M, n) of query images (M, C, H, W) by the CNN generated from one image per
    label (n, C, H, W).

    Args:
        images in 0..255, of any size; own drawings too.

    Raises:
        ValueError: for another number of support images than the model has labels, or for a single
            query, whose batch has no statistics.
    """
    ways, size = model.settings.num_labels, model.settings.image_size
    if len(support) != ways:
        raise ValueError(
            f"{len(support)} support images; allowed: {ways}, one for each of the model's labels"
        )
    if len(query) < 2:
        raise ValueError(
            f"{len(query)} query images; allowed: at least 2, since batch statistics are theirs"
        )
    support, query = (network_input(images.float(), size)[None] for images in (support, query))
    return model.eval()(support, torch.arange(ways)[None], query).logits[0].softmax(-1)


def picture(
    model: HyperTransformer, source: ClassImages, characters: Sequence[int], drawing: int = 0
) -> Any:
    """One drawing of every character as support set; the next QUERIES of each, with the answers, as
    a Figure.

    Raises:
        ValueError: for characters or drawings that do not exist, or a character twice.
    """
    if len(set(characters)) < len(characters) or not all(
        0 <= c < len(source.classes) for c in characters
    ):
        raise ValueError(
            f"characters are {list(characters)}; allowed: different ones of 0 to "
            f"{len(source.classes) - 1}"
        )
    starts = source.starts[list(characters)]
    least = int(source.counts[list(characters)].min())
    if least <= QUERIES or not 0 <= drawing < least:
        raise ValueError(
            f"drawing is {drawing} of {least}; allowed: 0 to {least - 1}, with more than {QUERIES} "
            "in all"
        )
    support = source.images[starts + drawing]
    rows = torch.cat([starts + (drawing + 1 + i) % least for i in range(QUERIES)])
    chances = classify(model, support, source.images[rows])
    expected = torch.arange(len(characters)).repeat(QUERIES)
    answers = [
        f"{int(p.argmax())} ({p.max():.0%}){'' if p.argmax() == y else ' wrong'}"
        for p, y in zip(chances, expected)
    ]
    return figures.answers_grid(
        support,
        source.images[rows],
        answers,
        "A classifier made from the upper row, and its answers for the lower one",
    )


def panel(
    model: HyperTransformer, source: ClassImages, classes: Sequence[int], drawing: int = 0
) -> Any:
    """Widgets to choose characters among `classes`; without widgets or anyone to use them, the
    first ones' Figure.
    """
    first = list(classes)[: model.settings.num_labels]
    if not shows_bars():
        return picture(model, source, first, drawing)
    try:
        import ipywidgets
        from IPython.display import display
    except ImportError:
        return picture(model, source, first, drawing)
    options = [(source.classes[c], c) for c in classes]
    chosen = [
        ipywidgets.Dropdown(options=options, value=c, description=f"label {i}")
        for i, c in enumerate(first)
    ]
    which = ipywidgets.IntSlider(
        value=drawing, min=0, max=int(source.counts[list(classes)].min()) - 1, description="drawing"
    )
    output = ipywidgets.Output()

    def draw(change: Any = None) -> None:
        with output:
            output.clear_output(wait=True)
            try:
                display(picture(model, source, [widget.value for widget in chosen], which.value))
            except ValueError as error:
                print(error)

    for widget in (*chosen, which):
        widget.observe(draw, "value")
    draw()
    return ipywidgets.VBox(
        [ipywidgets.HBox(chosen[:3]), ipywidgets.HBox(chosen[3:]), which, output]
    )
