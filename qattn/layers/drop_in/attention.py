r"""Boltzmann attention with the signature of ``nn.MultiheadAttention``."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from qattn.layers.drop_in.inputs import attended, check_mask, check_shapes
from qattn.layers.multihead import check_dropout
from qattn.layers.pattern import IsingPattern
from qattn.weights import Stored


class BoltzmannMultiheadAttention(Stored, nn.MultiheadAttention):
    r"""``nn.MultiheadAttention`` whose pattern of each query is an Ising model.

    .. math::
        h_{ij} = \tfrac12\Big(\frac{(W^Q x_i) \cdot (W^K y_j)}{\sqrt d} + b\Big), \qquad
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i), \qquad
        o_i = W^O \operatorname{concat}_\text{heads} \sum_j w_{ij} W^V z_j

    with ⟨s⟩ from :math:`p_i(s) \propto \exp(\beta(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k))`
    for queries x, keys y and values z. J couples the positions of the keys: in cross-attention
    those of the other sequence.

    Arguments, inputs, masks and parameters are those of ``nn.MultiheadAttention``, of which it is a
    subclass: the layers of ``nn.Transformer`` take it as their ``self_attn`` and ``multihead_attn``
    (:func:`replace_attention` puts it there), and ``load_state_dict(state, strict=False)`` reads
    the projections of a trained model. PyTorch's fused inference, which would compute softmax
    attention from them, never runs in its place.

    Args:
        embed_dim: Width of queries and output.
        num_heads: Number of heads; divides `embed_dim`.
        dropout: Probability with which, in training mode, each weight is set to 0, the others being
            divided by 1 - `dropout`.
        bias: Projections have biases.
        add_bias_kv: Refused: an added key is no position, and has no row of J.
        add_zero_attn: Refused for the same reason; a query may attend to nothing as it is.
        kdim: Width of keys; None means `embed_dim`.
        vdim: Width of values; None means `embed_dim`.
        batch_first: Inputs are (batch, positions, width) instead of (positions, batch, width).
        device: Where parameters are made; None means PyTorch's default.
        dtype: Their dtype; None means PyTorch's default.
        context: Largest number of keys.
        options: Of :class:`IsingPattern`: couplings, biases, β, backend.

    Raises:
        ValueError: A number is out of range, or an argument is refused; and what
            :class:`IsingPattern` raises.

    Attributes:
        pattern: The :class:`IsingPattern`, whose backend and β may be set between passes, and whose
            ``last_info`` is about the last one.

    >>> attention = BoltzmannMultiheadAttention(8, 2, batch_first=True, context=6)
    >>> layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True)
    >>> layer.self_attn = attention
    >>> layer(torch.randn(3, 6, 8)).shape
    torch.Size([3, 6, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        context: int,
        **options: Any,
    ) -> None:
        for name, added in {"add_bias_kv": add_bias_kv, "add_zero_attn": add_zero_attn}.items():
            if added:
                raise ValueError(
                    f"Argument `{name}` must be False, but is True: the key that it adds is no "
                    f"position and has no row of J; a query may attend to nothing without it."
                )
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"Argument `embed_dim` must be a positive multiple of `num_heads` = {num_heads}, "
                f"but is {embed_dim}."
            )
        check_dropout(dropout)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        super().__init__(
            embed_dim,
            num_heads,
            dropout,
            bias,
            kdim=kdim,
            vdim=vdim,
            batch_first=batch_first,
            **factory,
        )
        # What keeps nn.TransformerEncoderLayer from its fused softmax attention, in every version.
        self._qkv_same_embed_dim = False
        self.pattern = IsingPattern(num_heads, context, **factory, **options)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, for a layer that was made on the meta device, say."""
        self.out_proj.reset_parameters()
        for name, parameter in self.named_parameters(recurse=False):
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter)
        if self.in_proj_bias is not None:
            nn.init.zeros_(self.in_proj_bias)
            nn.init.zeros_(self.out_proj.bias)
        self.pattern.reset_parameters()

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        r"""Output, and the weights if `need_weights`.

        Args:
            query: Shape (queries, batch, embed_dim); (batch, queries, embed_dim) if `batch_first`;
                (queries, embed_dim) for one sequence. Or a nested tensor, of sequences that attend
                to themselves.
            key: Shape (keys, batch, kdim), and so on.
            value: Shape (keys, batch, vdim), and so on.
            key_padding_mask: Shape (batch, keys), or (keys,) for one sequence. True at a key that
                is **not** attended to: an absent spin. Or numbers that are added to the scores;
                where they are -∞ a key is absent.
            need_weights: Return weights. What PyTorch returns has dropout applied, these have not.
            attn_mask: Shape (queries, keys) or (batch · num_heads, queries, keys), likewise: True
                where a query does **not** attend. A query that attends to nothing has weights 0.
            average_attn_weights: Return the mean over heads, shape (batch, queries, keys), and not
                the weights of each, (batch, num_heads, queries, keys).
            is_causal: A hint that `attn_mask` is causal, on which it may be left unread, as in
                PyTorch: if no weights and no padding are asked for.

        Raises:
            ValueError: A shape does not fit, there are more keys than `context`, or `is_causal` is
                given without `attn_mask`.
            TypeError: A mask is neither boolean nor floating.
        """
        if query.is_nested or key.is_nested or value.is_nested:
            masks = key_padding_mask, attn_mask
            return self._of_nested(query, key, value, masks, need_weights, average_attn_weights)
        is_batched = query.ndim == 3
        widths = {"query": self.embed_dim, "key": self.kdim, "value": self.vdim}
        check_shapes((query, key, value), widths, self.batch_first)
        if not is_batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        N, L, S = len(query), query.shape[1], key.shape[1]
        if is_causal and attn_mask is None:
            raise ValueError(
                "Argument `attn_mask` must be given with is_causal=True, which is a hint about it, "
                "but is None: nn.Transformer.generate_square_subsequent_mask(size) makes one."
            )
        check_mask("attn_mask", attn_mask, (L, S), (N * self.num_heads, L, S))
        check_mask("key_padding_mask", key_padding_mask, (N, S))
        # Without a mask, causal models need no search for what each query sees.
        is_causal = is_causal and key_padding_mask is None and not need_weights and L == S
        attn_mask = None if is_causal else attn_mask
        heads, weights = self.pattern(
            *self._projected(query, key, value),
            attended(attn_mask, key_padding_mask, self.num_heads),
            self.dropout if self.training else 0.0,
            is_causal,
            query_rows=torch.arange(L, device=query.device) if L != S else None,
        )
        output = self.out_proj(heads.transpose(1, 2).flatten(2))
        if not is_batched:
            output = output.squeeze(0)
        elif not self.batch_first:
            output = output.transpose(0, 1)
        if not need_weights:
            return output, None
        weights = weights.mean(1) if average_attn_weights else weights
        return output, weights if is_batched else weights.squeeze(0)

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values of the heads."""
        packed = cast("Tensor | None", self.in_proj_weight)
        bias = cast("Tensor | None", self.in_proj_bias)
        separate = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        weights = separate if packed is None else packed.chunk(3)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return [
            F.linear(x, weight, b).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, b in zip((query, key, value), weights, biases, strict=True)
        ]

    def _of_nested(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        masks: tuple[Tensor | None, Tensor | None],
        need_weights: bool,
        average_attn_weights: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Self-attention of a nested tensor, which nn.TransformerEncoder makes of padding."""
        if not (query is key is value and self.batch_first and masks == (None, None)):
            raise ValueError(
                "Argument `query` may be a nested tensor with batch_first=True, without masks, and "
                "if it is `key` and `value` too: pass query.to_padded_tensor(0.0) and "
                "`key_padding_mask` elsewhere."
            )
        sizes = torch.tensor([len(x) for x in query.unbind()], device=query.device)
        x = query.to_padded_tensor(0.0)
        padding = torch.arange(x.shape[1], device=x.device) >= sizes[:, None]
        output, weights = self(x, x, x, padding, need_weights, None, average_attn_weights)
        sequences = [y[:size] for y, size in zip(output, sizes, strict=True)]
        return torch.nested.as_nested_tensor(sequences, layout=query.layout), weights
