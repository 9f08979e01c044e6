"""Conditions on rows: columns imported beside a memory, what a condition may be, and searches among the rows left."""

import json

import numpy as np
import pytest
from spaces import load_fake_encoder, make_memory, make_space, texts

from cmcr import Memory, Modality
from cmcr.ask import filter_rows, open_index
from cmcr.ask import subject as subject_module
from cmcr.ask.retrieve import retrieve
from cmcr.cli import main
from cmcr.errors import ArtifactError
from cmcr.memory.columns import COLUMNS, column_types, import_columns

pytest.importorskip("duckdb")
pyarrow = pytest.importorskip("pyarrow")

TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
TABLE = "id,year,license,added\nt0,2019,cc0,2020-01-01\nt1,2021,cc0,2020-02-01\nt2,2022,by,2020-03-01\nt3,2023,cc0,\n"


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(subject_module, "load_encoder", load_fake_encoder)
    monkeypatch.chdir(tmp_path)
    make_space().save("space")
    make_memory(tmp_path / "one", "seer", {TEXT: texts(6), IMAGE: {"t1": ("t1.png", None, b"1")}})
    make_memory(tmp_path / "two", "seer", {TEXT: texts(4, prefix="other")})
    (tmp_path / "facts.csv").write_text(TABLE)
    return tmp_path


def kept(where, memory="one"):
    return filter_rows(Memory.open(memory), TEXT, where)


def ids(where):
    return kept(where).ids(TEXT)


def run(capsys, *arguments):
    capsys.readouterr()
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_of_any_kind_gives_the_same_columns(world, kind):
    table = world / f"facts.{kind}"
    rows = [line.split(",") for line in TABLE.splitlines()]
    if kind == "tsv":
        table.write_text(TABLE.replace(",", "\t"))
    elif kind == "jsonl":
        lines = [{"id": a, "year": int(b), "license": c} | ({"added": d} if d else {}) for a, b, c, d in rows[1:]]
        table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif kind == "parquet":
        from pyarrow import csv, parquet

        parquet.write_table(csv.read_csv("facts.csv"), table)
    assert import_columns(Memory.open("one"), table).matched == 4
    assert column_types(Memory.open("one")) == {"year": "BIGINT", "license": "VARCHAR", "added": "DATE"}
    assert ids("added >= date '2020-02-01'") == ["t1", "t2"]


def test_the_condition_of_the_manual(world):
    import_columns(Memory.open("one"), world / "facts.csv")
    found = kept('year >= 2020 and license = "cc0"')
    assert found.ids(TEXT) == ["t1", "t3"] and (found.of, found.unknown) == (6, 2)
    assert ids("year >= 2020 and license = 'cc0'") == ["t1", "t3"]
    assert ids('"year" IS NULL') == ["t4", "t5"]
    assert ids("text LIKE '%4' OR id = \"t0\"") == ["t0", "t4"]
    assert ids('"LICENSE" IN ("by", \'it\'\'s\', "a""b", "é") -- a remark') == ["t2"]
    assert ids("year % 2 = 1 AND contains(upper(license), 'C') AND date_part('year', added) = 2020") == ["t0", "t1"]


