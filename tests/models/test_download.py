from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from srgui.errors import Cancelled, DownloadError, ModelError, OutputError
from srgui.models import download as module_under_test
from srgui.models.cards import Part, all_cards, find_card, models_folder
from srgui.models.download import add_model, download, download_model
from srgui.protocol import Run

CONTENT = bytes(range(256)) * 400
SHA = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """A server of one file that notes the ranges it was asked for and can break off."""

    url: str = ""
    content: bytes = CONTENT
    break_after: int | None = None
    knows_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.ranges.append(wanted)
            if self.path != "/file":
                return self.send_error(404)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and state.knows_ranges else 0
            if start >= len(state.content) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            rest = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest if state.break_after is None else rest[: state.break_after])
            return None

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}/file"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "_CHUNK", 10_000)


def part_of(tmp_path: Path, server: Server, sha256: str | None = SHA) -> Part:
    return Part(tmp_path / "models" / "a.pth", server.url, sha256)


def partial(part: Part) -> Path:
    return part.path.with_name("a.pth.part")


def refusal(part: Part) -> str:
    with pytest.raises(DownloadError) as caught:
        download(part, Run())
    assert not part.path.exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_download_arrives_whole_and_reports_progress(tmp_path: Path, server: Server, watch: Callable[..., Run]) -> None:
    part, run = part_of(tmp_path, server), watch()
    download(part, run)
    assert part.path.read_bytes() == CONTENT
    assert not partial(part).exists()
    assert run.of("bytes")[-1] == (len(CONTENT), len(CONTENT))
    assert len(run.of("bytes")) > 5
    assert server.ranges == [None]


def test_an_interrupted_download_is_resumed(tmp_path: Path, server: Server, watch: Callable[..., Run]) -> None:
    part, server.break_after = part_of(tmp_path, server), 40_000
    message = refusal(part)
    assert "broke off after 40000 of 102400 bytes; try again to resume" in message
    assert partial(part).stat().st_size == 40_000
    server.break_after = None
    run = watch()
    download(part, run)
    assert part.path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=40000-"]
    assert run.of("bytes")[0][0] > 40_000
    assert run.of("bytes")[-1] == (len(CONTENT), len(CONTENT))


def test_a_server_without_ranges_is_read_from_the_start(tmp_path: Path, server: Server) -> None:
    part, server.break_after = part_of(tmp_path, server), 40_000
    refusal(part)
    server.break_after, server.knows_ranges = None, False
    download(part, Run())
    assert part.path.read_bytes() == CONTENT


def test_cancel_keeps_the_part_for_later(tmp_path: Path, server: Server, watch: Callable[..., Run]) -> None:
    part = part_of(tmp_path, server)
    with pytest.raises(Cancelled):
        download(part, watch(3, "bytes"))
    assert not part.path.exists()
    assert partial(part).read_bytes() == CONTENT[:30_000]
    download(part, Run())
    assert server.ranges == [None, "bytes=30000-"]
    assert part.path.read_bytes() == CONTENT


def test_a_part_that_is_complete_is_used(tmp_path: Path, server: Server) -> None:
    part = part_of(tmp_path, server)
    partial(part).parent.mkdir()
    partial(part).write_bytes(CONTENT)
    download(part, Run())
    assert part.path.read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", [SHA, None])
def test_a_part_longer_than_the_file_is_thrown_away(tmp_path: Path, server: Server, sha256: str | None) -> None:
    part = part_of(tmp_path, server, sha256)
    partial(part).parent.mkdir()
    partial(part).write_bytes(CONTENT + b"more")
    download(part, Run())
    assert part.path.read_bytes() == CONTENT


def test_a_wrong_digest_is_refused_and_the_file_removed(tmp_path: Path, server: Server) -> None:
    part = part_of(tmp_path, server, "ab" * 32)
    message = refusal(part)
    assert SHA[:12] in message
    assert "not abababababab" in message
    assert "is not used" in message
    assert not partial(part).exists()


