"""Pillow with our arrays: pictures from arrays, arrays from pictures."""

from __future__ import annotations

import io
from typing import Any

from neighbours import Arrays, Call, Neighbour, load

Image = load("PIL.Image")
pillow = Neighbour("pillow")
works, ours = pillow.works, pillow.ours


def picture(a: Arrays, *shape: int) -> Any:
    return a((a.random(*shape).__array__() * 255).astype("uint8"))


works(
    "Image.fromarray(x) of one band and of more",
    lambda a: [Image.fromarray(picture(a, *s)).tobytes() for s in ((4, 6), (4, 6, 3), (4, 6, 4))],
)
works(
    "Image.fromarray(x.T), x[::2]",
    lambda a: [
        Image.fromarray(picture(a, 4, 6).T).tobytes(),
        Image.fromarray(picture(a, 4, 6)[::2]).tobytes(),
    ],
)
works(
    "Image.fromarray(x) of floats, ints, bools",
    lambda a: [
        Image.fromarray(a.random(2, 2).astype("f4")).tobytes(),
        Image.fromarray(a([[1, 2]], "i4")).mode,
        Image.fromarray(a([[True, False]])).mode,
    ],
)
works("Image.fromarray(x).save(file)", lambda a: saved(picture(a, 4, 6, 3)))
works(
    "Image.frombytes, frombuffer(x)",
    lambda a: [
        Image.frombytes("L", (6, 4), bytes(picture(a, 4, 6))).tobytes(),
        Image.frombuffer("L", (6, 4), picture(a, 4, 6), "raw", "L", 0, 1).tobytes(),
    ],
)
works(
    "Image.point(x), putalpha(fromarray(x))",
    lambda a: [
        Image.fromarray(picture(a, 4, 6)).point(a(range(256), "u1")).tobytes(),
        covered(a).tobytes(),
    ],
)
ours(
    "np.asarray(Image), np.array(Image)",
    lambda a: [
        a.np.asarray(Image.new("RGB", (3, 2), "red")),
        a.np.array(Image.new("L", (3, 2), 7)),
    ],
)
ours("np.asarray(Image) / 255.0", lambda a: a.np.asarray(Image.new("RGB", (3, 2), "red")) / 255.0)


def covered(a: Arrays) -> Any:
    made = Image.fromarray(picture(a, 4, 6, 3))
    made.putalpha(Image.fromarray(picture(a, 4, 6)))
    return made


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


@pillow.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
