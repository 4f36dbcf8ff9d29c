"""Prototypes, the continual model, the drawn characters and the panel: what they compute, and what
they refuse.
"""

import pandas as pd
import pytest
import torch
from hypertransformer_tools import episode, normal

from terminator.data.episodes.sources import load_classes
from terminator.data.episodes.strokes import draw_strokes
from terminator.hypertransformer import (
    ContinualHyperTransformer,
    HyperTransformer,
    HyperTransformerSettings,
    PixelMeans,
    PrototypicalNetwork,
    figures,
)
from terminator.hypertransformer.fewshot.panel import QUERIES, classify, panel, picture
from terminator.hypertransformer.prototypes import class_means, distance_logits
from terminator.runtime.settings import ConfigError

SETTINGS = HyperTransformerSettings(
    num_labels=3,
    image_size=16,
    default_num_channels=4,
    embedding_dim=6,
    num_layers=2,
    num_layerwise_features=3,
    shared_feature_extractor="2-layer-bn",
    shared_features_dim=4,
)


def close(ours, expected, tolerance=1e-9):
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def test_prototypes_are_means_and_logits_distances():
    x, labels = normal(2, 7, 5), torch.tensor([[0, 1, 2, 0, 1, 2, 0], [2, 2, 2, 1, 1, 0, 0]])
    means = class_means(x, labels, 3)
    for e in range(2):
        for y in range(3):
            close(means[e, y], x[e][labels[e] == y].mean(0))
    query = normal(2, 4, 5, seed=1)
    close(distance_logits(query, means), -(query[:, :, None] - means[:, None]).square().sum(-1))


@pytest.mark.parametrize("kind", [PrototypicalNetwork, PixelMeans])
def test_prototypes_take_each_episode_alone(kind):
    torch.manual_seed(0)
    model = kind(SETTINGS).double()
    support, labels, query, query_labels = episode(SETTINGS, dtype=torch.float64)
    together = model(support, labels, query)
    for e in range(3):
        close(
            model(support[e : e + 1], labels[e : e + 1], query[e : e + 1]).logits,
            together.logits[e : e + 1],
        )
    expected = torch.nn.functional.cross_entropy(
        together.logits.flatten(0, 1), query_labels.flatten()
    )
    close(model.loss_terms(together, query_labels)["cross_entropy"], expected)
    with pytest.raises(ValueError, match="a support mask was given"):
        model(support, labels, query, torch.zeros(labels.shape, dtype=torch.bool))


def test_the_prototypical_network_has_the_hypertransformers_cnn():
    model = PrototypicalNetwork(SETTINGS)
    generated = HyperTransformer(SETTINGS)
    support, labels, *_ = episode(SETTINGS)
    cnn = generated.generate(support, labels)
    assert [p.kernel.shape[1:] for p in cnn.convs] == [layer.kernel.shape for layer in model.convs]


@pytest.fixture
def continual():
    torch.manual_seed(0)
    return ContinualHyperTransformer(SETTINGS, embedding=5).double()


def sequence(tasks=3):
    parts = [episode(SETTINGS, episodes=2, seed=10 * t, dtype=torch.float64) for t in range(tasks)]
    return tuple(torch.stack(part, dim=1) for part in zip(*parts))


def test_the_first_task_is_a_plain_hypertransformers(continual):
    support, labels, *_ = episode(SETTINGS, dtype=torch.float64)
    learned = continual.learn(support, labels)
    plain = continual.generate(support, labels)
    for a, b in zip(learned.cnn.convs, plain.convs, strict=True):
        close(a.kernel, b.kernel)
    close(learned.cnn.head.weight, plain.head.weight)
    assert learned.cnn.head.weight.shape == (3, 5, 4)


