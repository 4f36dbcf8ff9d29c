"""Every switch of a HyperTransformer, under the released flags' names; the defaults are the
Omniglot 1-shot script.

Source: arXiv 2201.04182 and its reference implementation.
"""

import math
from dataclasses import dataclass, fields

from terminator.runtime.settings import at_least, one_of, require

# conv layers, the logits layer aside
CNN_MODELS = {"maxpool-4-layer": 4, "4-layer": 4, "3-layer": 3}
SHARED_EXTRACTORS = ("none", "2-layer", "3-layer", "4-layer", "2-layer-bn", "3-layer-bn")
# up to this, a size is a fraction of the token width; above it, the size itself
LARGEST_FRACTION = 3
CHOICES = {
    "cnn_model_name": tuple(CNN_MODELS),
    "cnn_activation": ("relu", "lrelu"),
    "layerwise_generator": ("joint", "separate"),
    "lw_weight_allocation": ("output", "spatial"),
    "transformer_activation": ("softmax", "sigmoid"),
    "transformer_nonlinearity": ("relu", "gelu", "lrelu"),
    "logits_feature_extractor": ("default", "passthrough", "mix"),
    "shared_feature_extractor": SHARED_EXTRACTORS,
    "shared_feature_extractor_padding": ("same", "valid"),
    "profile": ("canonical", "port"),
}


