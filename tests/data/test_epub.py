"""EPUBs made here with zipfile: reading order, tables of contents, mending, and every trap."""

from __future__ import annotations

import io
import zipfile

import pytest

from core.data import archive
from core.data.reading import novel_from_bytes
from core.errors import BookTooLarge, NovelscopeError, UnsupportedFormat

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles>'
    "</container>"
)
PARAGRAPH = "他走进屋里，看见桌上放着一封信。窗外的雨还在下。"


def xhtml(body, head="<title>t</title>"):
    return (
        '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head>{head}</head><body>{body}</body></html>'
    )


def package(documents, nav="", ncx="", extra_items="", extra_refs="", title="红楼梦"):
    items = "".join(
        f'<item id="d{n}" href="{href}" media-type="application/xhtml+xml"/>' for n, href in enumerate(documents)
    )
    refs = "".join(f'<itemref idref="d{n}"/>' for n in range(len(documents)))
    if nav:
        items += '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
        refs = '<itemref idref="nav"/>' + refs
    if ncx:
        items += '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    return (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
        f'<manifest>{items}{extra_items}</manifest><spine toc="ncx">{refs}{extra_refs}</spine></package>'
    )


def nav_of(*entries):
    links = "".join(f'<li><a href="{href}">{title}</a></li>' for href, title in entries)
    return xhtml(f'<nav epub:type="toc"><h1>目录</h1><ol>{links}</ol></nav>')


def ncx_of(*entries):
    points = "".join(
        f'<navPoint id="p{n}"><navLabel><text>{title}</text></navLabel><content src="{href}"/></navPoint>'
        for n, (href, title) in enumerate(entries)
    )
    return (
        '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" "http://www.daisy.org/ncx.dtd">'
        f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{points}</navMap></ncx>'
    )


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, content in files.items():
            members.writestr(name, content)
    return out.getvalue()


def book(documents, nav="", ncx="", **options):
    """An EPUB of documents, name to body; ``options`` go to the package or, with a slash, into the archive."""
    files = {name: content for name, content in options.items() if "/" in name}
    rest = {name: content for name, content in options.items() if "/" not in name}
    files["META-INF/container.xml"] = files.get("META-INF/container.xml", CONTAINER)
    files.setdefault("OEBPS/content.opf", package(list(documents), nav, ncx, **rest))
    if nav:
        files["OEBPS/nav.xhtml"] = nav
    if ncx:
        files["OEBPS/toc.ncx"] = ncx
    for name, body in documents.items():
        files.setdefault(f"OEBPS/{name}", body if body.startswith("<?xml") else xhtml(body))
    return zipped(files)


def read(data):
    novel = novel_from_bytes(data, name="book.epub")
    assert "".join(chapter.span.of(novel.text) for chapter in novel.chapters) == novel.text
    return novel


def test_chapters_come_from_the_navigation_document_in_reading_order():
    names = {"a.xhtml": "第一章 雨", "b.xhtml": "第二章 雪", "c.xhtml": "第三章 风"}
    documents = {name: f"<h1>{title}</h1><p>{PARAGRAPH}</p><p>{name}</p>" for name, title in names.items()}
    novel = read(book(documents, nav=nav_of(*names.items())))
    assert (novel.title, novel.language) == ("红楼梦", "zh")
    assert [(c.number, c.title) for c in novel.chapters] == list(enumerate(names.values(), 1))
    assert "目录" not in novel.text
    assert novel.text.count("第二章 雪") == 1
    assert [c.span.of(novel.text).strip()[-7:] for c in novel.chapters] == list(names)


def test_a_title_that_the_text_does_not_begin_with_becomes_a_heading_line():
    documents = {"a.xhtml": f"<p>{PARAGRAPH}</p>", "b.xhtml": "<h2>The</h2><h2>Snow</h2><p>It fell.</p>"}
    novel = read(book(documents, ncx=ncx_of(("a.xhtml", "The Rain"), ("b.xhtml", "The Snow"))))
    assert [chapter.title for chapter in novel.chapters] == ["The Rain", "The Snow"]
    assert novel.text == f"The Rain\n{PARAGRAPH}\n\nThe\nSnow\nIt fell.\n"