def test_an_unknown_digest_is_recorded_and_a_later_change_refused(tmp_path: Path, server: Server) -> None:
    part = part_of(tmp_path, server, None)
    download(part, Run())
    assert SHA in part.path.with_name("a.pth.sha256").read_text()
    part.path.unlink()
    server.content = CONTENT[::-1]
    assert "the file was changed" in refusal(part)
    server.content = CONTENT
    download(part, Run())
    assert part.path.read_bytes() == CONTENT


def test_a_file_that_is_not_there_says_404(tmp_path: Path, server: Server) -> None:
    part = Part(tmp_path / "a.pth", server.url + "-missing", SHA)
    assert f"{part.url} could not be downloaded (HTTP 404" in refusal(part)


def test_no_server_says_so(tmp_path: Path) -> None:
    message = refusal(Part(tmp_path / "a.pth", "http://127.0.0.1:9/a.pth", SHA))
    assert "Connection refused" in message
    assert "check the network and try again" in message


def test_a_part_without_a_url_says_where_to_put_the_file(tmp_path: Path) -> None:
    assert f"copy the file to {tmp_path / 'a.pth'}" in refusal(Part(tmp_path / "a.pth"))


def test_a_folder_that_cannot_be_written_is_called_that(tmp_path: Path, server: Server) -> None:
    (tmp_path / "models").write_text("a file in the way")
    assert "cannot be written" in refusal(part_of(tmp_path, server))


def test_a_model_of_the_catalogue_is_fetched_and_ready(
    tmp_path: Path, server: Server, tiny_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = tiny_files.pth.read_bytes()
    import json

    from srgui.models import cards

    folder = tmp_path / "assets" / "models" / "far"
    folder.mkdir(parents=True)
    parts = {"weights": {"file": "far.pth", "url": server.url}}
    card = {"schema": 1, "id": "far", "family": "spandrel", "scale": 4, "parts": parts, "title": "Far", "licence": "CC0"}
    (folder / "card.json").write_text(json.dumps(card))
    monkeypatch.setattr(cards, "ASSETS", tmp_path / "assets")
    assert not find_card("far").present
    assert download_model("far", Run()).present
    assert (models_folder() / "far" / "far.pth").read_bytes() == server.content
    download_model("far", Run())
    assert len(server.ranges) == 1  # what is here is not fetched again
    with pytest.raises(ModelError, match="Did you mean far"):
        download_model("farr", Run())


def test_a_file_is_added_as_a_model(tiny_files: Any) -> None:
    card = add_model(tiny_files.pth, "my tiny")
    assert card.id == "my tiny"
    assert card.present
    assert card.scale == 4
    assert "Compact" in card.description
    assert all_cards()["my tiny"].parts["weights"].path.read_bytes() == tiny_files.pth.read_bytes()
    with pytest.raises(ModelError, match="exists already"):
        add_model(tiny_files.pth, "my tiny")


def test_a_file_is_added_under_its_own_name(tiny_files: Any) -> None:
    assert add_model(tiny_files.safetensors).id == "tiny"


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "srgui-compact-x4"])
def test_an_id_that_cannot_be_given_is_refused(tiny_files: Any, home: Path, name: str) -> None:
    with pytest.raises(ModelError):
        add_model(tiny_files.pth, name)
    assert not home.exists()


def test_what_is_no_model_is_not_added(tmp_path: Path, home: Path) -> None:
    (tmp_path / "a.pth").write_text("text")
    with pytest.raises(ModelError, match="is not a weight file"):
        add_model(tmp_path / "a.pth")
    assert not home.exists()


def test_what_an_interrupted_copy_left_is_no_obstacle(tiny_files: Any) -> None:
    (models_folder() / "tiny").mkdir(parents=True)
    assert add_model(tiny_files.pth).present


def test_a_models_folder_that_cannot_be_written_is_called_that(tiny_files: Any, home: Path) -> None:
    home.write_text("a file in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        add_model(tiny_files.pth)