def test_later_weights_depend_on_earlier_tasks_and_prototypes_stay(continual):
    support, labels, query, _ = sequence()
    logits = continual(support, labels, query)
    assert [part.shape for part in logits] == [(2, 7, 3), (2, 14, 6), (2, 21, 9)]
    first = continual.learn(support[:, 0], labels[:, 0])
    second = continual.learn(support[:, 1], labels[:, 1], first)
    alone = continual.learn(support[:, 1], labels[:, 1])
    assert (second.cnn.head.weight - alone.cnn.head.weight).abs().max() > 1e-3
    embedded = continual.classify(second.cnn, query[:, :2].flatten(1, 2))
    assert continual.temperature == 5 * 4
    close(
        logits[1],
        distance_logits(embedded, torch.cat([first.prototypes, second.prototypes], dim=1)) / 20,
    )
    changed = support.clone()
    changed[:, 0] += normal(*support[:, 0].shape, seed=99)
    assert (continual(changed, labels, query)[2] - logits[2]).abs().max() > 1e-3


def test_the_recursion_is_differentiated_through(continual):
    support, labels, query, _ = sequence()
    support.requires_grad_()
    continual(support, labels, query)[2].square().mean().backward()
    assert (
        support.grad[:, 0].abs().amax((1, 2, 3, 4)) > 0
    ).all()  # through the weights after the first task
    unused = [name for name, p in continual.named_parameters() if p.grad is None]
    assert not unused


def test_a_later_sequence_is_not_seen_earlier(continual):
    support, labels, query, _ = sequence()
    short = continual(support[:, :2], labels[:, :2], query[:, :2])
    long = continual(support, labels, query)
    for a, b in zip(short, long):
        close(a, b)


def test_what_the_continual_model_has_no_use_for():
    with pytest.raises(ConfigError, match="number_of_trained_cnn_layers is 4; allowed: 0"):
        ContinualHyperTransformer(HyperTransformerSettings(number_of_trained_cnn_layers=4))


# -- drawn characters ------------------------------------------------------------------------------


def test_drawn_characters_repeat_and_differ():
    images = draw_strokes(5, 6, 20, seed=3)
    assert images.shape == (5, 6, 20, 20)
    assert (images == draw_strokes(5, 6, 20, seed=3)).all()
    assert (images != draw_strokes(5, 6, 20, seed=4)).any()
    ink = images.reshape(30, -1) / 255.0
    assert ((ink.mean(1) > 0.02) & (ink.mean(1) < 0.5)).all()  # neither empty nor full
    distance = ((ink[:, None] - ink) ** 2).mean(-1).reshape(5, 6, 5, 6)
    # without each drawing's distance to itself
    same = distance[range(5), :, range(5)].mean() * 6 / 5
    other = distance.mean((1, 3))[~torch.eye(5, dtype=torch.bool).numpy()].mean()
    assert 0 < same < other


def test_the_source_says_that_nobody_wrote_them():
    source = load_classes("strokes")
    assert source.images.shape == (2400, 1, 28, 28)
    assert source.counts.unique().tolist() == [20]
    assert source.notes == ("drawn by a formula, not by hand",)


# -- the panel -------------------------------------------------------------------------------------


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HyperTransformer(SETTINGS).eval()


def test_one_image_per_label_makes_a_classifier(model):
    source = load_classes("strokes")
    support, query = source.images[[0, 20, 40]], source.images[[1, 21, 41, 2]]
    found = classify(model, support, query)
    assert found.shape == (4, 3)
    close(found.sum(1), torch.ones(4), 1e-5)
    other = classify(model, source.images[[60, 20, 40]], query)
    assert (found - other).abs().max() > 1e-4
    with pytest.raises(ValueError, match="2 support images; allowed: 3"):
        classify(model, support[:2], query)
    with pytest.raises(ValueError, match="1 query images; allowed: at least 2"):
        classify(model, support, query[:1])


def test_the_picture_shows_support_queries_and_answers(model):
    source = load_classes("strokes")
    figure = picture(model, source, [3, 5, 9])
    drawn = [axis for axis in figure.axes if axis.images]
    assert len(drawn) == 3 + 3 * QUERIES
    assert all(axis.get_title() for axis in drawn)
    with pytest.raises(
        ValueError, match=r"characters are \[3, 3, 9\]; allowed: different ones of 0 to 119"
    ):
        picture(model, source, [3, 3, 9])
    with pytest.raises(ValueError, match="drawing is 20 of 20; allowed: 0 to 19"):
        picture(model, source, [3, 5, 9], drawing=20)


