"""jax with our arrays: both ways."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import dispatcharr as np
from neighbours import Call, Neighbour, load

jnp = load("jax.numpy")
jx = load("jax")
jax = Neighbour("jax")
works, ours = jax.works, jax.ours


def values(array: Any) -> Any:
    return str(array.dtype), array.shape, array.tolist()


works(
    "jnp.asarray(x), jnp.array(x2d)",
    lambda a: [values(jnp.asarray(a.random(3))), values(jnp.array(a.random(2, 2)))],
)
works("jnp.from_dlpack(x)", lambda a: values(jnp.from_dlpack(a([1.0, 2.0], "f4"))))
works(
    "jnp.stack([x, y]), jnp.concatenate",
    lambda a: [
        values(jnp.stack([a([1.0, 2.0]), a([3.0, 4.0])])),
        values(jnp.concatenate([a([1.0, 2.0]), a([3.0])])),
    ],
)
works(
    "j + x, j * x",
    lambda a: [values(jnp.ones(2) + a([1.0, 2.0])), values(jnp.ones(2) * a([1.0, 2.0]))],
)
works(
    "tree_map over x",
    lambda a: jx.tree_util.tree_map(lambda x: x + 1, {"x": a([1, 2])})["x"].tolist(),
)
works(
    "jnp.sin(x), jnp.dot(x, y), jnp.where(mask, x, y)",
    lambda a: [
        values(jnp.sin(a([1.0, 2.0]))),
        values(jnp.dot(a([1.0, 2.0]), a([3.0, 4.0]))),
        values(jnp.where(a([True, False]), a([1.0, 2.0]), a([3.0, 4.0]))),
    ],
)
works("lax.add(x, y)", lambda a: values(jx.lax.add(a([1.0, 2.0]), a([3.0, 4.0]))))
works(
    "jit(f)(x), jit(f)(y) with x inside of f",
    lambda a: [
        values(jx.jit(lambda x: x * 2)(a([1.0, 2.0]))),
        values(jx.jit(lambda y: y + a([1, 2]))(a([3, 4]))),
    ],
)
works(
    "grad(f)(x), vmap(f)(x2d)",
    lambda a: [
        values(jx.grad(lambda x: (x**2).sum())(a([1.0, 2.0]))),
        values(jx.vmap(lambda x: x.sum())(a.random(3, 2))),
    ],
)
works(
    "device_put(x), lax.scan over x",
    lambda a: [
        values(jx.device_put(a([1.0, 2.0]))),
        values(jx.lax.scan(lambda c, v: (c + v, c * v), 0.0, a([1.0, 2.0]))[1]),
    ],
)
works(
    "j[x], j[mask], j.at[x].set(y)",
    lambda a: [
        values(jnp.arange(3)[a([2, 0])]),
        values(jnp.arange(3)[a([True, False, True])]),
        values(jnp.arange(3.0).at[a([2, 0])].set(a([7.0, 8.0]))),
    ],
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


def test_jax_knows_us_from_the_first_call_on() -> None:
    """Whichever is imported first; and nothing of the import stays behind."""
    code = """
        import sys
        ORDER
        x = np.ones(2, "float32")
        print(CALL)
        print([type(f).__name__ for f in sys.meta_path if getattr(f, "_name", "") == "jax"])
        print(type(jax.__loader__).__module__, type(jax.__spec__.loader).__module__)
    """
    orders = ("import jax, dispatcharr as np", "import dispatcharr as np, jax")
    for order, call in zip(
        orders, ("jax.lax.neg(x)", "jax.grad(lambda v: -v.sum())(x)"), strict=True
    ):
        program = textwrap.dedent(code.replace("ORDER", order).replace("CALL", call))
        made = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        lines = made.stdout.splitlines()
        assert lines[:2] == ["[-1. -1.]", "[]"]
        assert "dispatcharr" not in lines[2]
