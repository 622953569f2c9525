"""Pictures: equal content gives equal bytes, and contenders differ in more than colour."""

from nnunetv2_gsp.comparison.pictures import STYLES, style_of, svg_canvas


def drawn(title):
    with svg_canvas() as (canvas, result):
        canvas.subplots().set_title(title)
    return result()


def test_equal_content_gives_equal_bytes():
    assert drawn("a") == drawn("a") != drawn("b")


def test_each_of_six_contenders_has_a_colour_a_line_and_a_marker_of_its_own():
    for key in ("color", "linestyle", "marker", "in_words"):
        assert len({str(style_of(number)[key]) for number in range(6)}) == len(STYLES) == 6
    assert style_of(7) == style_of(1)