def test_the_panel_is_a_figure_where_nobody_can_use_widgets_and_widgets_elsewhere(
    model, monkeypatch
):
    from terminator.hypertransformer.fewshot import panel as module

    source = load_classes("strokes")
    assert panel(model, source, range(95, 120)).axes
    pytest.importorskip("ipywidgets")
    drawn = []
    monkeypatch.setattr(module, "shows_bars", lambda: True)
    monkeypatch.setattr(
        module, "picture", lambda *arguments: drawn.append(arguments[2:]) or "shown"
    )
    box = panel(model, source, range(95, 120))
    assert drawn == [([95, 96, 97], 0)]
    box.children[0].children[1].value = 110
    box.children[2].value = 4
    assert drawn[1:] == [([95, 110, 97], 0), ([95, 110, 97], 4)]


# -- figures ---------------------------------------------------------------------------------------


def images_of(figure):
    return [axis.images[0].get_array() for axis in figure.axes if axis.images]


def test_an_episode_is_drawn_by_label():
    support, labels = torch.rand(3, 1, 4, 4), torch.tensor([2, 0, 1])
    query, query_labels = torch.rand(6, 1, 4, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    figure = figures.episode(support, labels, query, query_labels)
    drawn = images_of(figure)
    assert len(drawn) == 9
    for column, place in enumerate((1, 2, 0)):
        low, high = support[place].min(), support[place].max()
        close(
            torch.as_tensor(drawn[column]).float(), (support[place, 0] - low) / (high - low), 1e-5
        )
    with_more = figures.episode(
        torch.rand(6, 1, 4, 4), torch.tensor([2, 0, 1, 3, 3, 3]), query, query_labels
    )
    assert len(images_of(with_more)) == 12


def test_filters_and_attention_are_drawn_as_they_are():
    filters = normal(2, 4, 3, 3)
    figure = figures.generated_filters(torch.rand(2, 3, 1, 8, 8), filters)
    drawn = [torch.as_tensor(part) for part in images_of(figure) if part.shape == (3, 3)]
    assert len(drawn) == 16
    close(drawn[0], filters[0, 0])
    close(drawn[4], filters[0, 0] - filters[:, 0].mean(0))
    maps = {"conv 1": torch.rand(4, 3), "logits": torch.rand(3, 3)}
    figure = figures.attention(maps, torch.rand(3, 1, 8, 8), "012")
    drawn = [part for part in images_of(figure) if part.shape in ((4, 3), (3, 3))]
    close(torch.as_tensor(drawn[0]), maps["conv 1"])
    limits = {
        axis.images[0].get_clim()
        for axis in figure.axes
        if axis.images
        and axis.images[0].get_array().ndim == 2
        and axis.images[0].get_array().shape in ((4, 3), (3, 3))
    }
    assert len(limits) == 1  # one scale for all layers


def test_accuracies_are_drawn_where_they_are():
    table = pd.DataFrame(
        {
            "test": [60.0, 70.0],
            "sd": [1.0, None],
            "interval": [2.0, 3.0],
            "seeds": [3, 1],
            "train classes": [65.0, 75.0],
        },
        index=["a", "b"],
    )
    axis = figures.accuracy_dots(table, 20).axes[0]
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b"]
    assert list(axis.containers[0].lines[0].get_xdata()) == [60, 70]
    lines = {"x": pd.DataFrame({"x": [4, 8, 8], "test": [50.0, 60.0, 70.0]})}
    means, seeds = figures.accuracy_lines(lines, "channels", 20).axes[0].lines[:2]
    assert list(means.get_ydata()) == [50, 65]
    assert list(seeds.get_ydata()) == [50, 60, 70]
    axis = figures.learning(
        {"y": pd.DataFrame({"step": [1, 2], "accuracy": [30.0, 40.0]})}, 20
    ).axes[0]
    assert list(axis.lines[0].get_ydata()) == [30, 40]
    frame = pd.DataFrame(
        {"task 1": [90.0, 80.0], "task 2": [None, 70.0]}, index=["after task 1", "after task 2"]
    )
    axis = figures.continual_tables(
        {"task-incremental": frame}, {"task-incremental": [33, 33]}
    ).axes[0]
    assert [t.get_text() for t in axis.texts] == ["90", "80", "70", "chance 33", "chance 33"]
