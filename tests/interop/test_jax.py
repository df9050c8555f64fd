"""jax with our arrays: both ways."""

from __future__ import annotations

from typing import Any

import pytest

import dispatcharr as np
from neighbours import Call, Neighbour, load

jnp = load("jax.numpy")
jx = load("jax")
jax = Neighbour("jax")
works, ours, refused = jax.works, jax.ours, jax.refused
REMEDY = "or `jnp.asarray(x)`"


def values(array: Any) -> Any:
    return str(array.dtype), array.shape, array.tolist()


works(
    "jnp.asarray(x), jnp.array(x2d)",
    lambda a: [values(jnp.asarray(a.random(3))), values(jnp.array(a.random(2, 2)))],
)
works("jnp.from_dlpack(x)", lambda a: values(jnp.from_dlpack(a([1.0, 2.0], "f4"))))
works(
    "jnp.stack([x, y]), jnp.concatenate",
    lambda a: values(jnp.stack([a([1.0, 2.0]), a([3.0, 4.0])])),
)
works(
    "j + x, j * x",
    lambda a: [values(jnp.ones(2) + a([1.0, 2.0])), values(jnp.ones(2) * a([1.0, 2.0]))],
)
works(
    "tree_map over x",
    lambda a: jx.tree_util.tree_map(lambda x: x + 1, {"x": a([1, 2])})["x"].tolist(),
)
refused(
    "jnp.sin(x), jnp.dot(x, y), jnp.where",
    lambda a: values(jnp.sin(a([1.0, 2.0]))),
    TypeError,
    ValueError,
    note=REMEDY,
)
refused(
    "jit(f)(x)",
    lambda a: values(jx.jit(lambda x: x * 2)(a([1.0, 2.0]))),
    TypeError,
    ValueError,
    note=REMEDY,
)
refused(
    "grad(f)(x), vmap(f)(x)",
    lambda a: values(jx.grad(lambda x: (x**2).sum())(a([1.0, 2.0]))),
    TypeError,
    ValueError,
    note=REMEDY,
)
refused(
    "device_put(x), lax.scan over x",
    lambda a: values(jx.device_put(a([1.0, 2.0]))),
    TypeError,
    ValueError,
    note=REMEDY,
)
refused(
    "j[x], j.at[x].set(y)",
    lambda a: values(jnp.arange(3)[a([2, 0])]),
    IndexError,
    ValueError,
    note=REMEDY,
)
ours(
    "np.asarray(j), np.array(j)",
    lambda a: [a.np.asarray(jnp.arange(3)), a.np.array(jnp.ones((2, 2)))],
)
ours("np.from_dlpack(j)", lambda a: a.np.from_dlpack(jnp.arange(3)))
works("x + j", lambda a: values(a([1.0, 2.0], "f4") + jnp.ones(2)))


@jax.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)


def test_what_jax_was_given_does_not_change() -> None:
    array = np.arange(4, dtype="float32")
    given = jnp.array(array)
    array[0] = 9
    assert given[0] == 0


def test_the_error_of_a_transformation_says_to_convert() -> None:
    with pytest.raises(ValueError, match=r"explicitly convert your object using jax.numpy.array"):
        jx.jit(lambda x: x * 2)(np.ones(2))