def test_several_chapters_in_one_file_are_found_by_their_ids():
    body = "".join(f'<h2 id="c{n}">第{n}章</h2><p>{PARAGRAPH}</p>' for n in (1, 2, 3))
    novel = read(book({"all.xhtml": body}, nav=nav_of(*((f"all.xhtml#c{n}", f"第{n}章") for n in (1, 2, 3)))))
    assert [chapter.number for chapter in novel.chapters] == [1, 2, 3]
    assert all(chapter.span.of(novel.text).startswith(chapter.title) for chapter in novel.chapters)


def test_numbers_alone_are_trusted_in_a_table_of_contents():
    documents = {f"{n}.xhtml": f"<h1>{n}</h1><p>It was dark.</p>" for n in (1, 2, 3)}
    novel = read(book(documents, nav=nav_of(*((f"{n}.xhtml", str(n)) for n in (1, 2, 3)))))
    assert [chapter.number for chapter in novel.chapters] == [1, 2, 3]


def test_without_a_table_of_contents_the_text_is_searched_for_headings():
    documents = {f"{n}.xhtml": f"<p>第{n}章 题</p><p>{PARAGRAPH}</p>" for n in (1, 2)}
    assert [chapter.number for chapter in read(book(documents)).chapters] == [1, 2]
    tagged = {f"{n}.xhtml": f"<h1>Name {n}</h1><p>It was dark.</p>" for n in (1, 2)}
    assert [chapter.title for chapter in read(book(tagged)).chapters] == ["Name 1", "Name 2"]


def test_blocks_are_lines_and_what_is_not_text_is_dropped():
    body = (
        "<p>甲<br/>乙</p><div>丙<p>丁</p>戊</div><p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字</p>"
        "<script>var x;</script><style>p{}</style><p>  one\n   two&nbsp;&amp; three </p><p>中\n  文</p><pre>a\nb</pre>"
        "<p>\u3000\u3000缩进</p><p> &#160; </p>"
    )
    assert (
        read(book({"a.xhtml": body})).text
        == "甲\n乙\n丙\n丁\n戊\n漢字\none two\u00a0& three\n中文\na\nb\n\u3000\u3000缩进\n"
    )


def test_markup_that_html_would_misread_is_mended():
    page = xhtml("<a id='x'/><p>甲<i/>乙</p><p><![CDATA[a < b]]></p><div/><p>丙", head="<title/><script src='x'/>")
    assert read(book({"a.xhtml": page})).text == "甲乙\na < b\n丙\n"


def test_documents_may_be_in_another_encoding_and_names_percent_encoded():
    page = xhtml(f"<p>{PARAGRAPH}</p>").replace("utf-8", "gb18030").encode("gb18030")
    opf = package(["text/%E7%AC%AC%20%E4%B8%80.xhtml"])
    files = {"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": opf, "OEBPS/text/第 一.xhtml": page}
    assert read(zipped(files)).text == f"{PARAGRAPH}\n"


def test_line_ends_of_any_kind_and_marks_inside_a_document_do_not_reach_the_text():
    page = xhtml("<h1>\ufeff雨\u2028夜</h1><p>a\u2029b\x85c</p>").replace('<?xml version="1.0" encoding="utf-8"?>', "")
    novel = read(book({"a.xhtml": "<?xml?>" + page}, nav=nav_of(("a.xhtml", "雨\u2028夜"))))
    assert novel.text == "雨 夜\na b c\n"
    assert read(book({}, **{"OEBPS/content.opf": package(["a.xhtml"]), "OEBPS/a.xhtml": page})).text == novel.text


def test_a_book_of_one_file_keeps_its_text_beside_its_table_of_contents():
    page = xhtml(f'<nav epub:type="toc"><a href="#a">雨</a></nav><h1 id="a">雨</h1><p>{PARAGRAPH}</p>')
    item = '<item id="x" href="a.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    opf = package([], extra_items=item, extra_refs='<itemref idref="x"/>')
    assert read(book({}, **{"OEBPS/content.opf": opf, "OEBPS/a.xhtml": page})).text == f"雨\n{PARAGRAPH}\n"


def test_deep_nesting_is_read():
    assert read(book({"a.xhtml": "<div>" * 3000 + "<p>深</p>"})).text.strip() == "深"