def test_what_is_left_reads_like_a_memory(world):
    import_columns(Memory.open("one"), world / "facts.csv")
    whole, found = Memory.open("one"), kept("year > 2020")
    numbers = [whole.ids(TEXT).index(name) for name in found.ids(TEXT)]
    assert np.array_equal(found.vectors(TEXT), whole.vectors(TEXT, numbers))
    assert np.array_equal(np.concatenate(list(found.blocks(TEXT, 2))), found.vectors(TEXT))
    assert np.array_equal(found.vectors(TEXT, [2, 0]), whole.vectors(TEXT, [numbers[2], numbers[0]]))
    assert found.row(TEXT, 1) == whole.row(TEXT, numbers[1]) and found.fingerprint(TEXT) != whole.fingerprint(TEXT)
    space = make_space()
    query = space.project(whole.vectors(TEXT, [5]), encoder="seer", modality=TEXT)
    every = [hit for hit in retrieve(space, query, whole, TEXT, 6)[0] if hit.id in found.ids(TEXT)]
    some = retrieve(space, query, found, TEXT, 6, open_index(space, found, TEXT, "hnsw"))[0]
    assert [(hit.id, hit.score) for hit in some] == [(hit.id, hit.score) for hit in every]
    assert retrieve(space, query, kept("false"), TEXT, 3) == [[]]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("yaer > 2020", "has no column 'yaer'; did you mean 'year'?"),
        ("cc0 = license", "has no column 'cc0'"),
        ("year", "is a BIGINT, expected a condition"),
        (" ", "expected a condition"),
        ("true" + " and true" * 3000, "expected a condition of 1 to 10000 characters"),
        ("year >", "syntax error"),
        ("year > 2020; DROP TABLE facts", "expected one condition and nothing after it"),
        ("true) FROM facts; DROP TABLE facts; SELECT (true", "--where"),
        ("year > 2020) OR (true", "syntax error"),
        ("true LIMIT 1", "expected one condition and nothing after it"),
        ("true UNION SELECT 1", "--where"),
        ("true GROUP BY year", "expected one condition and nothing after it"),
        ("year IN (SELECT 2021)", "subquery is not accepted"),
        ("EXISTS (FROM read_csv('facts.csv'))", "subquery is not accepted"),
        ("row_number() OVER () > 1", "window is not accepted"),
        ("count(*) > 1", "the function count_star() is not accepted"),
        ("current_setting('threads') = '1'", "the function current_setting() is not accepted"),
        ("repeat('x', 3000000000) = license", "the function repeat() is not accepted"),
        ("list_filter([1], x -> true) = [1]", "is not accepted"),
        ("license = $1", "parameter is not accepted"),
        ("year = 'x'", "Could not convert string 'x'"),
        ("license > 2 + 1", "Cannot compare values of type VARCHAR"),
        ("year /* > 3", "unterminated"),
    ],
)
def test_only_a_condition_over_values_is_accepted(world, capsys, where, message):
    import_columns(Memory.open("one"), world / "facts.csv")
    code, out, err = run(capsys, "retrieve", "space", "a", "--in", "one", "--modality", "text", "--where", where)
    assert (code, out) == (1, "") and message in err and err.startswith("error: ") and err.count("\n") == 1, err


def test_a_later_import_adds_and_replaces_by_row(world):
    memory = Memory.open("one")
    import_columns(memory, world / "facts.csv")
    (world / "more.jsonl").write_text(
        '{"id": "t4", "year": 2030, "tags": ["loud"]}\n{"id": "t0", "year": 1, "tags": []}\n'
    )
    made = import_columns(memory, world / "more.jsonl")
    assert (made.columns, made.lines, made.matched) == (("year", "tags"), 2, 2)
    assert ids("year IN (1, 2021, 2030)") == ["t0", "t1", "t4"] and ids("license = 'cc0'") == ["t0", "t1", "t3"]
    assert ids("list_contains(tags, 'loud')") == ["t4"] == ids("'loud' IN tags")


def test_records_that_cannot_be_used_are_counted(world, capsys):
    (world / "bad.csv").write_text("name,year\nt0.png,1\nt0.png,2\n,3\nt1.png,4\nzz.png,5\n")
    code, out, err = run(capsys, "columns", "one", "bad.csv", "--id", "name", "--json")
    answer = json.loads(out)
    assert code == 0 and "3 records, 2 of them of rows of one" in err  # by the names of files
    assert answer["left_out"] == {"no id, or not readable": 1, "an id that came before": 1}
    assert answer["columns"] == [{"column": "year", "type": "BIGINT", "values": 3}]
    assert run(capsys, "columns", "one", "bad.csv", "--id", "name", "--strict")[0] == 1
    assert ids("year = 1") == ["t0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["facts.csv", "--id", "idd"], "no column 'idd'; did you mean 'id'?"),
        (["facts.xlsx"], "expected a table (.csv, "),
        (["absent.csv"], "absent.csv"),
        (["others.csv"], "none of its 1 ids is a row of one: 'q' beside 't1'"),
        (["ids.csv"], "nothing beside 'id'"),
        (["noise.parquet"], "noise.parquet: cannot be read"),
        (["--drop", "yaer"], "has no column 'yaer'"),
    ],
)
def test_tables_that_cannot_be_are_refused_in_one_line(world, capsys, arguments, message):
    (world / "others.csv").write_text("id,year\nq,1\n")
    (world / "ids.csv").write_text("id\nt0\n")
    (world / "facts.xlsx").write_bytes(b"PK")
    (world / "noise.parquet").write_bytes(bytes(range(256)))
    code, out, err = run(capsys, "columns", "one", *arguments)
    assert (code, out) == (1, "") and message in err and err.count("\n") == 1, err
    assert not (world / "one" / COLUMNS).exists() and not list((world / "one").glob("*.partial"))


