import json
import os
import pty
import subprocess
import sys

import pytest

from cmcr import console
from cmcr.cli import main
from cmcr.printable import escaped, printable
from cmcr.report import Answer, Card, Media, gallery
from cmcr.report.page import page

HOSTILE = "a\x1b[2J\x07\x9b31mb\u202ec\u2067d\u200f\u061ce\udcfff\u2028g\u2029h\x7fi\x85j\r\nk\tl"
UNFIT = {chr(code) for code in [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, 0x2028, 0x2029]} | {
    chr(code) for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)]
}


def test_every_unfit_character_goes_and_every_other_stays():
    assert not UNFIT & set(printable(HOSTILE))
    assert printable(HOSTILE) == "a?[2J??31mbcde?f g h?i j k l"
    assert all(printable(char) in (" ", "", "?") for char in UNFIT)
    others = [chr(code) for code in range(0x110000) if chr(code) not in UNFIT]
    assert printable("".join(others)) == "".join(others)


def test_a_json_document_means_the_same_and_holds_nothing_unfit():
    text = escaped(json.dumps({HOSTILE: ["é\u200d", HOSTILE]}, ensure_ascii=False))
    assert json.loads(text) == {HOSTILE: ["é\u200d", HOSTILE]}
    assert not (UNFIT - {"\n"}) & set(text) and "é\u200d" in text


def test_what_is_said_is_one_line_without_anything_unfit(capsys):
    for tell in (console.say, console.warn, console.fail):
        tell(HOSTILE)
    console.show_table([HOSTILE], [[HOSTILE]], title=HOSTILE)
    out, err = capsys.readouterr()
    assert err.count("\n") == 3 and out.count("\n") == 2
    assert not (UNFIT - {"\n"}) & set(out + err)
    console.show_json({"id": HOSTILE})
    assert json.loads(capsys.readouterr().out) == {"id": HOSTILE}


def test_a_terminal_gets_no_escape_but_those_of_its_table_and_bar():
    script = (
        "from cmcr import console\n"
        f"hostile = {HOSTILE!r} + '[red]'\n"
        "console.say(hostile)\n"
        "with console.progress(hostile) as told: told(1, 2, hostile)\n"
        "console.show_table(['x'], [[hostile]], title=hostile)\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}
    subprocess.run([sys.executable, "-c", script], stdout=theirs, stderr=theirs, env=environment, check=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 1 << 16)
        except OSError:  # all of it was read
            break
    os.close(ours)
    text = shown.decode("utf-8", "surrogateescape")
    assert text.count("a?[2J??31mbcde?f g h?i j k l[red]") >= 3
    assert not (UNFIT - set("\x1b\r\n")) & set(text) and "\x1b[2J" not in text


@pytest.mark.parametrize("arguments", [["\x1b[2J\u202e"], ["info", "--\x1b[2J\u202e"], ["info", "a", "b\x1b[2J\u202e"]])
def test_complaints_about_arguments_quote_them_printable(arguments, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "[2J" in err and not (UNFIT - {"\n"}) & set(err)


def test_a_page_holds_nothing_unfit_and_stays_escaped():
    card = Card(HOSTILE + "<b>", Media("text", text=HOSTILE + "<script>"))
    html = page(HOSTILE, [], lead=HOSTILE, facts={HOSTILE: HOSTILE}) + gallery([Answer(card, [card], HOSTILE)])
    assert not (UNFIT - {"\n"}) & set(html)
    assert "&lt;script&gt;" in html and "<script" not in html
