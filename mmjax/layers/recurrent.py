"""Recurrent layers over masked sequences: LSTM, GRU and the simple RNN, in one or both directions.

Masked steps keep the state, so that padding on either side, and gaps, change nothing.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mmjax.errors import ConfigError
from mmjax.layers.dropout import checked_dropout

Cell = Literal["gru", "lstm", "rnn"]
GATES: dict[Cell, int] = {"gru": 3, "lstm": 4, "rnn": 1}


def recur(
    cell: Cell,
    inputs: Float[Array, "B T G"],
    kernel: Float[Array, "D G"],
    mask: Bool[Array, "B T"],
    *,
    bias: Float[Array, " D"] | None = None,
    reverse: bool = False,
) -> Float[Array, "B T D"]:
    """The states of a recurrent cell, from a state of zeros; masked steps keep state and cell.

        rnn    h = tanh(a + h U)
        lstm   c = s(a_f + h U_f + 1) c + s(a_i + h U_i) tanh(a_g + h U_g)
               h = s(a_o + h U_o) tanh(c)
        gru    z = s(a_z + h U_z),  r = s(a_r + h U_r)
               h = z h + (1 - z) tanh(a_n + r (h U_n + b))

    s is the logistic function, a the inputs. The gates stand in the order i, f, o, g (LSTM) and
    r, z, n (GRU) in the last axis of inputs and kernel.

    Args:
        cell: which one.
        inputs: a [B, T, G], the products of all inputs with their weights and their biases; G is
            D times 1 (rnn), 3 (gru) or 4 (lstm).
        kernel: U [D, G].
        mask: [B, T] valid steps.
        bias: b [D], of a GRU only; None: 0.
        reverse: whether to go from the last step to the first.

    Returns:
        The state at each step, [B, T, D]; at a masked one, that of the step before (in reverse, the
        step after), and zeros where there is none.

    Reference:
        Elman 1990, Finding Structure in Time. Hochreiter and Schmidhuber 1997, with the forget gate
        of Gers et al. 2000, whose bias starts at 1. Cho et al. 2014, Learning Phrase
        Representations using RNN Encoder-Decoder, equations 5 to 8, with the reset gate after the
        product, so that one product a step is enough.
    """
    inputs = jnp.where(mask[:, :, None], inputs, 0)  # NaN times a weight of 0 would be NaN

    def step(
        carry: tuple[jax.Array, ...], at: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
        (gates, valid), state = at, carry[0]
        of_state = state @ kernel
        if cell == "lstm":
            enter, forget, leave, new = jnp.split(gates + of_state, 4, axis=-1)
            memory = nnx.sigmoid(forget + 1) * carry[1] + nnx.sigmoid(enter) * jnp.tanh(new)
            after: tuple[jax.Array, ...] = (nnx.sigmoid(leave) * jnp.tanh(memory), memory)
        elif cell == "gru":
            (a_r, a_z, a_n), (u_r, u_z, u_n) = (jnp.split(x, 3, axis=-1) for x in (gates, of_state))
            reset, keep = nnx.sigmoid(a_r + u_r), nnx.sigmoid(a_z + u_z)
            new = jnp.tanh(a_n + reset * (u_n if bias is None else u_n + bias))
            after = (keep * state + (1 - keep) * new,)
        else:
            after = (jnp.tanh(gates + of_state),)
        kept = tuple(
            jnp.where(valid[:, None], new, old) for new, old in zip(after, carry, strict=True)
        )
        return kept, kept[0]

    zeros = jnp.zeros_like(inputs[:, 0, : kernel.shape[0]])
    start: tuple[jax.Array, ...] = (zeros, zeros) if cell == "lstm" else (zeros,)
    over_time = (inputs.swapaxes(0, 1), mask.swapaxes(0, 1))
    _, states = jax.lax.scan(step, start, over_time, reverse=reverse)
    return states.swapaxes(0, 1)


class Direction(nnx.Module):
    """One recurrent layer in one direction; see `recur` for the equations."""

    def __init__(
        self,
        cell: Cell,
        d_in: int,
        width: int,
        *,
        reverse: bool = False,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        gates = GATES[cell] * width
        self.from_input = nnx.Linear(d_in, gates, dtype=dtype, rngs=rngs)
        self.from_state = nnx.Linear(
            width,
            gates,
            use_bias=False,
            kernel_init=nnx.initializers.orthogonal(),
            dtype=dtype,
            rngs=rngs,
        )
        if cell == "gru":
            self.bias = nnx.Param(jnp.zeros(width))
        self.cell: Cell = cell
        self.reverse = reverse

    def __call__(self, x: Float[Array, "B T D_in"], mask: Bool[Array, "B T"]) -> jax.Array:
        """[B, T, D_in] to the states [B, T, D]."""
        x = jnp.where(mask[:, :, None], x, 0)  # NaN times a weight of 0 would be NaN
        inputs = self.from_input(x)  # one matrix product for all steps
        kernel = self.from_state.kernel[...].astype(inputs.dtype)
        bias = self.bias[...].astype(inputs.dtype) if self.cell == "gru" else None
        return recur(self.cell, inputs, kernel, mask, bias=bias, reverse=self.reverse)


class Recurrent(nnx.Module):
    """`layers` recurrent layers; with `bidirectional`, half of the width for each direction.

    Args:
        d_in: D_in, width of the inputs.
        width: D of the outputs; even with `bidirectional`.
        cell: `gru`, `lstm` or `rnn`.
        layers: number of layers.
        bidirectional: whether each layer also goes from the last step to the first, and joins both
            states (Schuster and Paliwal 1997, Bidirectional Recurrent Neural Networks).
        dropout: rate on the input of every layer, in [0, 1); never from one step to the next
            (Zaremba, Sutskever and Vinyals 2014, Recurrent Neural Network Regularization).
        dtype: of the computation.
        rngs: initialises the parameters.

    Raises:
        ConfigError: an unknown cell, or an odd width in two directions.
    """

    def __init__(
        self,
        d_in: int,
        width: int,
        *,
        cell: Cell = "gru",
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        if cell not in GATES:
            names = ", ".join(map(repr, get_args(Cell)))
            raise ConfigError(f"There is no recurrent cell {cell!r}: choose one of {names}.")
        if bidirectional and width % 2:
            raise ConfigError(
                f"A width of {width} cannot be split into two directions: choose an even width."
            )
        each = width // 2 if bidirectional else width
        self.dropout = checked_dropout(dropout)
        directions = (False, True) if bidirectional else (False,)
        self.layers = nnx.List(
            [
                nnx.List(
                    [
                        Direction(
                            cell,
                            width if layer else d_in,
                            each,
                            reverse=reverse,
                            dtype=dtype,
                            rngs=rngs,
                        )
                        for reverse in directions
                    ]
                )
                for layer in range(layers)
            ]
        )

    def __call__(
        self,
        x: Float[Array, "B T D_in"],
        mask: Bool[Array, "B T"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "B T D"]:
        """The states at every step; see `recur` for those at masked steps."""
        for layer in self.layers:
            x = self.dropout(x, deterministic=not train, rngs=rngs)
            x = jnp.concatenate([direction(x, mask) for direction in layer], axis=-1)
        return x
