"""Names beside dots: none covers a dot, and those above each other stand in the order of their dots."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.offsetbox import AnnotationBbox, VPacker

from micota.report.label_placement import beside_dots


@pytest.mark.parametrize(
    "dots",
    [
        [(43, 42.7, "Instruct"), (43, 34.3, "Short"), (43, 35.7, "Mix"), (86, 63.6, "Middle")],
        [(43, 43.8, "Instruct"), (43, 46.5, "Short"), (43, 38.2, "Mix"), (209, 26.5, "Half"), (224, 21.8, "Strong")],
        [(192, 21.4, "Strong"), (197, 22.4, "Half"), (195, 24.0, "Third")],
    ],
)
def test_names_above_each_other_are_in_the_order_of_their_dots(dots: list[tuple[float, float, str]]) -> None:
    canvas = Canvas(figsize=(6.4, 4.4))
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    axes.set(xlim=(0, 250), ylim=(10, 75))
    beside_dots(axes, [(x, y, name, f"{y} %") for x, y, name in dots], [])
    canvas.draw_without_rendering()
    boxes = {}
    for one in axes.get_children():
        if isinstance(one, AnnotationBbox) and isinstance(one.offsetbox, VPacker):
            boxes[one.offsetbox.get_children()[0].get_text()] = one.get_window_extent()
    places = {name: axes.transData.transform((x, y)) for x, y, name in dots}
    heights = {name: y for _, y, name in dots}
    assert boxes.keys() == heights.keys()
    for name, box in boxes.items():
        assert not any(box.contains(*place) for place in places.values())
        for other, below in boxes.items():
            if heights[name] > heights[other] and box.x0 < below.x1 and below.x0 < box.x1:
                assert box.y0 >= below.y1, (name, other)