def test_columns_are_listed_and_taken_away(world, capsys):
    run(capsys, "columns", "one", "facts.csv")
    code, out, _ = run(capsys, "columns", "one", "--drop", "year", "--drop", "added")
    assert code == 0 and out == "column\ttype\tvalues\nlicense\tVARCHAR\t4\n"
    run(capsys, "columns", "one", "--drop", "license")
    assert not (world / "one" / COLUMNS).exists()


def test_an_import_that_fails_leaves_what_was_there(world, monkeypatch):
    memory = Memory.open("one")
    import_columns(memory, world / "facts.csv")
    before = (world / "one" / COLUMNS).read_bytes()
    (world / "more.csv").write_text("id,year\nt0,1\n")
    from pyarrow import parquet

    def fail(table, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", fail)
    with pytest.raises(OSError, match="No space"):
        import_columns(memory, world / "more.csv")
    assert (world / "one" / COLUMNS).read_bytes() == before and Memory.open("one").verify() == []


def test_damaged_columns_are_said(world):
    import_columns(Memory.open("one"), world / "facts.csv")
    whole = (world / "one" / COLUMNS).read_bytes()
    (world / "one" / COLUMNS).write_bytes(whole[:-20])
    with pytest.raises(ArtifactError, match="delete it, and import its tables again"):
        kept("year > 3")


def test_a_path_is_no_pattern_and_no_folder_names_a_column(world):
    (world / "a*[b]").mkdir()
    (world / "year=3").mkdir()
    for folder in ("a*[b]", "year=3"):
        path = world / folder / "facts.csv"
        path.write_text("id,size\nt0,1\n")
        assert import_columns(Memory.open("one"), path).columns == ("size",)


def test_memories_of_one_encoder_are_merged_by_cosine(world, capsys):
    import_columns(Memory.open("one"), world / "facts.csv")
    (world / "two.csv").write_text("id,year\nt3,2040\n")
    import_columns(Memory.open("two"), world / "two.csv")
    both = ["retrieve", "space", "text 3", "--in", "one", "--in", "two", "--modality", "text", "--json"]
    answer = json.loads(run(capsys, *both)[1])
    assert answer["gallery"] == 10 and len(answer["hits"]) == 10
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True) and {hit["memory"] for hit in answer["hits"]} == {"one", "two"}
    for name in ("one", "two"):  # each memory's own answer, interleaved
        alone = json.loads(run(capsys, "retrieve", "space", "text 3", "--in", name, "--modality", "text", "--json")[1])
        mine = [(hit["id"], round(hit["score"], 6)) for hit in answer["hits"] if hit["memory"] == name]
        assert mine == [(hit["id"], round(hit["score"], 6)) for hit in alone["hits"]]
    _, out, err = run(capsys, *both, "--where", "year > 2022", "--index", "hnsw")
    answer = json.loads(out)
    assert {(hit["memory"], hit["id"]) for hit in answer["hits"]} == {("one", "t3"), ("two", "t3")}
    assert answer["where"] == {"condition": "year > 2022", "rows": 10, "lacking": 5} and answer["search"] == "exact"
    assert "one: 1 of 6 rows meet --where; 2 lack a value" in err and "compared exactly" in err
    code, out, _ = run(capsys, *both[:-1], "-k", "2", "--html", "page.html")
    assert (
        code == 0
        and out.startswith("rank\tscore\tmemory\tid\twhat\n")
        and "text 3" in (world / "page.html").read_text()
    )
