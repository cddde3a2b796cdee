"""What can go wrong when the example's captioner is ported: one fault in each kind of its layers.

All keep names and shapes, so that nothing but the numbers tells. A fault is a function that changes
the Paddle model. Layers that are written anew are right where `faulty` is off, which a test holds.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as PF
from paddle import nn


class WithoutBias(nn.Linear):
    faulty = True

    def forward(self, x):
        return PF.linear(x, self.weight, None if self.faulty else self.bias)


class Flipped(nn.Conv2DTranspose):
    """A kernel that is turned around."""

    faulty = True

    def forward(self, x):
        weight = self.weight.flip([2, 3]) if self.faulty else self.weight
        return PF.conv2d_transpose(x, weight, self.bias, stride=2, padding=1, output_padding=1)


class Backwards(nn.GRU):
    """Reads the sentence from its end."""

    faulty = True

    def forward(self, words):
        if not self.faulty:
            return super().forward(words)
        states, last = super().forward(words.flip([1]))
        return states.flip([1]), last


class ResetBefore(nn.GRU):
    """Keras's older convention: the reset gate acts before the matrix product, not after it."""

    faulty = True

    def forward(self, words):
        state = paddle.zeros([words.shape[0], self.hidden_size], words.dtype)
        weight, bias = self.weight_hh_l0.chunk(3)[2].t(), self.bias_hh_l0.chunk(3)[2]
        states = []
        for word in words.unbind(1):
            x = PF.linear(word, self.weight_ih_l0.t(), self.bias_ih_l0).chunk(3, -1)
            h = PF.linear(state, self.weight_hh_l0.t(), self.bias_hh_l0).chunk(3, -1)
            reset, update = PF.sigmoid(x[0] + h[0]), PF.sigmoid(x[1] + h[1])
            gated = PF.linear(reset * state, weight, bias) if self.faulty else reset * h[2]
            state = (1 - update) * paddle.tanh(x[2] + gated) + update * state
            states.append(state)
        return paddle.stack(states, 1), state.unsqueeze(0)


class Unscaled(nn.MultiHeadAttention):
    """Forgets to divide the scores by the root of a head's width."""

    faulty = True

    def forward(self, query, key, value):
        q, k, v = self._prepare_qkv(query, key, value)[:3]
        scores = paddle.matmul(q, k, transpose_y=True)
        weights = PF.softmax(scores if self.faulty else scores / self.head_dim**0.5)
        return self.out_proj(paddle.matmul(weights, v).transpose([0, 2, 1, 3]).flatten(2))


def swap(path: str, layer):
    """A function that puts another layer where `path` leads."""

    def plant(net):
        owner, _, name = path.rpartition(".")
        setattr(getattr(net, owner), name, layer())

    return plant


IN_LAYERS = {
    "conv_padding": (
        swap("image.conv", lambda: nn.Conv2D(3, 8, 3, 2, padding=1, padding_mode="replicate")),
        "encoder.stem",
    ),
    "group_norm_eps": (
        swap("image.group_norm", lambda: nn.GroupNorm(2, 8, epsilon=1e-3)),
        "encoder.norm",
    ),
    "group_norm_groups": (swap("image.group_norm", lambda: nn.GroupNorm(4, 8)), "encoder.norm"),
    "transposed_conv_flipped": (
        swap("image.deconv", lambda: Flipped(8, 16, 3, 2, padding=1, output_padding=1)),
        "encoder.upsample",
    ),
    "transposed_conv_padded_on_the_other_side": (
        swap("image.deconv", lambda: nn.Conv2DTranspose(8, 16, 3, 2, padding=[0, 1, 0, 1])),
        "encoder.upsample",
    ),
    "embedding_padding_row": (
        swap("text.embed", lambda: nn.Embedding(30, 16, padding_idx=0)),
        "decoder.embedding",
    ),
    "gru_backwards": (swap("text.rnn", lambda: Backwards(16, 16)), "decoder.gru"),
    "gru_reset_gate": (swap("text.rnn", lambda: ResetBefore(16, 16)), "decoder.gru"),
    "layer_norm_eps": (
        swap("text.layer_norm", lambda: nn.LayerNorm(16, epsilon=1e-3)),
        "decoder.norm",
    ),
    "attention_heads": (
        swap("text.attend", lambda: nn.MultiHeadAttention(16, 2)),
        "decoder.attention",
    ),
    "attention_unscaled": (
        swap("text.attend", lambda: Unscaled(16, 4)),
        "decoder.attention",
    ),
    "linear_without_its_bias": (
        swap("text.head", lambda: WithoutBias(16, 30)),
        "decoder.classifier",
    ),
}


# In functional code


def without_relu(net):
    image = net.image
    image.forward = lambda x: image.deconv(image.group_norm(image.conv(x)))


def scaled_embedding(net):
    text = net.text

    def forward(ids, tokens):
        states, _ = text.rnn(text.embed(ids) * 16**0.5 + text.positions)
        query = text.layer_norm(states)
        seen = text.attend(query, tokens, tokens)
        return {"logits": text.head(query + seen), "seen": seen}

    text.forward = forward


def unnormalised_query(net):
    text = net.text

    def forward(ids, tokens):
        states, _ = text.rnn(text.embed(ids) + text.positions)
        query = text.layer_norm(states)
        seen = text.attend(states, tokens, tokens)
        return {"logits": text.head(query + seen), "seen": seen}

    text.forward = forward
