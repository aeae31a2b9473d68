"""How the output of a sublayer joins its input: one class per variant, each used around every sublayer.

Shapes: ... whatever comes before the width, D d_model.
"""

from torch import Tensor, nn

from fsgr_model.config.model_params import ResidualKind


class PostNorm(nn.Module):
    """norm(x + f(x)), the original transformer (arXiv 1706.03762, section 3.1).

    `before` returns the input of the sublayer f, `after` joins the output of f with x.
    """

    def __init__(self, d_model: int, dropout: nn.Dropout) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = dropout

    def before(self, x: Tensor) -> Tensor:
        """What the sublayer reads, of the same shape [..., D]."""
        return x

    def after(self, x: Tensor, query: Tensor, output: Tensor) -> Tensor:
        """The stream after the sublayer; `query` is its query, positions included."""
        return self.norm(x + self.dropout(output))


class DoublePostNorm(PostNorm):
    """norm(x + inner_norm(query + f)): the residual twice, first onto the query with its positions.

    The code that the reference copy of FSGR is based on does so (RSTNet, CVPR 2021): its attention has a
    residual and a norm of its own within a layer that has them too. It applies to attention only.
    """

    def __init__(self, d_model: int, dropout: nn.Dropout) -> None:
        super().__init__(d_model, dropout)
        self.inner_norm = nn.LayerNorm(d_model)

    def after(self, x: Tensor, query: Tensor, output: Tensor) -> Tensor:
        return super().after(x, query, self.inner_norm(query + self.dropout(output)))


class PreNorm(PostNorm):
    """x + f(norm(x)) (arXiv 2002.04745); the stream is normed once more after the last layer."""

    def before(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def after(self, x: Tensor, query: Tensor, output: Tensor) -> Tensor:
        return x + self.dropout(output)


AROUND_ATTENTION = {"post": PostNorm, "double": DoublePostNorm, "pre": PreNorm}
AROUND_FEED_FORWARD = {**AROUND_ATTENTION, "double": PostNorm}


def around_attention(kind: ResidualKind, d_model: int, dropout: nn.Dropout) -> PostNorm:
    """The residual of an attention sublayer."""
    return AROUND_ATTENTION[kind](d_model, dropout)


def around_feed_forward(kind: ResidualKind, d_model: int, dropout: nn.Dropout) -> PostNorm:
    """The residual of a feed-forward sublayer."""
    return AROUND_FEED_FORWARD[kind](d_model, dropout)


def final_norm(kind: ResidualKind, d_model: int) -> nn.Module:
    """The norm after the last layer; the identity where the layers already end with one."""
    return nn.LayerNorm(d_model) if kind == "pre" else nn.Identity()
