"""HyperTransformer: properties that hold for every setting, and what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypertransformer_tools import episode, normal

from terminator.data.episodes.sampling import EpisodeBatch
from terminator.hypertransformer import HyperTransformer, HyperTransformerSettings
from terminator.hypertransformer.cnn import episode_conv
from terminator.hypertransformer.features import batch_norm, fold, same_padding, unfold
from terminator.hypertransformer.fewshot.report import attention_to_support
from terminator.hypertransformer.schedules import warmup_weights
from terminator.model import count_parameters
from terminator.runtime.settings import ConfigError

SMALL = {
    "num_labels": 3,
    "image_size": 16,
    "default_num_channels": 4,
    "embedding_dim": 6,
    "num_layers": 2,
    "heads": 2,
    "num_layerwise_features": 3,
    "shared_feature_extractor": "2-layer-bn",
    "shared_features_dim": 4,
}
SEPARATE = {
    "layerwise_generator": "separate",
    "embedding_dim": 6,
    "lw_key_query_dim": 8,
    "lw_value_dim": 4,
}
OPTIONS = {
    "default": {},
    "spatial": {"lw_weight_allocation": "spatial"},
    "bias and bn": {"lw_generate_bias": True, "lw_generate_bn": True},
    "offsets": {
        "add_trainable_weights": True,
        "lw_generate_bias": True,
        "lw_generate_bn": True,
        "weight_variation_regularization": 0.1,
        "l2_reg_weight": 0.01,
    },
    "separate": SEPARATE,
    "decoder": {"use_decoder": True},
    "first trained": {
        "number_of_trained_cnn_layers": 2,
        "lw_generate_bias": True,
        "lw_generate_bn": True,
    },
    "last trained": {"number_of_trained_cnn_layers": -1},
    "logits only": {"number_of_trained_cnn_layers": 4},
    "kept apart": {"separate_evaluation_bn_vars": True},
    "3-layer": {
        "cnn_model_name": "3-layer",
        "image_size": 28,
        "stride": 2,
        "cnn_activation": "lrelu",
    },
    "4-layer": {"cnn_model_name": "4-layer", "image_size": 12},
    "activation after bn": {"activation_after_bn": True},
    "stride": {
        "stride": 2,
        "image_size": 300,
        "shared_feature_extractor": "none",
        "default_num_channels": 2,
    },
    "passthrough": {"logits_feature_extractor": "passthrough", "image_size": 33},
    "mix": {"logits_feature_extractor": "mix", "image_size": 33, "lw_use_nonlinear_feature": True},
    "automatic features": {"num_layerwise_features": None},
    "shared features only": {"num_layerwise_features": 0},
    "local features only": {"shared_feature_extractor": "none"},
    "sigmoid, gelu, no MLP in halves": {
        "transformer_activation": "sigmoid",
        "transformer_nonlinearity": "gelu",
        "lw_key_query_dim": 0.5,
        "lw_value_dim": 0.25,
    },
    "skip last": {"transformer_skip_last_nonlinearity": True, "transformer_nonlinearity": "lrelu"},
    "no MLP": {"lw_inner_dim": 0},
    "warm-up": {"warmup_steps": 30},
    "colour": {"in_channels": 3, "kernel_size": 2},
    "port": {"profile": "port"},
}


def model_of(seed=0, **changes):
    torch.manual_seed(seed)
    return HyperTransformer(**{**SMALL, **changes}).double()


def close(ours, expected, tolerance=1e-9):
    torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


def masked(model):
    return model.settings.layerwise_generator == "joint"


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_many_episodes_are_as_many_runs_of_one(options):
    model = model_of(**options)
    support, labels, query, query_labels = episode(model.settings, dtype=torch.float64)
    labels[0, -1] = 3  # no label
    mask = torch.zeros(labels.shape, dtype=torch.bool)
    mask[1, -1] = True
    mask = mask if masked(model) else None
    output = model(support, labels, query, mask)
    sum(model.loss_terms(output, query_labels, step=5).values()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for e in range(3):
        one = slice(e, e + 1)
        alone = model(support[one], labels[one], query[one], None if mask is None else mask[one])
        close(alone.logits, output.logits[one])
        close(alone.cnn.head.weight, output.cnn.head.weight[one])
        (sum(model.loss_terms(alone, query_labels[one], step=5).values()) / 3).backward()
    for name, p in model.named_parameters():
        if name in gradients:
            close(p.grad, gradients[name], 1e-7)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_parameter_is_used(options):
    model = model_of(**options)
    support, labels, query, query_labels = episode(model.settings, dtype=torch.float64)
    labels[:, -1] = 3
    output = model(support, labels, query)
    for step in (5, 15, 25):
        (
            sum(model.loss_terms(output, query_labels, step).values())
            + output.logits.square().mean()
        ).backward(retain_graph=True)
    unused = {name for name, p in model.named_parameters() if p.grad is None}
    assert not unused
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize(
    "options", [{}, SEPARATE, {"use_decoder": True}], ids=["joint", "separate", "decoder"]
)
def test_the_support_set_is_a_set_and_labels_matter(options):
    model = model_of(**options)
    support, labels, query, _ = episode(model.settings, dtype=torch.float64)
    logits = model(support, labels, query).logits
    order = torch.randperm(labels.shape[1], generator=torch.Generator().manual_seed(3))
    close(model(support[:, order], labels[:, order], query).logits, logits)
    assert (model(support, (labels + 1) % 3, query).logits - logits).abs().max() > 1e-4
    order = torch.randperm(query.shape[1], generator=torch.Generator().manual_seed(4))
    close(model(support, labels, query[:, order]).logits, logits[:, order])


def test_masked_samples_do_not_reach_the_tokens():
    model = model_of(number_of_trained_cnn_layers=4, shared_feature_extractor="2-layer")
    support, labels, query, _ = episode(model.settings, dtype=torch.float64)
    mask = torch.zeros(labels.shape, dtype=torch.bool)
    mask[:, -1] = True
    masked_out = model.generate(support, labels, mask).head
    relabelled = labels.clone()
    relabelled[:, -1] = 2
    close(model.generate(support, relabelled, mask).head.weight, masked_out.weight)
    difference = (
        model.generate(support, relabelled).head.weight
        - model.generate(support, labels).head.weight
    )
    assert difference.abs().max() > 1e-4
    # the image itself still counts in batch statistics, as in the reference
    changed = support.clone()
    changed[:, -1] += 1 + normal(1, 16, 16)
    assert (
        model.generate(changed, labels, mask).head.weight - masked_out.weight
    ).abs().max() > 1e-6
    all_masked = model.generate(support, labels, torch.ones_like(mask)).head
    assert torch.isfinite(all_masked.weight).all()


def test_attention_can_be_looked_at():
    model = model_of(number_of_trained_cnn_layers=1)
    support, labels, _, _ = episode(model.settings, dtype=torch.float64)
    mask = torch.zeros(labels.shape, dtype=torch.bool)
    mask[0, 2] = True
    cnn = model.generate(support, labels, mask, return_attention=True)
    assert [len(maps) for maps in cnn.attention] == [0, 2, 2, 2, 2]
    maps = cnn.attention[1][0]
    assert maps.shape == (3, 2, 9, 9)  # 4 placeholders, 5 samples
    close(maps.sum(-1), torch.ones(3, 2, 9, dtype=torch.float64))
    assert not maps[0, :, :, 4 + 2].any()
    assert model.generate(support, labels).attention is None


@pytest.mark.parametrize("generator", ["joint", "separate"])
def test_attention_to_the_support_set_has_a_column_an_image(generator):
    model = model_of(layerwise_generator=generator, heads=1)
    support, labels, _, _ = episode(model.settings, dtype=torch.float64)
    batch = EpisodeBatch(support, labels, *[None] * (len(EpisodeBatch._fields) - 2))
    found = attention_to_support(model, batch)
    assert len(found) == 5
    for maps in found.values():
        assert maps.shape[1] == labels.shape[1]
        assert len(maps) >= 1
        assert (0 < maps.sum(1)).all()
        assert (maps.sum(1) <= 1 + 1e-6).all()


def test_parameter_counts():
    assert count_parameters(HyperTransformer()) == 834_248  # the released Omniglot 1-shot model
    logits_only = HyperTransformer(number_of_trained_cnn_layers=4)
    assert {name.split(".")[0] for name, _ in logits_only.named_parameters()} == {
        "shared",
        "convs",
        "head",
    }
    trained = sum(p.numel() for p in logits_only.convs.parameters())
    assert trained == 8 * 9 + 3 * 8 * 8 * 9 + 4 * 16  # kernels, batch norm
    assert [
        generator.sample_width
        for generator in (layer.generator for layer in HyperTransformer().convs)
    ] == [80, 104, 104, 104]


@pytest.mark.parametrize(
    ("stride", "padding", "size"), [(1, "same", 7), (2, "same", 8), (2, "valid", 7), (3, "same", 7)]
)
def test_one_grouped_convolution_is_one_per_episode(stride, padding, size):
    images, kernel, bias = (
        normal(3, 5, 2, size, size),
        normal(3, 4, 2, 3, 3, seed=1),
        normal(3, 4, seed=2),
    )
    ours = unfold(episode_conv(fold(images), kernel, bias, stride, padding), 3)
    for e in range(3):
        padded = same_padding(images[e], 3, stride) if padding == "same" else images[e]
        close(ours[e], F.conv2d(padded, kernel[e], bias[e], stride))
    if padding == "same":
        assert ours.shape[-1] == math.ceil(size / stride)


def test_same_padding_is_tensorflows():
    # 0 before, 1 after
    assert same_padding(torch.ones(1, 1, 4, 4), 3, 2)[0, 0].sum(0).tolist() == [4, 4, 4, 4, 0]
    assert same_padding(torch.ones(1, 1, 5, 5), 3, 2)[0, 0].sum(0).tolist() == [0, 5, 5, 5, 5, 5, 0]
    assert same_padding(torch.ones(1, 1, 5, 5), 2, 1)[0, 0].sum(0).tolist() == [5, 5, 5, 5, 5, 0]


def test_batch_norm_is_per_episode():
    x, gamma, beta = normal(3, 6, 4, 5, 5), normal(3, 4, seed=1), normal(3, 4, seed=2)
    ours = unfold(batch_norm(fold(x), gamma, beta, 1e-3), 3)
    mean, var = x.mean((1, 3, 4), keepdim=True), x.var((1, 3, 4), keepdim=True, unbiased=False)
    shape = (3, 1, 4, 1, 1)
    close(ours, (x - mean) / (var + 1e-3).sqrt() * gamma.view(shape) + beta.view(shape))
    shared = unfold(batch_norm(fold(x), gamma[0], beta[0], 1e-3), 3)
    close(
        shared,
        (x - mean) / (var + 1e-3).sqrt() * gamma[0].view(1, 1, 4, 1, 1)
        + beta[0].view(1, 1, 4, 1, 1),
    )


def test_training_and_evaluation_give_the_same_logits_and_dropout_is_off_then():
    model = model_of(cnn_dropout_rate=0.5, dropout_rate=0.2, fe_dropout=0.2, shared_fe_dropout=0.2)
    support, labels, query, _ = episode(model.settings, dtype=torch.float64)
    assert not torch.equal(
        model(support, labels, query).logits, model(support, labels, query).logits
    )
    model.eval()
    plain = model_of()
    plain.load_state_dict(model.state_dict())
    close(model(support, labels, query).logits, plain(support, labels, query).logits)


def test_generated_weights_and_offsets_add_up():
    model, plain = (model_of(add_trainable_weights=on) for on in (True, False))
    missing, unexpected = plain.load_state_dict(model.state_dict(), strict=False)
    assert not missing
    assert sorted(unexpected) == sorted(
        [*(f"convs.{i}.kernel" for i in range(4)), "head.weight", "head.bias"]
    )
    support, labels, _, _ = episode(model.settings, dtype=torch.float64)
    close(
        model.generate(support, labels).convs[0].kernel,
        plain.generate(support, labels).convs[0].kernel + model.convs[0].kernel,
    )


def test_regularisers():
    support, labels, _, _ = episode(HyperTransformerSettings(**SMALL), dtype=torch.float64)
    model = model_of(l2_reg_weight=0.5)
    cnn = model.generate(support, labels)
    close(cnn.penalty, 0.5 * sum(w.kernel.square().sum((1, 2, 3, 4)).mean() for w in cnn.convs))
    trained = model_of(l2_reg_weight=0.5, number_of_trained_cnn_layers=4).generate(support, labels)
    assert trained.penalty == 0
    model = model_of(add_trainable_weights=True, weight_variation_regularization=0.5)
    cnn, expected = model.generate(support, labels), 0
    for layer, weights in zip(model.convs, cnn.convs):
        generated = weights.kernel - layer.kernel
        expected += (
            0.5 * generated.square().sum((1, 2, 3, 4)).mean() / (1e-8 + layer.kernel.square().sum())
        )
    close(cnn.penalty, expected)


def test_layer_warm_up():
    model = model_of(warmup_steps=30)
    assert len(model.warmup_heads) == 3
    support, labels, query, query_labels = episode(model.settings, dtype=torch.float64)
    output = model(support, labels, query)
    assert [logits.shape for logits in output.warmup_logits] == [(3, 7, 3)] * 3
    assert model.loss_terms(output, query_labels, 0).keys() == {"warmup_1", "cross_entropy"}
    half = model.loss_terms(output, query_labels, 15)
    assert half.keys() == {"warmup_2", "warmup_3", "cross_entropy"}
    assert half["cross_entropy"] == 0
    entropy = F.cross_entropy(output.warmup_logits[1].flatten(0, 1), query_labels.flatten())
    close(half["warmup_2"], entropy / 2)
    done = model.loss_terms(output, query_labels, 30, label_smoothing=0.1)
    assert done.keys() == {"cross_entropy"}
    smoothed = F.cross_entropy(
        output.logits.flatten(0, 1), query_labels.flatten(), label_smoothing=0.1
    )
    close(done["cross_entropy"], smoothed)
    assert warmup_weights(0, 0, 3) == [0, 0, 0, 1]
    assert warmup_weights(7, 30, 0) == [1]


def test_shared_head():
    model = model_of(shared_head_classes=11)
    support, labels, _, _ = episode(model.settings, dtype=torch.float64)
    assert model.shared_logits(model.generate(support, labels)).shape == (3, 5, 11)
    with pytest.raises(ValueError, match="shared_head_classes is 0"):
        model_of().shared_logits(model.generate(support, labels))


def test_support_and_query_batch_norms_can_be_kept_apart():
    model = model_of(separate_evaluation_bn_vars=True)
    support, labels, query, _ = episode(model.settings, dtype=torch.float64)
    cnn, logits = model.generate(support, labels), model(support, labels, query).logits
    with torch.no_grad():
        model.convs[0].gamma[1].mul_(-2)
    close(model.generate(support, labels).head.weight, cnn.head.weight)
    assert (model.classify(cnn, query) - logits).abs().max() > 1e-4


def test_mixed_precision_stays_close():
    model = HyperTransformer(**SMALL)
    support, labels, query, query_labels = episode(model.settings)
    full = model(support, labels, query).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(support, labels, query)
        loss = model.loss_terms(output, query_labels)["cross_entropy"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert (output.logits.float() - full).abs().mean() < 0.1 * full.abs().mean()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_initialisation_is_glorots():
    encoder = HyperTransformer(embedding_dim=100).convs[1].generator.encoder
    linear = encoder.layers[0].attention.query
    bound = math.sqrt(6 / (linear.in_features + linear.out_features))
    assert 0.98 * bound < linear.weight.abs().max() <= bound
    assert not linear.bias.any()


def test_it_learns_which_quadrant_is_bright():
    torch.manual_seed(0)
    model = HyperTransformer(**{**SMALL, "num_labels": 2})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    generator, accuracy = torch.Generator().manual_seed(1), []
    for _ in range(60):
        labels = torch.arange(8).remainder(2).repeat(8, 1)
        # which label is which differs per episode
        flip = torch.randint(0, 2, (8, 1), generator=generator)
        images = torch.randn(8, 8, 1, 16, 16, generator=generator)
        side = (labels + flip).remainder(2)[..., None, None, None] == (torch.arange(16) // 8)
        images = images + 2 * side
        output = model(images[:, :4], labels[:, :4], images[:, 4:])
        optimizer.zero_grad()
        model.loss_terms(output, labels[:, 4:])["cross_entropy"].backward()
        optimizer.step()
        accuracy.append((output.logits.argmax(-1) == labels[:, 4:]).double().mean().item())
    assert sum(accuracy[-10:]) / 10 > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cnn_model_name": "5-layer"},
            "cnn_model_name is '5-layer'; allowed: maxpool-4-layer, 4-layer, 3-layer",
        ),
        ({"number_of_trained_cnn_layers": 5}, "an integer from -4 to 4"),
        (
            {"lw_weight_allocation": "spatial", "lw_generate_bn": True},
            "lw_generate_bn is True; allowed: false with",
        ),
        ({"weight_variation_regularization": 0.1}, "allowed: 0 without add_trainable_weights"),
        (
            {"separate_evaluation_bn_vars": True, "lw_generate_bn": True},
            "allowed: false with lw_generate_bn",
        ),
        ({"use_decoder": True, "layerwise_generator": "separate"}, "use_decoder is True"),
        (
            {"cnn_model_name": "3-layer", "logits_feature_extractor": "mix"},
            "logits_feature_extractor is 'mix'",
        ),
        (
            {"num_layerwise_features": 0, "shared_feature_extractor": "none"},
            "num_layerwise_features is 0",
        ),
        ({"image_size": 8}, "image_size is 8; allowed: larger images"),
        ({"cnn_model_name": "4-layer", "stride": 2}, "conv layer 4 gets 1 pixels"),
        ({"heads": 4, "layerwise_generator": "separate"}, "a multiple of the 4 heads"),
        (
            {"lw_key_query_dim": 5},
            "lw_key_query_dim is 5.0; allowed: what gives a multiple of the 2 heads",
        ),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0"),
        ({"embedding_dim": 0}, "embedding_dim is 0; allowed: an integer of at least 1"),
        ({"shared_feature_extractor": "4-layer-bn"}, "shared_feature_extractor is '4-layer-bn'"),
        (
            {
                "image_size": 16,
                "shared_feature_extractor": "4-layer",
                "shared_feature_extractor_padding": "valid",
            },
            "too small for 4 shared conv layers",
        ),
        ({"widht": 3}, "unknown setting widht"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        HyperTransformer(**{**SMALL, **changes})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: e | {"support": e["support"][0]},
            r"support images have shape \(5, 1, 16, 16\); this model takes",
        ),
        (
            lambda e: e | {"query": e["query"][..., :8]},
            r"query images have shape \(3, 7, 1, 16, 8\)",
        ),
        (
            lambda e: e | {"labels": e["labels"][:, :4]},
            r"support labels have shape \(3, 4\); allowed: \(3, 5\)",
        ),
        (
            lambda e: e | {"labels": e["labels"] + 2},
            "support labels reach from 2 to 4; allowed: 0 to 2, and 3 for",
        ),
        (lambda e: e | {"query": e["query"][:2]}, "query images are of 2 episodes, the CNNs of 3"),
        (lambda e: e | {"query": e["query"][:, :1]}, "give at least two images per episode"),
        (lambda e: e | {"mask": torch.zeros(3, 6, dtype=torch.bool)}, "support mask have shape"),
    ],
)
def test_inputs_that_do_not_fit(change, message):
    model = model_of()
    support, labels, query, _ = episode(model.settings, dtype=torch.float64)
    e = change({"support": support, "labels": labels, "query": query, "mask": None})
    with pytest.raises(ValueError, match=message):
        model(e["support"], e["labels"], e["query"], e["mask"])


def test_separate_generators_refuse_masks():
    model = model_of(**SEPARATE)
    support, labels, query, _ = episode(model.settings, dtype=torch.float64)
    with pytest.raises(ValueError, match="layerwise_generator='separate' cannot mask"):
        model(support, labels, query, torch.zeros(labels.shape, dtype=torch.bool))
