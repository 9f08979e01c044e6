"""Pages that a person opens: tables, charts and previews in one file."""

from typing import TYPE_CHECKING

from cmcr.lazy import lazily

if TYPE_CHECKING:
    from cmcr.report.charts import (
        data_uri,
        draw_point_cloud,
        heat_map,
        heat_maps,
        image_uri,
        line_chart,
        render,
        results_table,
        stacked_bars,
    )
    from cmcr.report.intervals import interval_chart
    from cmcr.report.page import Answer, Section, beside, gallery
    from cmcr.report.previews import Card, Media, Previews, readable_name, shortened

__all__ = [
    "Answer",
    "Card",
    "Media",
    "Previews",
    "Section",
    "beside",
    "data_uri",
    "draw_point_cloud",
    "gallery",
    "heat_map",
    "heat_maps",
    "image_uri",
    "interval_chart",
    "line_chart",
    "readable_name",
    "render",
    "results_table",
    "shortened",
    "stacked_bars",
]

__getattr__ = lazily(
    __name__,
    {
        "charts": (
            "data_uri",
            "draw_point_cloud",
            "heat_map",
            "heat_maps",
            "image_uri",
            "line_chart",
            "render",
            "results_table",
            "stacked_bars",
        ),
        "intervals": ("interval_chart",),
        "page": ("Answer", "Section", "beside", "gallery"),
        "previews": ("Card", "Media", "Previews", "readable_name", "shortened"),
    },
)
