"""The pages of localisation and counterfactual recognition: pictures with what is true and what was answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from markupsafe import Markup
from PIL import Image, ImageDraw

from cmcr.decode.images import read_image
from cmcr.errors import ItemError
from cmcr.evaluate.localization.counterfactual import table_of
from cmcr.evaluate.localization.locate import Located, Outcome, Shape
from cmcr.evaluate.page import FILES, interval, numbers_table, sentence
from cmcr.evaluate.result import Result
from cmcr.modality import Modality
from cmcr.numbers import localization as measured
from cmcr.report import Media, Previews, Section, image_uri, line_chart, render
from cmcr.report.page import page

SHOWN = 6
"""Examples of each kind."""
SIDE = 320
"""Pixels of the longer side of a drawn picture."""
TRUE, ANSWERED = (30, 136, 229), (245, 124, 0)
"""Blue and orange, which the colour-blind tell apart."""
LEGEND = "Blue: where the annotators say the sound comes from. {}."
_TELLS = {
    "box": "Orange: the proposal whose crop is nearest to the sound",
    "heat": "Lit: the upper half of the heat map",
}


def localization_page(done: Outcome, subject: str, shape: Shape) -> str:
    """Return the page of a localisation: the numbers, the share found at every cIoU, the best and the worst answers."""
    ordered = sorted(done.located, key=lambda each: (-each.ciou, each.clip.id))
    previews = Previews()
    best, worst = ordered[:SHOWN], ordered[SHOWN:][::-1][:SHOWN]
    shares = {
        "answers": measured.success([each.ciou for each in ordered]),
        "best proposals": measured.success([each.cious.max() for each in ordered]),
        "chance": np.mean([measured.success(each.guesses) for each in ordered], axis=0),
    }
    curves = {name: _curve(measured.THRESHOLDS, share) for name, share in shares.items()}
    chart = line_chart("Share of sources found", curves, "cIoU at least", "share")
    sections = [
        _numbers(done.result),
        Section("How exactly", "AUC is the area under such a curve.", chart),
        _examples("The best answers", best, shape, previews),
        _examples("The worst answers", worst, shape, previews),
    ]
    lead = "A sound, and the part of its picture whose crop lies nearest to it."
    title = "Where does the sound come from?"
    return page(title, [each for each in sections if each.body], lead, _facts(done, subject), FILES)


def counterfactual_page(done: Outcome, subject: str, shape: Shape) -> str:
    """Return the page of a recognition: the numbers, precision over recall, the surest answers right and wrong."""
    ordered = sorted(done.located, key=lambda each: (-each.confidence, each.clip.id))
    previews = Previews()

    def of(wanted: Callable[[Located], bool]) -> list[Located]:
        return [each for each in ordered if wanted(each)]

    right = of(lambda each: each.clip.sounding and each.ciou >= measured.HALF)
    astray = of(lambda each: each.clip.sounding and each.ciou < measured.HALF)
    fooled = of(lambda each: not each.clip.sounding)
    table = table_of(done.located)
    precision, recall = measured.precision_recall(*table, np.unique(table[0])[::-1])
    spread = {
        "something sounds": _histogram(table[0], table[0][table[1]]),
        "nothing does": _histogram(table[0], table[0][~table[1]]),
    }
    sections = [
        _numbers(done.result),
        Section(
            "From the surest answer on",
            body=line_chart("Precision over recall", {"answers": _curve(recall, precision)}, "recall", "precision"),
        ),
        Section(
            "How sure",
            "Confidences of pairs in which something sounds, and of those in which nothing does.",
            line_chart("Confidence", spread, "confidence", "share of the pairs"),
        ),
        _examples("The surest right answers", right[:SHOWN], shape, previews),
        _examples("The surest answers in the wrong place", astray[:SHOWN], shape, previews),
        _examples("Nothing in the picture sounds, and it was surest here", fooled[:SHOWN], shape, previews),
    ]
    lead = "Is what sounds in the picture at all, and where? Half of the pairs are mismatched or silent."
    title = "Heard, and seen?"
    return page(title, [each for each in sections if each.body], lead, _facts(done, subject), FILES)


PAGES = {"localization": localization_page, "counterfactual": counterfactual_page}


def _numbers(result: Result) -> Section:
    first = next(iter(result.values.values()))
    ranges = [f"{name} {told}" for name in result.chance if (told := interval(first, name))]
    text = f"95 % intervals of the first row: {'; '.join(ranges)}. {' '.join(map(sentence, result.notes))}"
    return Section("What was measured", text, numbers_table(result, strong=(0,)))


def _facts(done: Outcome, subject: str) -> Mapping[str, object]:
    result = done.result
    return {
        "space": subject,
        "data": result.settings["data"],
        "clips": f"{result.n} of {result.expected}",
        "proposals a picture": f"{result.gallery} ({result.settings['proposals']['name']})",
        "answer": result.settings["map"],
        **({"left out": result.shortfall} if result.shortfall else {}),
    }


def _curve(across: Sequence[float] | np.ndarray, up: Sequence[float] | np.ndarray) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(across, up, strict=True)]


def _histogram(everything: np.ndarray, values: np.ndarray, bins: int = 16) -> list[tuple[float, float]]:
    counts, edges = np.histogram(values, bins, (everything.min(), everything.max()))
    return _curve((edges[1:] + edges[:-1]) / 2, counts / max(len(values), 1))


def _examples(title: str, located: Sequence[Located], shape: Shape, previews: Previews) -> Section:
    cards = [
        {
            "title": " · ".join(filter(None, (each.clip.label, each.clip.id))),
            "picture": _draw(each, shape, previews),
            "sound": previews.of_item(each.clip.parts[Modality.AUDIO][0]),
            "seen": _seen(each, shape),
            "verdict": _verdict(each),
            "mark": "right" if each.ciou >= measured.HALF else "wrong",
        }
        for each in located
    ]
    return Section(title, LEGEND.format(_TELLS[shape]), render("located.html", cards=cards) if cards else Markup())


def _seen(each: Located, shape: Shape) -> str:
    """Return what is drawn into a picture, in words."""
    answer = "the answer boxed in orange" if shape == "box" else "all but the answer dimmed"
    return f"{answer}, {'what sounds boxed in blue' if each.clip.sounding else 'nothing in it sounds'}"


def _verdict(each: Located) -> str:
    reached = f"cIoU {each.ciou:.2f}" if each.clip.sounding else "nothing here sounds"
    return f"{reached}, confidence {each.confidence:.3f}"


def _draw(each: Located, shape: Shape, previews: Previews) -> Media:
    """Draw a clip's picture with its boxes, within what the page may still embed."""
    if previews.left <= 0:
        return Media("none", note="left out to keep the page small")
    try:
        image = read_image(each.clip.parts[Modality.IMAGE][0].read())
    except ItemError as error:
        return Media("none", note=str(error))
    image.thumbnail((SIDE, SIDE))
    media = Media("image", image_uri(marked(image, each, shape), "JPEG", quality=88))
    previews.left -= len(media.uri)
    return media


def marked(image: Image.Image, each: Located, shape: Shape) -> Image.Image:
    """Return a picture with the truth in blue and the answer in orange, or with all but the answer dimmed."""
    image = image.copy()
    if shape == "heat":
        lit = Image.fromarray(np.where(each.answer(shape), 255, 80).astype(np.uint8)).resize(image.size)
        image = Image.composite(image, Image.new("RGB", image.size), lit)
    draw = ImageDraw.Draw(image)
    size = np.array([*image.size, *image.size]) - 1
    truths = [(box.x0, box.y0, box.x1, box.y1) for boxes in each.clip.boxes for box in boxes]
    outlines = [(box, TRUE) for box in truths] + ([(each.boxes[each.best], ANSWERED)] if shape == "box" else [])
    for box, colour in outlines:
        x0, y0, x1, y1 = (float(value) for value in np.array(box) * size)
        for width, ink in ((4, (255, 255, 255)), (2, colour)):  # a light rim, to stand out on any ground
            draw.rectangle((x0, y0, x1, y1), outline=ink, width=width)
    return image