def test_parts_that_are_not_in_the_reading_order_stay_out():
    extra = '<item id="note" href="note.xhtml" media-type="application/xhtml+xml"/>'
    data = book(
        {"a.xhtml": f"<p>{PARAGRAPH}</p>"},
        extra_items=extra,
        extra_refs='<itemref idref="note" linear="no"/>',
        **{"OEBPS/note.xhtml": xhtml("<p>注</p>")},
    )
    assert "注" not in read(data).text


def encryption(algorithm):
    return (
        '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData>'
        f'<EncryptionMethod Algorithm="{algorithm}"/></EncryptedData></encryption>'
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("META-INF/rights.xml", "<rights/>"),
        ("META-INF/license.lcpl", "{}"),
        ("META-INF/encryption.xml", encryption("http://www.w3.org/2001/04/xmlenc#aes128-cbc")),
        ("META-INF/encryption.xml", "<encryption><EncryptedData/></encryption>"),
    ],
)
def test_a_book_under_drm_is_named_as_such(name, content):
    with pytest.raises(UnsupportedFormat, match="protected by DRM"):
        read(book({"a.xhtml": "<p>x</p>"}, **{name: content}))


def test_obfuscated_fonts_are_no_drm():
    data = book(
        {"a.xhtml": f"<p>{PARAGRAPH}</p>"},
        **{"META-INF/encryption.xml": encryption("http://www.idpf.org/2008/embedding")},
    )
    assert read(data).text.strip() == PARAGRAPH


BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"META-INF/container.xml": BOMB}, "declares XML entities"),
        ({"META-INF/container.xml": BOMB.encode("utf-16")}, "declares XML entities"),
        ({"OEBPS/content.opf": BOMB}, "declares XML entities"),
        ({"OEBPS/content.opf": "<package>"}, "not well-formed"),
        ({"OEBPS/content.opf": "<package/>"}, "no reading order"),
        ({"OEBPS/content.opf": package(["gone.xhtml"])}, "'OEBPS/gone.xhtml' is missing"),
        ({"OEBPS/content.opf": package(["../../etc/passwd"])}, "leads out of the book"),
        ({"OEBPS/content.opf": package(["/etc/passwd"])}, "leads out of the book"),
        ({"OEBPS/content.opf": package(["..%2F..%2Fetc%2Fpasswd"])}, "leads out of the book"),
    ],
)
def test_a_broken_or_hostile_package_is_refused(files, said):
    with pytest.raises(UnsupportedFormat, match=said) as caught:
        read(book({"a.xhtml": "<p>x</p>"}, **files))
    assert str(caught.value).startswith("book.epub ")


def test_a_zip_without_a_package_is_no_epub():
    with pytest.raises(UnsupportedFormat, match="no EPUB"):
        read(zipped({"a.txt": "hello"}))


def test_a_truncated_epub_is_damaged():
    data = book({"a.xhtml": f"<p>{PARAGRAPH}</p>"})
    for cut in (10, len(data) // 2, len(data) - 5):
        with pytest.raises(UnsupportedFormat, match="damaged EPUB"):
            read(data[:cut])


def test_flipped_bytes_never_give_anything_but_our_own_errors():
    data = bytearray(book({"a.xhtml": f"<p>{PARAGRAPH * 20}</p>"}, nav=nav_of(("a.xhtml", "雨"))))
    for at in range(0, len(data), 7):
        broken = bytes(data[:at]) + bytes([data[at] ^ 0xFF]) + bytes(data[at + 1 :])
        try:
            novel_from_bytes(broken, name="book.epub")
        except NovelscopeError:
            continue


def test_a_zip_bomb_is_refused_before_it_unpacks(monkeypatch):
    monkeypatch.setattr(archive, "_MAX_TEXT_BYTES", 2**20)
    with pytest.raises(BookTooLarge, match="unpacks to more than 1 MB"):
        read(book({"a.xhtml": "<p>" + "哈" * 2**20 + "</p>"}))


def test_a_book_of_pictures_only_is_empty():
    with pytest.raises(NovelscopeError, match="holds no text"):
        read(book({"a.xhtml": "<img src='x.png'/>"}))
