"""OpenCV, which takes NumPy's own arrays only."""

from __future__ import annotations

from neighbours import Call, Neighbour, load

cv2 = load("cv2")
opencv = Neighbour("opencv", "opencv-python-headless")
opencv.refused(
    "GaussianBlur(x, ...)",
    lambda a: cv2.GaussianBlur(a.random(8, 8), (3, 3), 0),
    cv2.error,
    TypeError,
)
opencv.refused(
    "resize(x, shape)", lambda a: cv2.resize(a.random(8, 8), (4, 4)), cv2.error, TypeError
)
opencv.refused(
    "cvtColor(x, code)",
    lambda a: cv2.cvtColor(a([[[1, 2, 3]]], "u1"), cv2.COLOR_BGR2GRAY),
    cv2.error,
    TypeError,
)
opencv.refused(
    "imencode('.png', x)",
    lambda a: cv2.imencode(".png", a([[1, 2]], "u1"))[0],
    cv2.error,
    TypeError,
)


@opencv.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
