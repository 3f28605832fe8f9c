"""The documentation: every example runs, every page is reached, nothing is remote."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from flac_xarray.range_server import RangeServer
from tests.documents import ROOT, RUNNABLE, PageRun, blocks_of, pages, provide
from tests.servers import free_port, running

PAGES = [
    pytest.param(page, id=str(page.relative_to(ROOT)))
    for page in pages()
    if any(b.language in RUNNABLE and b.reason is None for b in blocks_of(page))
]


@pytest.fixture
def bucket(tmp_path_factory, monkeypatch):
    """Bucket ``bucket`` with ``scene.flac`` behind a real S3 API."""
    if any(importlib.util.find_spec(name) is None for name in ("s3fs", "moto")):
        pytest.skip("not installed: s3fs, moto")
    import s3fs

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTKEY0")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    folder = tmp_path_factory.mktemp("bucket")
    provide("scene.flac", folder)
    with running(command, port):
        fs = s3fs.S3FileSystem()
        fs.call_s3("create_bucket", Bucket="bucket")
        fs.put_file(folder / "scene.flac", "bucket/scene.flac")
        yield endpoint


# rioxarray multiplies transforms in a way that affine will warn of one day.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rioxarray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore")
# The old forms hold no tags, which the command says.
@pytest.mark.filterwarnings("ignore:a .* file holds pixels and georeference")
@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    blocks = [b for b in blocks_of(page) if b.language in RUNNABLE and b.reason is None]
    if page == ROOT / "README.md":
        for name in ("scene.tif", "scene.flac"):  # `demo --keep .` left both
            provide(name, tmp_path)
    replace = {}
    if any("s3://bucket" in b.text for b in blocks):
        replace["https://s3.example.org"] = request.getfixturevalue("bucket")
    with RangeServer(tmp_path) as server:
        run = PageRun(tmp_path, {"https://host": server.url, **replace})
        for block in blocks:
            run.run(page, block)


@pytest.mark.parametrize(
    "page", [pytest.param(p, id=str(p.relative_to(ROOT))) for p in pages()]
)
def test_examples_that_do_not_run_say_why(page):
    text = page.read_text(encoding="utf-8")
    blocks = blocks_of(page)
    # A fence that the expression misses would go unnoticed.
    n_blocks = len(re.findall(r"^```\w+$", text, re.MULTILINE))
    assert len(blocks) == n_blocks
    known = {*RUNNABLE, "text", "json", "yaml", "nginx"}
    assert {block.language for block in blocks} <= known


def heading_anchors(page):
    """Anchors of a page's headings, as the repository's web page names them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def test_links_lead_to_files_and_headings():
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^):]+)\)", text):
            path, _, anchor = target.partition("#")
            found = page.parent / path if path else page
            assert found.exists(), f"{page}: {target}"
            assert not anchor or anchor in heading_anchors(found), f"{page}: {target}"


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^([\w/-]+)$", index, re.MULTILINE)
    found = {str(p.relative_to(ROOT / "docs").with_suffix("")) for p in pages()[1:]}
    assert sorted(listed) == sorted(found - {"index"})


def test_a_broken_example_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    first, second = blocks_of(page)
    run = PageRun(tmp_path, {})
    run.run(page, first)
    with pytest.raises(AssertionError) as caught:
        run.run(page, second)
    assert caught.traceback[-1].lineno == 5
    assert str(caught.traceback[-1].path) == str(page)
    page.write_text("```bash\nflac-raster info nothing.flac\n```\n")
    with pytest.raises(AssertionError, match="no such file"):
        run.run(page, blocks_of(page)[0])
