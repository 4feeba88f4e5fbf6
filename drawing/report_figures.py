"""The report's figures: each without its words, which stand below it as text, and beside others with the same notes.

The script of the page (report.js) lets a reader enlarge them.
"""

import base64
import io
from dataclasses import dataclass
from itertools import groupby

from drawing.canvas import METADATA, Drawing, look
from drawing.report_tables import text
from imports import matplotlib


@dataclass(frozen=True)
class Picture:
    """A figure as it goes to the page.

    name: of its file and its id; section: where it stands.
    """

    name: str
    drawing: Drawing
    section: str


def figures(pictures: list[Picture]) -> str:
    """Side by side those with the same notes; below them, once, the notes and their keys."""
    groups = groupby(pictures, key=lambda picture: picture.drawing.sheet.notes)
    return "".join(_group(list(group)) for _, group in groups)


def _group(pictures: list[Picture]) -> str:
    drawings = [picture.drawing for picture in pictures]
    shared = {drawing.sheet.subtitle for drawing in drawings}
    about = f"{shared.pop()}. " if len(shared) == 1 else ""
    shown, keys = "", {}
    for picture, drawing in zip(pictures, drawings, strict=True):
        plot, key = parts(drawing)
        if key:
            keys.setdefault(key, [" ".join(label.get_text().split()) for label in drawing.sheet.legend.get_texts()])
        words = [f"<strong>{text(drawing.sheet.title)}.</strong>", "" if about else f"{text(drawing.sheet.subtitle)}."]
        words = " ".join(filter(None, [*words, text(drawing.summary)]))
        shown += f'<figure id="{picture.name}"><div class="frame">{_image(plot, drawing.alt)}</div>'
        shown += f"<figcaption>{words}</figcaption></figure>\n"
    drawn = "".join(_image(key, f"Key: {', '.join(labels)}", "key") for key, labels in keys.items())
    notes = f'<p class="soft">{text(about + drawings[0].sheet.notes)}</p>'
    return f'<div class="group"><div class="pictures">\n{shown}</div><div class="under">{drawn}{notes}</div></div>\n'


def _image(svg: bytes, alt: str, kind: str = "plot") -> str:
    data = base64.b64encode(svg).decode("ascii")
    return f'<img class="{kind}" src="data:image/svg+xml;base64,{data}" alt="{text(alt)}">'


def parts(drawing: Drawing) -> tuple[bytes, bytes | None]:
    """The panels alone, and the key alone if there is one, as svg; the figure is left without them."""
    sheet, box = drawing.sheet, matplotlib.transforms.Bbox.from_extents
    key = None
    with look():
        for words in sheet.texts:
            words.set_visible(False)
        if sheet.legend:
            drawing.figure.draw_without_rendering()
            around = sheet.legend.get_window_extent().padded(3)
            sheet.legend.set_visible(False)
        lower, upper, right = sheet.edges
        plot = _svg(drawing.figure, box(0, lower, right, upper))
        if sheet.legend:
            for ax in drawing.figure.axes:
                ax.set_visible(False)
            sheet.legend.set_visible(True)
            key = _svg(drawing.figure, around.transformed(drawing.figure.dpi_scale_trans.inverted()))
    return plot, key


def _svg(figure, inches) -> bytes:
    """This part of a figure."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", bbox_inches=inches, metadata=METADATA["svg"])
    return file.getvalue()
