"""Small versions of third-party networks, built from their configuration without weights."""

import torch
import transformers as hf
from torch import nn
from torch.nn.utils import parametrize

IMAGE = (3, 32, 32)
VISION = {"num_labels": 3, "image_size": 32}


def _mobilenet_v1():
    return hf.MobileNetV1ForImageClassification(
        hf.MobileNetV1Config(depth_multiplier=0.25, min_depth=4, **VISION)
    )


def _mobilenet_v2():
    return hf.MobileNetV2ForImageClassification(
        hf.MobileNetV2Config(depth_multiplier=0.25, **VISION)
    )


def _mobilevit():
    return hf.MobileViTForImageClassification(
        hf.MobileViTConfig(
            hidden_sizes=[8, 12, 16],
            neck_hidden_sizes=[4, 8, 8, 12, 12, 16, 24],
            num_attention_heads=2,
            **VISION | {"image_size": 64},
        )
    )


def _resnet():
    return hf.ResNetForImageClassification(
        hf.ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 2],
            layer_type="bottleneck",
            num_labels=3,
        )
    )


def _regnet():
    return hf.RegNetForImageClassification(
        hf.RegNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 16],
            depths=[1, 2],
            groups_width=4,
            layer_type="y",
            num_labels=3,
        )
    )


def _convnext():
    return hf.ConvNextForImageClassification(
        hf.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, **VISION)
    )


def _efficientnet():
    return hf.EfficientNetForImageClassification(
        hf.EfficientNetConfig(
            width_coefficient=0.25, depth_coefficient=0.5, hidden_dim=320, **VISION
        )
    )


def _vit():
    return hf.ViTForImageClassification(
        hf.ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            patch_size=8,
            **VISION,
        )
    )


def _swin():
    return hf.SwinForImageClassification(
        hf.SwinConfig(
            embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=4, patch_size=2, **VISION
        )
    )


def _distilbert():
    return hf.DistilBertForSequenceClassification(
        hf.DistilBertConfig(
            vocab_size=50,
            max_position_embeddings=16,
            dim=16,
            n_layers=2,
            n_heads=2,
            hidden_dim=32,
            num_labels=3,
        )
    )


def _bert():
    return hf.BertForSequenceClassification(
        hf.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=20,
            num_labels=3,
        )
    )


def _gpt2(tied=False):
    return hf.GPT2LMHeadModel(
        hf.GPT2Config(
            vocab_size=50,
            n_positions=16,
            n_embd=16,
            n_layer=2,
            n_head=2,
            use_cache=False,
            tie_word_embeddings=tied,
        )
    )


def _wav2vec2():
    return hf.Wav2Vec2ForSequenceClassification(
        hf.Wav2Vec2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8, 8),
            conv_stride=(5, 2),
            conv_kernel=(10, 3),
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            classifier_proj_size=8,
            num_labels=3,
            num_feat_extract_layers=2,
        )
    )


def _deit():
    return hf.DeiTForImageClassification(
        hf.DeiTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            patch_size=8,
            **VISION,
        )
    )


def _poolformer():
    return hf.PoolFormerForImageClassification(
        hf.PoolFormerConfig(hidden_sizes=[8, 12, 16, 16], depths=[1, 1, 1, 1], num_labels=3)
    )


def _segformer():
    return hf.SegformerForSemanticSegmentation(
        hf.SegformerConfig(
            num_encoder_blocks=2,
            hidden_sizes=[8, 16],
            depths=[1, 1],
            num_attention_heads=[1, 2],
            sr_ratios=[4, 2],
            patch_sizes=[7, 3],
            strides=[4, 2],
            mlp_ratios=[2, 2],
            decoder_hidden_size=8,
            num_labels=3,
        )
    )


def _opt():
    return hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=50,
            hidden_size=16,
            word_embed_proj_dim=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            ffn_dim=32,
            max_position_embeddings=20,
            use_cache=False,
            tie_word_embeddings=False,
        )
    )


def _spectrogram():
    return hf.ASTForAudioClassification(
        hf.ASTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            patch_size=8,
            frequency_stride=8,
            time_stride=8,
            max_length=32,
            num_mel_bins=16,
            num_labels=3,
        )
    )


def _hubert():
    return hf.HubertForSequenceClassification(
        hf.HubertConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            conv_dim=(8, 8),
            conv_stride=(5, 2),
            conv_kernel=(10, 3),
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
            classifier_proj_size=8,
            num_labels=3,
            num_feat_extract_layers=2,
        )
    )


class _Pooled(nn.Module):
    """Torch's own encoder layers between a projection and a classifier, samples second or first."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(6, 8)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2
        )
        self.look = nn.MultiheadAttention(8, 2, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, rows):
        tokens = self.encoder(self.project(rows)).transpose(0, 1)
        tokens = tokens + self.look(tokens, tokens, tokens)[0]
        return (self.head(tokens.mean(0)),)


def _transformer():
    return _Pooled()


ARCHITECTURES = {
    "mobilenet-v1": (_mobilenet_v1, IMAGE),
    "mobilenet-v2": (_mobilenet_v2, IMAGE),
    "resnet": (_resnet, IMAGE),
    "regnet": (_regnet, IMAGE),
    "efficientnet": (_efficientnet, IMAGE),
    "convnext": (_convnext, IMAGE),
    "vit": (_vit, IMAGE),
    "distilbert": (_distilbert, (6,)),
    "gpt2": (_gpt2, (6,)),
    "gpt2-tied": (lambda: _gpt2(tied=True), (6,)),
    "transformer": (_transformer, (5, 6)),
    "swin": (_swin, IMAGE),
    "mobilevit": (_mobilevit, (3, 64, 64)),
    "wav2vec2": (_wav2vec2, (400,)),
    "deit": (_deit, IMAGE),
    "poolformer": (_poolformer, IMAGE),
    "segformer": (_segformer, IMAGE),
    "opt": (_opt, (6,)),
    "bert": (_bert, (6,)),
    "ast": (_spectrogram, (32, 16)),
    "hubert": (_hubert, (400,)),
}


def built(name):
    """The network with random weights and a batch of two samples, from a fixed seed.

    Batch norms are in training mode, all else in evaluation; weight norms are folded.
    """
    make, shape = ARCHITECTURES[name]
    torch.manual_seed(0)
    module = make().eval()
    for part in list(module.modules()):
        if parametrize.is_parametrized(part):
            parametrize.remove_parametrizations(part, "weight")
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
            parameter.normal_(std=fan_in**-0.5)
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
    tokens = name in ("distilbert", "gpt2", "gpt2-tied", "opt", "bert")
    batch = torch.randint(2, 40, (2, *shape)) if tokens else torch.randn(2, *shape)
    return module, batch
