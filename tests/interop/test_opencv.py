"""OpenCV, which takes NumPy's own arrays only."""

from __future__ import annotations

from neighbours import Call, Neighbour, given, load

cv2 = load("cv2")
opencv = Neighbour("opencv", "opencv-python-headless")
opencv.refused(
    "GaussianBlur(x, ...)",
    given(lambda a: a.random(8, 8), lambda x: cv2.GaussianBlur(x, (3, 3), 0)),
    cv2.error,
    TypeError,
)
opencv.refused(
    "resize(x, shape)",
    given(lambda a: a.random(8, 8), lambda x: cv2.resize(x, (4, 4))),
    cv2.error,
    TypeError,
)
opencv.refused(
    "cvtColor(x, code)",
    given(lambda a: a([[[1, 2, 3]]], "u1"), lambda x: cv2.cvtColor(x, cv2.COLOR_BGR2GRAY)),
    cv2.error,
    TypeError,
)
opencv.refused(
    "imencode('.png', x)",
    given(lambda a: a([[1, 2]], "u1"), lambda x: cv2.imencode(".png", x)[0]),
    cv2.error,
    TypeError,
)


@opencv.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
