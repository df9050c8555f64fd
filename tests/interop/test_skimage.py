"""scikit-image with our arrays."""

from __future__ import annotations

from neighbours import Call, Neighbour, load

for _name in ("color", "exposure", "feature", "filters", "measure", "morphology", "transform"):
    load(f"skimage.{_name}")
sk = load("skimage")
skimage = Neighbour("scikit-image")
works, ours, numpys = skimage.works, skimage.ours, skimage.numpys
numpys(
    "filters.gaussian, sobel, median(x)",
    lambda a: [
        sk.filters.gaussian(a.random(8, 8)),
        sk.filters.sobel(a.random(8, 8)),
        sk.filters.median(a.random(8, 8)),
    ],
)
works("filters.threshold_otsu(x)", lambda a: sk.filters.threshold_otsu(a.random(8, 8)))
numpys(
    "transform.resize, rotate(x)",
    lambda a: [
        sk.transform.resize(a.random(8, 8), (4, 4)),
        sk.transform.rotate(a.random(8, 8), 30),
    ],
)
numpys(
    "color.rgb2gray, rgb2hsv",
    lambda a: [sk.color.rgb2gray(a.random(4, 4, 3)), sk.color.rgb2hsv(a.random(4, 4, 3))],
)
numpys("measure.label(x)", lambda a: sk.measure.label(a.random(8, 8) > 0.5))
works(
    "measure.regionprops(x, intensity_image=y)",
    lambda a: [
        (int(r.area), float(r.intensity_mean))
        for r in sk.measure.regionprops(a([[1, 1], [2, 0]]), intensity_image=a.random(2, 2))
    ],
)
ours("morphology.erosion(x)", lambda a: sk.morphology.erosion(a.random(8, 8)))
numpys("feature.canny(x)", lambda a: sk.feature.canny(a.random(8, 8)))
ours("exposure.equalize_hist(x)", lambda a: sk.exposure.equalize_hist(a.random(8, 8)))


@skimage.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
