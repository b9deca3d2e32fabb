from __future__ import annotations

import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.layer.gotar import Format, Header, TarError, TarReader, TarTime, TarWriter, TypeFlag
from exporter.layer.gotar import block as blk
from exporter.layer.gotar.header import ZERO_TIME
from exporter.layer.gotar.pax import format_record, format_time, parse_records, parse_time
from tests.unit.layer import tars


def read_all(data: bytes) -> list[tuple[Header, bytes]]:
    reader = TarReader(io.BytesIO(data))
    found = []
    while (header := reader.next()) is not None:
        content = b""
        while piece := reader.read(100):
            content += piece
        found.append((header, content))
    return found


def write(*entries: tuple[Header, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out)
    for header, content in entries:
        writer.write_header(header)
        writer.write(content)
    writer.close()
    return out.getvalue()


# --- numbers and strings in fields ---


@pytest.mark.parametrize(
    ("field", "number"),
    [
        (b"0000644\x00", 0o644),
        (b"    644 ", 0o644),
        (b"\x00\x00644 \x00\x00", 0o644),
        (b"\x00" * 8, 0),
        (b"        ", 0),
        (b"644\x00garb\x00", 0o644),
        (b"\x80\x00\x00\x00\x00\x00\x01\x00", 256),
        (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        (b"\x80" + b"\x00" * 3 + b"\x7f" + b"\xff" * 7, (1 << 63) - 1),
        (b"\xff" * 4 + b"\x80" + b"\x00" * 7, -(1 << 63)),
    ],
)
def test_numeric_fields(field: bytes, number: int) -> None:
    assert blk.parse_numeric(field) == number


@pytest.mark.parametrize(
    "field",
    [b"0000648\x00", b"-000644\x00", b"64 4\x00\x00\x00\x00", b"\x80" + b"\x00" * 3 + b"\x80" + b"\x00" * 7],
)
def test_bad_numeric_fields(field: bytes) -> None:
    with pytest.raises(TarError):
        blk.parse_numeric(field)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_survive_a_wide_field(number: int) -> None:
    assert blk.parse_numeric(blk.format_numeric(12, number)) == number


def test_a_truncated_name_does_not_end_in_a_slash() -> None:
    assert blk.format_string(5, b"ab///cd") == b"ab\x00//"
    assert blk.format_string(5, b"abcdefg") == b"abcde"


# --- PAX ---


@given(
    st.dictionaries(
        st.sampled_from([b"path", b"a.b", b"SCHILY.xattr.user.x"]),
        st.binary().filter(lambda b: b"\x00" not in b),
    )
)
def test_records_survive(records: dict[bytes, bytes]) -> None:
    data = b"".join(format_record(key, value) for key, value in records.items())
    assert parse_records(data) == records


def test_a_record_counts_the_digits_of_its_length() -> None:
    for value_size in range(1, 120):
        record = format_record(b"k", b"v" * value_size)
        assert record == b"%d k=%s\n" % (len(record), b"v" * value_size)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage",
        b"5 a=\n5",
        b"9 path=a\x00\n",
        b"6 =ab\n",
        b"99 a=b\n",
        b"6 a=bc",
        b"-6 a=b\n",
        b"5 ab\n",
    ],
)
def test_malformed_records(data: bytes) -> None:
    with pytest.raises(TarError):
        parse_records(data)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        (b"1", TarTime(1)),
        (b"1.5", TarTime(1, 500_000_000)),
        (b"1.1234567899", TarTime(1, 123_456_789)),
        (b"-1.5", TarTime(-2, 500_000_000)),
        (b"-0.5", TarTime(-1, 500_000_000)),
        (b"+7.", TarTime(7)),
    ],
)
def test_pax_times(text: bytes, time: TarTime) -> None:
    assert parse_time(text) == time


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 999_999_999))
def test_pax_times_survive(seconds: int, nanoseconds: int) -> None:
    time = TarTime(seconds, nanoseconds)
    assert parse_time(format_time(time)) == time


# --- reading ---


