"""seaborn with our arrays."""

from __future__ import annotations

from typing import Any

from neighbours import Call, Neighbour, load

load("matplotlib").use("Agg")
plt = load("matplotlib.pyplot")
sns = load("seaborn")
seaborn = Neighbour("seaborn")


def pixels(draw: Any) -> bytes:
    figure, axes = plt.subplots(figsize=(2, 2), dpi=40)
    try:
        draw(axes)
        figure.canvas.draw()
        return bytes(figure.canvas.buffer_rgba())
    finally:
        plt.close(figure)


seaborn.works(
    "histplot(x), kdeplot(x)",
    lambda a: pixels(
        lambda ax: (sns.histplot(a.random(30), ax=ax), sns.kdeplot(a.random(30), ax=ax))
    ),
)
seaborn.works(
    "scatterplot(x=x, y=y, hue=z)",
    lambda a: pixels(
        lambda ax: sns.scatterplot(
            x=a.random(9), y=a.random(9, seed=1), hue=a([0, 1, 2] * 3), ax=ax
        )
    ),
)
seaborn.works("heatmap(x2d)", lambda a: pixels(lambda ax: sns.heatmap(a.random(3, 3), ax=ax)))
seaborn.works(
    "boxplot(x2d), violinplot(x)",
    lambda a: pixels(
        lambda ax: (sns.boxplot(a.random(20, 3), ax=ax), sns.violinplot(a.random(20), ax=ax))
    ),
)
seaborn.works(
    "lineplot(x=x, y=y)",
    lambda a: pixels(lambda ax: sns.lineplot(x=a([0.0, 1, 2]), y=a.random(3), ax=ax)),
)


@seaborn.parametrize()
def test_call(call: Call, state: str) -> None:
    call.check(state)
