"""The restricted unpickler: plain data and arrays come through every protocol, and nothing else at all."""

import contextlib
import copyreg
import datetime
import io
import os
import pickle
import pickletools
import struct
import subprocess
from collections import OrderedDict, deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmcr.decode import pickles as unpickle
from cmcr.errors import ItemError

PROTOCOLS = range(6)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
)
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(scalars, inner) | st.sets(scalars).map(frozenset)
    ),
    max_leaves=20,
)
TYPES = ["?", "i1", "u2", "<i4", ">i4", "u8", "f2", "<f4", ">f8", "c8", "U3", "S2"]


def same(one, other):
    if isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and one.shape == other.shape
        return all(map(same, one.flat, other.flat)) if one.dtype.hasobject else one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(plain, st.sampled_from(PROTOCOLS))
def test_plain_data_comes_through_every_protocol(data, protocol):
    assert same(unpickle.load(pickle.dumps(data, protocol)), data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", TYPES)
def test_arrays_of_every_type_shape_and_order_come_through(dtype, protocol):
    rng = np.random.default_rng(0)
    for shape in ((), (3,), (0, 4), (2, 3), (2, 1, 3)):
        array = rng.integers(0, 9, shape).astype(dtype)
        for given_array in (array, np.asfortranarray(array), array[..., ::2] if array.ndim else array):
            assert same(unpickle.load(pickle.dumps(given_array, protocol)), given_array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_sets_and_mutable_bytes_come_through(protocol):
    data = [
        np.float16(2),
        np.bool_(True),
        np.int64(-3),
        np.str_("é"),
        1 + 2j,
        {1, "a"},
        frozenset({None}),
        bytearray(b"x"),
    ]
    assert same(unpickle.load(pickle.dumps(data, protocol)), data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_objects_hold_dicts_and_arrays_of_any_length(protocol):
    ragged = np.empty(2, object)
    ragged[:] = [np.arange(2), np.arange(3.0)]
    data = [np.array({"xyz": np.ones((2, 3), np.float16), "text": ["a"]}, object), ragged, np.empty((2, 0), object)]
    assert same(unpickle.load(pickle.dumps(data, protocol)), data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_shared_stays_shared(protocol):
    inner, array = [1], np.arange(3)
    found = unpickle.load(pickle.dumps([inner, inner, array, array], protocol))
    assert found[0] is found[1] and found[2] is found[3]


def test_older_numpy_wrote_other_module_names():
    data = pickle.dumps(np.arange(3.0), 2)
    for old, new in ((b"numpy._core", b"numpy.core"), (b"numpy.core", b"numpy._core")):
        assert same(unpickle.load(data.replace(old, new)), np.arange(3.0))


def test_the_stored_test_split_of_modelnet40_is_read():
    rng = np.random.default_rng(0)
    split = [
        [rng.normal(size=(8, 6)).astype(np.float32) for _ in range(5)],
        [np.array([label], np.int32) for label in range(5)],
    ]
    assert same(unpickle.load(pickle.dumps(split)), split)


class Reduced:
    """Pickles as a call."""

    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


class Plain:
    """A class of a stranger."""


def hostile(target):
    """Pickles that would create ``target``, or reach for more than data."""
    command, script = f"touch {target}", f"open({str(target)!r}, 'w')"
    yield from (Reduced(os.system, (command,)), Reduced(eval, (script,)), Reduced(exec, (script,)))
    yield from (Reduced(open, (str(target), "w")), Reduced(subprocess.Popen, (["touch", str(target)],)))
    yield from (Reduced(getattr, (os, "system")), Reduced(__import__, ("os",)), Reduced(map, (os.system, [command])))
    yield [{"xyz": Reduced(os.system, (command,))}]
    yield np.array({"xyz": Reduced(os.system, (command,))}, object)
    yield from (
        Plain(),
        Plain,
        OrderedDict(a=1),
        deque([1]),
        datetime.date(2020, 1, 1),
        range(3),
        np.zeros(2).view(np.recarray),
    )
    yield from (np.zeros(2, [("a", "f4"), ("b", "O")]), np.zeros(1, "M8[s]"), np.ma.array([1], mask=[True]), np.float32)
    yield from (np.dtype("f4"), Ellipsis, slice(1), print, np.random.default_rng(0), np.array([Plain()], object))
    yield Reduced(np.frombuffer, (b"abcd", "f4"))
    yield Reduced(np.load, (str(target),))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_that_wants_more_than_data_is_refused_and_runs_nothing(protocol, tmp_path):
    target, refused = tmp_path / "touched", 0
    for thing in hostile(target):
        try:
            data = pickle.dumps(thing, protocol)
        except (TypeError, pickle.PicklingError, AttributeError):
            continue
        with pytest.raises(ItemError) as caught:
            unpickle.load(data)
        assert "\n" not in str(caught.value)
        refused += 1
    assert refused > 20 and not target.exists()
    pickle.loads(pickle.dumps(next(hostile(target)), protocol))  # it is indeed what it seems
    assert target.exists()


def test_the_reason_names_what_was_wanted():
    with pytest.raises(
        ItemError, match=r"^pickle that wants posix.system; only arrays, strings, numbers, lists and dicts are read$"
    ):
        unpickle.load(pickle.dumps(Reduced(os.system, ("true",))))
    with pytest.raises(ItemError, match=r"wants a\\x1b\[31m.b"):
        unpickle.load(b"\x80\x04\x8c\x06a\x1b[31m\x8c\x01b\x93.")


def call(module, name, *arguments, protocol=2):
    """The program that calls ``module.name`` with pickled arguments."""
    parts = [pickle.dumps(argument, protocol)[2:-1] for argument in arguments]
    return b"\x80\x04c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(parts) + b"tR."


CORE = "numpy.core.multiarray"
F4 = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR"
BLANK = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"


def array_program(shape=b"(K\x02t", dtype=F4, content=b"C\x08" + bytes(8), version=b"K\x01"):
    return b"\x80\x04" + BLANK + b"(" + version + shape + dtype + b"\x89" + content + b"tb."


def nested_tuples(levels):
    return b"\x80\x04)" + b"\x85" * levels


def doubling(start, double, levels=90):
    """Each level holds the one before twice."""
    return start + b"".join(b"q" + bytes([level, ord("h"), level]) + double for level in range(levels))


LAUGHS = doubling(b"\x80\x04" + b"(" * 90 + b"]", b"l")
LAUGHING_TUPLES = doubling(b"\x80\x04)", b"\x86")

PROGRAMS = {
    "empty": (b"", "damaged"),
    "no end": (b"\x80\x04]", "damaged"),
    "nothing left": (b"\x80\x04.", "damaged"),
    "two things left": (b"\x80\x04NN.", "damaged"),
    "a future protocol": (b"\x80\x06N.", "protocol 6"),
    "popped from nothing": (b"\x80\x040.", "POP"),
    "a tuple of too few": (b"\x80\x04N\x86.", "takes more from its stack"),
    "a mark too few": (b"\x80\x04Nt.", "damaged"),
    "a memo never filled": (b"\x80\x04h\x07.", "damaged"),
    "an odd dict": (b"\x80\x04(K\x01K\x02K\x03d.", "damaged"),
    "a number filled": (b"\x80\x04K\x01K\x02a.", "a int where a list is filled"),
    "a list updated": (b"\x80\x04]K\x01K\x02s.", "a list where a dict is filled"),
    "an array filled": (b"\x80\x04" + array_program()[2:-1] + b"K\x01a.", "where a list is filled"),
    "a long string that is short": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.", "damaged"),
    "endless digits": (b"I" + b"9" * 5000 + b"\n.", "damaged"),
    "a persistent object": (b"\x80\x04Nq\x00Q.", "BINPERSID"),
    "a persistent object by name": (b"Pname\n.", "PERSID"),
    "a registered extension": (b"\x80\x04\x82\x01.", "EXT1"),
    "an object": (b"\x80\x04cbuiltins\nset\n)\x81.", "NEWOBJ"),
    "an object with keywords": (b"\x80\x04cbuiltins\nset\n)}\x92.", "NEWOBJ_EX"),
    "an instance": (b"(ios\nsystem\n.", "INST"),
    "an old object": (b"(cbuiltins\nset\no.", "OBJ"),
    "a buffer from elsewhere": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "a function for itself": (b"\x80\x04cbuiltins\nset\n.", "holds set"),
    "a function in a list": (b"\x80\x04]cnumpy\nndarray\na.", "holds ndarray"),
    "a class called": (b"\x80\x04cnumpy\nndarray\n)R.", "calls ndarray"),
    "a number called": (b"\x80\x04K\x01)R.", "calls a int"),
    "a name of numbers": (b"\x80\x04K\x01K\x02\x93.", "wants a int of a int"),
    "called without a tuple": (b"\x80\x04cbuiltins\nset\n]R.", "calls set"),
    "the state of a list": (b"\x80\x04]}b.", "sets the state of a list"),
    "the state of a function": (b"\x80\x04cbuiltins\nset\n}b.", "sets the state of set"),
    "the state of a finished array": (b"\x80\x04" + array_program()[2:-1] + b"}b.", "sets the state of a ndarray"),
    "another text encoding": (call("_codecs", "encode", "a", "rot13"), "encodes"),
    "an encoded list": (call("_codecs", "encode", [1], "latin1"), "encodes"),
    "a text outside latin-1": (call("_codecs", "encode", "\u0416", "latin1"), "damaged"),
    "an array of another class": (call(CORE, "_reconstruct", 1, (0,), b"b"), "of class"),
    "an array never filled": (b"\x80\x04" + BLANK + b".", "without its content"),
    "a dtype for itself": (b"\x80\x04" + F4 + b".", "without its content"),
    "a huge shape": (array_program(shape=b"(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft"), "with 8 bytes"),
    "a shape beyond any": (array_program(shape=b"(\x8b" + struct.pack("<i", 300) + b"\x7f" * 300 + b"t"), "impossible"),
    "a negative shape": (array_program(shape=b"(J\xff\xff\xff\xffJ\xfe\xff\xff\xfft"), "impossible"),
    "a shape of lists": (array_program(shape=b"(]t"), "impossible"),
    "a shape of truths": (array_program(shape=b"(\x88\x88t"), "impossible"),
    "forty axes": (array_program(shape=b"(" + b"K\x01" * 40 + b"t"), "impossible"),
    "too few bytes": (array_program(content=b"C\x07" + bytes(7)), "with 7 bytes"),
    "too many bytes": (array_program(content=b"C\x09" + bytes(9)), "with 9 bytes"),
    "numbers for bytes": (array_program(content=b"]"), "a list for its bytes"),
    "no dtype": (array_program(dtype=b"N"), "without a type"),
    "a text for a dtype": (array_program(dtype=b"X\x02\x00\x00\x00f4"), "without a type"),
    "a dtype of records": (call("numpy", "dtype", "f4,f4", False, True), "of type f4,f4"),
    "a dtype of nothing": (call("numpy", "dtype", "V0", False, True), "of type V0"),
    "text of no width": (call("numpy", "dtype", "U0", False, True), "of type U0"),
    "a dtype by number": (call("numpy", "dtype", 7, False, True), "of type a int"),
    "fields in a state": (
        b"\x80\x04" + F4 + b"(K\x03X\x01\x00\x00\x00<N(X\x01\x00\x00\x00atNJ\xff\xff\xff\xfftb.",
        "records",
    ),
    "a scalar of two": (b"\x80\x04c" + CORE.encode() + b"\nscalar\n(" + F4 + b"C\x08" + bytes(8) + b"tR.", "8 bytes"),
    "objects from bytes": (array_program(dtype=F4.replace(b"f4", b"O8")), "without a list"),
    "objects, too few": (array_program(dtype=F4.replace(b"f4", b"O8"), content=b"]"), "2 objects without a list"),
    "a list within itself": (b"\x80\x04]q\x00h\x00a.", "without end"),
    "a dict within itself": (b"\x80\x04}q\x00X\x01\x00\x00\x00ah\x00s.", "without end"),
    "an array within itself": (
        b"\x80\x04" + BLANK + b"q\x00(K\x01(K\x01t" + F4.replace(b"f4", b"O8") + b"\x89]h\x00atb.",
        "without its content",
    ),
    "an array within its list": (
        b"\x80\x04]q\x01" + BLANK + b"(K\x01(K\x01t" + F4.replace(b"f4", b"O8") + b"\x89]h\x01atba.",
        "without end",
    ),
    "tuples a million deep": (nested_tuples(10**6) + b".", "deeper than 100"),
    "a key a million deep": (b"\x80\x04}" + nested_tuples(10**6)[2:] + b"Ns.", "key that is a tuple"),
    "a key that doubles": (b"\x80\x04}" + LAUGHING_TUPLES[2:] + b"Ns.", "key that is a tuple"),
    "a list for a key": (b"\x80\x04}]Ns.", "key that is a list"),
    "a member that doubles": (b"\x80\x04\x8f(" + LAUGHING_TUPLES[2:] + b"\x90.", "key that is a tuple"),
    "an array for a key": (b"\x80\x04}" + array_program()[2:-1] + b"Ns.", "key that is a ndarray"),
    "a shape that doubles": (array_program(shape=LAUGHS[2:] + b"\x85"), "impossible"),
    "a name that doubles": (b"\x80\x04" + LAUGHS[2:] + b"X\x01\x00\x00\x00a\x93.", "wants a of a list"),
}


@pytest.mark.parametrize(("program", "reason"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_forged_program_is_refused_with_a_reason(program, reason):
    with pytest.raises(ItemError, match=reason) as caught:
        unpickle.load(program)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def number(value):
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<i", len(raw)) + raw


def long_text(letters):
    return b"X" + struct.pack("<I", letters) + b"a" * letters


ALIKE = [number(times * (2**61 - 1)) for times in range(20)]  # all of them hash to nothing
SQUARES = {
    "keys that collide": (b"\x80\x04}(" + b"N".join(ALIKE) + b"Nu.", "more than 12 numbers as keys"),
    "keys that collide one by one": (
        b"\x80\x04}" + b"".join(key + b"Ns" for key in ALIKE) + b".",
        "12 numbers as keys",
    ),
    "keys that collide in an old dict": (b"(" + b"N".join(ALIKE) + b"Nd.", "more than 12 numbers as keys"),
    "members that collide": (b"\x80\x04\x8f(" + b"".join(ALIKE) + b"\x90.", "more than 12 numbers as keys"),
    "a frozen set of them": (b"\x80\x04(" + b"".join(ALIKE) + b"\x91.", "more than 12 numbers as keys"),
    "a set from a list of them": (
        b"\x80\x04cbuiltins\nset\n](" + b"".join(ALIKE) + b"e\x85R.",
        "more than 12 numbers as keys",
    ),
    "places that collide": (b"N" + b"p%d\n" % (2**61 - 1) + b".", "place 2305843009213693951 after 0 others"),
    "a wide number hashed again and again": (b"\x80\x04}" + number(1 << 9000) + b"Ns.", "a number of 9001 bits"),
    "equal long texts compared to their ends": (
        b"\x80\x04}" + long_text(3000) + b"Ns" + long_text(3000) + b"q\x00Ns" + b"h\x00Ns" * 9 + b".",
        "copies more than it holds",
    ),
}


@pytest.mark.parametrize(("program", "reason"), SQUARES.values(), ids=SQUARES)
def test_what_would_take_the_square_of_its_size_is_refused(program, reason, monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_NUMBER_KEYS", 12)
    with pytest.raises(ItemError, match=reason):
        unpickle.load(program)


def test_ordinary_keys_are_far_from_the_bounds():
    found = {**{key: str(key) for key in range(-2000, 2000)}, **{"key" * 9 + str(key): None for key in range(20_000)}}
    for protocol in PROTOCOLS:
        assert unpickle.load(pickle.dumps(found, protocol)) == found


def test_an_array_filled_again_and_again_is_put_in_its_places_once():
    """Many places of one blank, and many times its state: their product was the work."""
    written = []

    class Memo(dict):
        def __setitem__(self, place, thing):
            written.append(place)
            super().__setitem__(place, thing)

    many = 300
    fill = b"(K\x01t" + F4 + b"\x89C\x04abcdtb"
    places = b"".join(b"r" + struct.pack("<I", place) for place in range(many))
    program = b"\x80\x04" + BLANK + places + b"(h\x00" * many + b"(K\x01" + fill * (many + 1) + b"."
    machine = unpickle._Machine(len(program))
    machine._memo = Memo()
    assert machine.run(program, 10**6).tobytes() == b"abcd"
    assert len(written) == 2 * many  # once as a blank, once as an array


def test_a_wide_list_within_itself_is_looked_at_once(monkeypatch):
    measured, measure = [], unpickle._measure
    monkeypatch.setattr(unpickle, "_measure", lambda *given: measured.append(1) or measure(*given))
    with pytest.raises(ItemError, match="without end"):
        unpickle.load(b"\x80\x04]q\x00(" + b"N" * 1000 + b"h\x00e.")
    assert len(measured) < 1010


def test_the_caller_may_allow_fewer_instructions():
    with pytest.raises(ItemError, match="more than 20 instructions"):
        unpickle.load(pickle.dumps(list(range(50))), instructions=20)


def test_what_doubles_at_each_level_costs_a_line_each():
    assert len(unpickle.load(LAUGHS + b".")) == 2
    assert len(unpickle.load(LAUGHING_TUPLES + b".")) == 2


MILLION = struct.pack("<I", 10**6) + b"a" * 10**6
OBJECTS = b"(K\x01(J" + struct.pack("<i", 10**6) + b"t" + F4.replace(b"f4", b"O8") + b"\x89h\x00tb"
COPIES = {
    "encode": (b"X" + MILLION, b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tR"),
    "bytearray of text": (b"X" + MILLION, b"cbuiltins\nbytearray\n(h\x00X\x06\x00\x00\x00latin1tR"),
    "bytearray of bytes": (b"B" + MILLION, b"cbuiltins\nbytearray\n(h\x00tR"),
    "set": (b"X" + MILLION, b"cbuiltins\nset\n(h\x00tR"),
    "frozenset": (b"X" + MILLION, b"cbuiltins\nfrozenset\n(h\x00tR"),
    "objects": (b"](" + b"N" * 10**6 + b"e", BLANK + OBJECTS),
}


@pytest.mark.parametrize(("thing", "maker"), COPIES.values(), ids=COPIES)
def test_a_small_pickle_cannot_ask_for_many_copies(thing, maker):
    """A million of something, once, and two hundred things made from it."""
    with pytest.raises(ItemError, match="copies more than it holds"):
        unpickle.load(b"\x80\x04](" + thing + b"q\x00" + maker * 200 + b"e.")


def test_many_arrays_of_the_same_bytes_are_views():
    raw = b"\x80\x04](B" + struct.pack("<I", 4 * 10**6) + bytes(4 * 10**6) + b"q\x00"
    one = b"cnumpy.core.numeric\n_frombuffer\n(h\x00" + F4 + b"(J" + struct.pack("<i", 10**6) + b"tX\x01\x00\x00\x00CtR"
    found = unpickle.load(raw + one * 1000 + b"e.")
    assert len(found) == 1001 and all(np.shares_memory(found[1], array) for array in found[2:])


def test_a_pickle_of_too_many_instructions_is_refused(monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_INSTRUCTIONS", 1000)
    assert len(unpickle.load(pickle.dumps([0] * 100))) == 100
    with pytest.raises(ItemError, match="more than 1000 instructions"):
        unpickle.load(pickle.dumps([0] * 1000))


def test_extensions_registered_in_this_process_are_out_of_reach():
    copyreg.add_extension("posix", "system", 0x5A)
    try:
        data = pickle.dumps(os.system, 2)
        assert "EXT1" in {instruction.name for instruction, *_ in pickletools.genops(data)}
        pickle.loads(data)  # now it is in the cache, where find_class is not asked
        with pytest.raises(ItemError, match="instruction EXT1"):
            unpickle.load(data)
    finally:
        copyreg.remove_extension("posix", "system", 0x5A)


GOOD = pickle.dumps([np.arange(6.0).reshape(2, 3), {"a": [1, 2.5, None, "é"]}, np.array({"b": b"c"}, object)])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cut_pickle_is_damaged_wherever_it_is_cut(protocol):
    data = pickle.dumps([np.arange(3.0), {"a": (1, 2.5, "é")}], protocol)
    for length in range(len(data)):
        with pytest.raises(ItemError):
            unpickle.load(data[:length])


@given(st.data())
def test_any_change_of_a_byte_gives_data_or_an_item_error(data):
    forged = bytearray(GOOD)
    for place in data.draw(st.lists(st.integers(0, len(GOOD) - 1), min_size=1, max_size=4)):
        forged[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ItemError):
        unpickle.load(bytes(forged))


@given(st.binary(max_size=60))
def test_any_bytes_give_data_or_an_item_error(data):
    for head in (b"", b"\x80\x04"):
        with contextlib.suppress(ItemError):
            unpickle.load(head + data)


def test_real_numpy_never_sees_the_state(monkeypatch):
    called = []
    monkeypatch.setattr(pickle, "Unpickler", lambda *_: called.append(1))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_: called.append(1))
    file = io.BytesIO()
    pickle.dump(np.arange(3), file)
    assert unpickle.load(file.getvalue()).tolist() == [0, 1, 2] and not called