def test_reads_what_tarfile_writes() -> None:
    long_name = "d/" * 80 + "ü"
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        data = tars.tar(
            tars.directory("d", uid=3, gid=4, uname="u", gname="g"),
            tars.entry(long_name, b"x" * 1000, mode=0o4755, mtime=1_500_000_000),
            tars.symlink("l", "t" * 150),
            tars.entry("dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            format=format,
        )
        folder, file, link, device = read_all(data)
        assert (folder[0].name, folder[0].uid, folder[0].gid) == (b"d/", 3, 4)
        assert (folder[0].uname, folder[0].gname) == (b"u", b"g")
        assert file[0].name == long_name.encode()
        assert (file[0].mode, file[0].mod_time) == (0o4755, TarTime(1_500_000_000))
        assert file[1] == b"x" * 1000
        assert link[0].linkname == b"t" * 150
        assert (device[0].devmajor, device[0].devminor) == (1, 3)


def test_content_that_is_not_read_is_skipped() -> None:
    reader = TarReader(io.BytesIO(tars.tar(tars.entry("a", b"1" * 3000), tars.entry("b", b"2"))))
    names = []
    while (header := reader.next()) is not None:
        names.append(header.name)
    assert names == [b"a", b"b"]


@pytest.mark.parametrize("end", [1024, 512, 0])
def test_an_archive_may_lack_its_trailer(end: int) -> None:
    data = tars.tar(tars.entry("a", b"1"))[:-1024] + bytes(end)
    assert len(read_all(data)) == 1


def test_says_where_an_archive_is_damaged() -> None:
    data = bytearray(tars.tar(tars.entry("a", b"1"), tars.entry("b", b"2")))
    data[1024] ^= 1
    with pytest.raises(TarError, match="tar entry at byte 1024: the header's checksum is wrong"):
        read_all(bytes(data))


@pytest.mark.parametrize("cut", [100, 600, 1100])
def test_a_truncated_archive_is_an_error(cut: int) -> None:
    data = tars.tar(tars.entry("a", b"1" * 600))
    with pytest.raises(TarError, match="the archive ends"):
        read_all(data[:cut])


def test_raw_bytes_and_content_make_up_the_archive() -> None:
    data = tars.tar(tars.entry("é" * 60, b"1" * 700), tars.symlink("l", "x" * 120), tars.entry("b", b"2"))
    reader = TarReader(io.BytesIO(data), keep_raw=True)
    copy = b""
    while reader.next() is not None:
        copy += reader.take_raw()
        while piece := reader.read(64):
            copy += piece
    assert copy + reader.take_raw() == data


def sparse_archive(pax: bytes, body: bytes) -> bytes:
    extension = bytearray(write((Header(name=b"p", size=len(pax)), pax))[:-1024])
    block = extension[:512]
    block[blk.TYPEFLAG] = TypeFlag.X_HEADER
    blk.seal(block, Format.PAX)
    return bytes(block + extension[512:]) + write((Header(name=b"f", size=len(body)), body))


def test_holes_of_sparse_files_read_as_zeros() -> None:
    for records in (
        {b"GNU.sparse.size": b"12", b"GNU.sparse.numblocks": b"2", b"GNU.sparse.map": b"2,3,8,1"},
        {
            b"GNU.sparse.major": b"0",
            b"GNU.sparse.minor": b"1",
            b"GNU.sparse.realsize": b"12",
            b"GNU.sparse.numblocks": b"2",
            b"GNU.sparse.map": b"2,3,8,1",
            b"GNU.sparse.name": b"real",
        },
    ):
        pax = b"".join(format_record(key, value) for key, value in records.items())
        ((header, content),) = read_all(sparse_archive(pax, b"abcd"))
        assert content == b"\x00\x00abc\x00\x00\x00d\x00\x00\x00"
        assert header.size == 12
        assert header.name == (b"real" if b"GNU.sparse.name" in records else b"f")


@pytest.mark.parametrize(
    "sparse_map", [b"2,3,1,1", b"-1,3", b"2,11", b"0,9223372036854775807", b"2", b"a,b", b""]
)
def test_bad_sparse_maps(sparse_map: bytes) -> None:
    count = b"%d" % max(1, len(sparse_map.split(b",")) // 2)
    pax = (
        format_record(b"GNU.sparse.size", b"12")
        + format_record(b"GNU.sparse.numblocks", count)
        + format_record(b"GNU.sparse.major", b"0")
        + format_record(b"GNU.sparse.minor", b"1")
        + format_record(b"GNU.sparse.map", sparse_map)
    )
    with pytest.raises(TarError):
        read_all(sparse_archive(pax, b"abc"))


@given(st.binary(max_size=3000))
def test_any_bytes_are_an_archive_or_an_error(data: bytes) -> None:
    with suppress(TarError):
        read_all(data)


@given(st.data())
def test_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    archive = bytearray(
        tars.tar(
            tars.entry("é" * 70, b"1" * 700),
            tars.entry("b", b"2"),
            format=data.draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])),
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    # A right checksum lets the damage through to the fields.
    for start in range(0, len(archive) - 511, 512):
        block = archive[start : start + 512]
        if block[blk.MAGIC].startswith(b"ustar"):
            block[blk.CHECKSUM] = blk.format_octal(7, blk.checksums(bytes(block))[0]) + b" "
            archive[start : start + 512] = block
    with suppress(TarError):
        read_all(bytes(archive))


# --- writing ---


def header_names(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and name field of each header block."""
    found = []
    position = 0
    while data[position : position + 512].strip(b"\x00"):
        block = data[position : position + 512]
        found.append((block[blk.TYPEFLAG], blk.parse_string(block[blk.NAME])))
        size = blk.parse_numeric(block[blk.SIZE])
        position += 512 + size + blk.padding(size)
    return found


def test_short_names_need_no_extension() -> None:
    data = write((Header(name=b"a", size=1, mode=0o644, mod_time=TarTime(5)), b"x"))
    assert len(data) == 512 + 512 + 1024
    assert header_names(data) == [(b"0", b"a")]
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        (info,) = archive
        assert (info.name, info.size, info.mtime, info.mode) == ("a", 1, 5, 0o644)


def test_long_names_are_split_if_they_can_be() -> None:
    name = b"d" * 90 + b"/" + b"f" * 90
    data = write((Header(name=name), b""))
    assert header_names(data) == [(b"0", b"f" * 90)]
    assert read_all(data)[0][0].name == name
    unsplittable = b"f" * 101
    data = write((Header(name=b"d/" + unsplittable), b""))
    assert header_names(data)[0] == (b"x", (b"d/PaxHeaders.0/" + unsplittable)[:100])


def test_a_gnu_header_stays_gnu() -> None:
    header = Header(name=b"n" * 150, format=Format.GNU, mod_time=TarTime(-5), access_time=TarTime(7))
    data = write((header, b""))
    assert header_names(data)[0] == (b"L", b"././@LongLink")
    ((read, _),) = read_all(data)
    assert (read.name, read.mod_time, read.access_time) == (b"n" * 150, TarTime(-5), TarTime(7))


def test_pax_records_are_sorted_and_stale_ones_dropped() -> None:
    records = {
        b"path": b"other",
        b"mtime": b"9.5",
        b"comment": b"c",
        b"SCHILY.xattr.user.b": b"2",
        b"SCHILY.xattr.user.a": b"1",
    }
    header = Header(name=b"a", pax_records=records, format=Format.PAX, mod_time=TarTime(9))
    data = write((header, b""))
    start = data.index(b"25 SCHILY.xattr.user.a=1\n")
    assert data[start:].startswith(b"25 SCHILY.xattr.user.a=1\n25 SCHILY.xattr.user.b=2\n13 comment=c\n\x00")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (Header(name=b"a/"), "trailing slash"),
        (Header(name=b"a", typeflag=TypeFlag.X_HEADER), "not a file"),
        (Header(name=b"a\x00b"), "invalid PAX record"),
        (Header(name=b"a", mode=1 << 60), "cannot hold its mode"),
        (Header(name=b"a", size=-1), "size -1"),
        (Header(name=b"a", format=Format.USTAR, uid=1 << 30), "USTAR cannot hold its uid"),
        (Header(name=b"g", typeflag=TypeFlag.X_GLOBAL_HEADER, size=1), "global header"),
    ],
)
def test_headers_that_cannot_be_written(header: Header, message: str) -> None:
    with pytest.raises(TarError, match=message):
        write((header, b""))


def test_content_must_be_as_long_as_announced() -> None:
    writer = TarWriter(io.BytesIO())
    writer.write_header(Header(name=b"a", size=3))
    writer.write(b"12")
    with pytest.raises(TarError, match="1 bytes short"):
        writer.write_header(Header(name=b"b"))
    with pytest.raises(TarError, match="room for 1"):
        writer.write(b"345")


names = st.binary(min_size=1, max_size=300).map(lambda b: b.replace(b"\x00", b"_").rstrip(b"/") or b"n")


@given(
    name=names,
    linkname=st.binary(max_size=150).map(lambda b: b.replace(b"\x00", b"")),
    uid=st.integers(0, 1 << 40),
    mode=st.integers(0, 0o7777),
    seconds=st.integers(-(1 << 40), 1 << 40),
    nanoseconds=st.integers(0, 999_999_999),
    content=st.binary(max_size=1200),
    xattrs=st.dictionaries(
        st.sampled_from([b"user.a", b"security.capability"]), st.binary(min_size=1, max_size=20)
    ),
)
def test_what_is_written_is_read_again(
    name: bytes,
    linkname: bytes,
    uid: int,
    mode: int,
    seconds: int,
    nanoseconds: int,
    content: bytes,
    xattrs: dict[bytes, bytes],
) -> None:
    header = Header(
        name=name,
        linkname=linkname,
        uid=uid,
        mode=mode,
        size=len(content),
        mod_time=TarTime(seconds, nanoseconds),
        xattrs=xattrs,
        format=Format.PAX,
    )
    ((read, read_content),) = read_all(write((header, content)))
    assert read_content == content
    assert (read.name, read.linkname, read.uid, read.mode) == (name, linkname, uid, mode)
    assert read.mod_time == header.mod_time
    assert read.xattrs == xattrs
    assert read.access_time == ZERO_TIME