@dataclass(frozen=True)
class HyperTransformerSettings:
    """The generated CNN, the features, and the Transformers that generate it.

    Raises:
        ConfigError: from the constructor, for a setting that cannot be used.
    """

    LARGEST = 2**20  # of all integers here, see settings
    MOST = {"num_layers": 1_000, "warmup_steps": 2**32}

    num_labels: int = 20  # n, of the episodes; leave it out; label n means "no label"
    image_size: int = 28  # of the episodes; leave it out
    in_channels: int = 1  # of the data; leave it out
    cnn_model_name: str = "maxpool-4-layer"  # the CNN whose weights are generated
    default_num_channels: int = 8  # channels of every conv layer
    kernel_size: int = 3  # kernel size of conv layers
    stride: int = 1  # of conv layers; the flag's own default is 2
    cnn_activation: str = "relu"  # of the generated CNN; lrelu: slope 0.01
    activation_after_bn: bool = False  # else conv, activation, pool, batch norm
    cnn_dropout_rate: float = 0.0  # before the logits of query images, in training
    # m: the first m conv layers (below 0: the last -m) are not generated
    number_of_trained_cnn_layers: int = 0
    layerwise_generator: str = "joint"  # separate: encoder over samples, decoder over placeholders
    # a token is one filter; spatial: one position of all filters
    lw_weight_allocation: str = "output"
    lw_generate_bias: bool = False  # generate the biases, too
    lw_generate_bn: bool = False  # generate scales and shifts of batch norm, too
    add_trainable_weights: bool = False  # generated + trained offset
    weight_variation_regularization: float = 0.0  # of generated against offset
    l2_reg_weight: float = 0.0  # weight of a penalty on generated kernels
    # other scales and shifts for support than for query images
    separate_evaluation_bn_vars: bool = False
    embedding_dim: int = 32  # e, entries of a label's or a weight block's embedding
    num_layers: int = 3  # of each Transformer (of its encoder and of its decoder)
    heads: int = 2  # heads of every attention
    lw_key_query_dim: float = 1.0  # of keys, queries; up to 3: a share of the token width
    lw_value_dim: float = 1.0  # of values; likewise
    lw_inner_dim: float = 1.0  # of the MLPs; likewise; 0: no MLP
    dropout_rate: float = 0.0  # dropout in the Transformers
    transformer_activation: str = "softmax"  # of attention; or sigmoid of every logit
    transformer_nonlinearity: str = "relu"  # of the encoder's MLPs; lrelu: slope 0.1
    transformer_skip_last_nonlinearity: bool = False  # none in the encoder's last MLP
    use_decoder: bool = False  # joint: a decoder over the same sequence follows the encoder
    # f per local convolution; nothing: the layer's own width; 0: none
    num_layerwise_features: int | None = 8
    lw_use_nonlinear_feature: bool = False  # the logits layer's features after ReLU
    logits_feature_extractor: str = "default"  # passthrough: the flattened input itself; mix: both
    shared_feature_extractor: str = "3-layer-bn"  # conv layers; bn: and batch norm
    shared_features_dim: int = 32  # size of the shared features
    shared_feature_extractor_padding: str = "same"  # the flag's own default is valid
    shared_fe_dropout: float = 0.0  # dropout of shared features
    fe_dropout: float = 0.0  # dropout of local features
    # a linear map from shared features to so many real classes; 0: none
    shared_head_classes: int = 0
    # T: auxiliary heads after all conv layers but the last are trained until then
    warmup_steps: int = 0
    bn_eps: float = 1e-3  # added to variances in batch norm
    profile: str = "canonical"  # port: the public PyTorch port's arithmetic, for parity only

    def __post_init__(self) -> None:
        one_of(self, "", CHOICES)
        minima = {
            "num_labels": 2,
            "image_size": 1,
            "in_channels": 1,
            "default_num_channels": 1,
            "kernel_size": 1,
            "stride": 1,
            "embedding_dim": 1,
            "num_layers": 1,
            "heads": 1,
            "shared_features_dim": 1,
            "shared_head_classes": 0,
            "warmup_steps": 0,
        }
        at_least(self, "", minima)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool:
                require(isinstance(value, bool), field.name, value, "true, false")
            elif field.type is float:
                require(
                    isinstance(value, (int, float)) and math.isfinite(value) and value >= 0,
                    field.name,
                    value,
                    "a number of at least 0",
                )
        for name in ("cnn_dropout_rate", "dropout_rate", "shared_fe_dropout", "fe_dropout"):
            require(
                getattr(self, name) < 1, name, getattr(self, name), "a number from 0 to below 1"
            )
        for name in ("lw_key_query_dim", "lw_value_dim", "bn_eps"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        features = self.num_layerwise_features
        require(
            features is None or (isinstance(features, int) and features >= 0),
            "num_layerwise_features",
            features,
            "an integer of at least 0, or nothing",
        )
        self._check_together()

    def _check_together(self) -> None:
        trained, layers = self.number_of_trained_cnn_layers, self.conv_layers
        require(
            isinstance(trained, int) and abs(trained) <= layers,
            "number_of_trained_cnn_layers",
            trained,
            f"an integer from {-layers} to {layers}",
        )
        if self.lw_weight_allocation == "spatial":
            for name in ("lw_generate_bias", "lw_generate_bn"):
                require(
                    not getattr(self, name), name, True, "false with lw_weight_allocation='spatial'"
                )
        require(
            self.add_trainable_weights or not self.weight_variation_regularization,
            "weight_variation_regularization",
            self.weight_variation_regularization,
            "0 without add_trainable_weights",
        )
        require(
            not (self.separate_evaluation_bn_vars and self.lw_generate_bn),
            "separate_evaluation_bn_vars",
            True,
            "false with lw_generate_bn, which leaves no trained scales to keep apart",
        )
        require(
            not (self.use_decoder and self.layerwise_generator == "separate"),
            "use_decoder",
            True,
            "false with layerwise_generator='separate', which always has a decoder",
        )
        require(
            self.flattens or self.logits_feature_extractor == "default",
            "logits_feature_extractor",
            self.logits_feature_extractor,
            "default, unless cnn_model_name is maxpool-4-layer",
        )
        require(
            self.num_layerwise_features != 0 or self.shared_feature_extractor != "none",
            "num_layerwise_features",
            0,
            "at least 1 where shared_feature_extractor is none",
        )
        require(
            self.shared_head_classes == 0 or self.shared_feature_extractor != "none",
            "shared_head_classes",
            self.shared_head_classes,
            "0 where shared_feature_extractor is none",
        )
        if self.profile == "port":
            for name in ("lw_generate_bn", "use_decoder"):
                require(
                    not getattr(self, name),
                    name,
                    True,
                    "false with profile='port', where it is broken",
                )
            require(
                self.layerwise_generator == "joint",
                "layerwise_generator",
                self.layerwise_generator,
                "joint with profile='port'",
            )

    @property
    def conv_layers(self) -> int:
        """Number of conv layers."""
        return CNN_MODELS[self.cnn_model_name]

    @property
    def flattens(self) -> bool:
        """Whether the CNN pools after every conv and flattens in the end; else it averages over
        space.
        """
        return self.cnn_model_name == "maxpool-4-layer"

    def is_trained(self, index: int) -> bool:
        """Whether conv layer `index` (from 0) has an ordinary trained kernel."""
        trained = self.number_of_trained_cnn_layers
        return index < trained or (trained < 0 and index >= self.conv_layers + trained)

    def sizes(self) -> tuple[int, ...]:
        """Pixels a side of what enters every layer: conv layers, then the logits layer.

        Raises:
            ConfigError: if the images are too small for so many layers.
        """
        sizes = [self.image_size]
        for index in range(self.conv_layers):
            if self.flattens:
                size = -(-sizes[-1] // self.stride) // 2
            else:
                size = (sizes[-1] - self.kernel_size) // self.stride + 1
            require(
                size >= 1,
                "image_size",
                self.image_size,
                f"larger images for {self.cnn_model_name} with stride {self.stride}: conv layer "
                f"{index + 1} gets {sizes[-1]} pixels a side",
            )
            sizes.append(size)
        return tuple(sizes)

    def dimension(self, name: str, width: int) -> int:
        """The size that lw_key_query_dim, lw_value_dim or lw_inner_dim means for tokens of `width`
        entries.

        Joint generators round a fraction up to a multiple of the heads.

        Raises:
            ConfigError: if the heads do not divide a key, query or value size.
        """
        value = getattr(self, name)
        size = int(width * value) if value <= LARGEST_FRACTION else int(value)
        if value <= LARGEST_FRACTION and self.layerwise_generator == "joint":
            size = -(-size // self.heads) * self.heads
        require(
            name == "lw_inner_dim" or (size > 0 and size % self.heads == 0),
            name,
            value,
            f"what gives a multiple of the {self.heads} heads for tokens of width {width} (this is "
            f"{size})",
        )
        return size
