"""Fetching a repository, from a hub of our own on loopback."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from core.errors import ModelLoadError, UnknownModel
from core.llm.hub import fetch_repository

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"\0" * 64,
    "pytorch_model.bin": b"the same weights once more",
    "modeling_evil.py": b"raise SystemExit",
    "onnx/model.onnx": b"another form",
    "tokenizer.model": b"pieces",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs; only owner/name exists, and owner/gated asks for a key."""

    files: ClassVar[dict[str, bytes]] = FILES
    fetched: ClassVar[list[str]] = []

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0].strip("/")
        if "owner/gated" in path:
            return self.answer(403, b"{}", **{"X-Error-Code": "GatedRepo"})
        if path.startswith("api/models/owner/name/tree/"):
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": COMMIT} for name, data in self.files.items()
            ]
            return self.answer(200, json.dumps(listed).encode())
        if path.startswith("api/models/owner/name"):
            siblings = [{"rfilename": name} for name in self.files]
            about = {"id": "owner/name", "modelId": "owner/name", "sha": COMMIT, "siblings": siblings, "tags": []}
            return self.answer(200, json.dumps(about).encode())
        if path.startswith("owner/name/resolve/"):
            name = path.split("/", 4)[4]
            if self.command == "GET":
                self.fetched.append(name)
            etag = hashlib.sha1(self.files[name]).hexdigest()
            return self.answer(200, self.files[name], **{"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"'})
        return self.answer(404, b"{}", **{"X-Error-Code": "RepoNotFound"})

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Hub, "fetched", [])
    yield server
    server.shutdown()
    server.server_close()


def test_only_data_and_one_set_of_weights_is_fetched_and_kept_for_times_without_a_network(hub):
    folder = fetch_repository("owner/name")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors", "tokenizer.model")
    }
    assert sorted(Hub.fetched) == ["config.json", "model.safetensors", "tokenizer.model"]
    hub.shutdown()
    hub.server_close()
    assert fetch_repository("owner/name") == folder


def test_what_is_not_there_or_may_not_be_read_gets_one_sentence(hub):
    with pytest.raises(UnknownModel, match=r"no repository owner/other .*check the name"):
        fetch_repository("owner/other")
    with pytest.raises(ModelLoadError, match="asks for a permission: accept its licence"):
        fetch_repository("owner/gated")
    hub.shutdown()
    hub.server_close()
    with pytest.raises(UnknownModel, match=r"cannot be fetched .* was not fetched before") as refusal:
        fetch_repository("owner/name")
    assert "\n" not in str(refusal.value)


def test_torch_weights_are_fetched_where_there_are_no_others(hub, monkeypatch):
    files = {name: data for name, data in FILES.items() if not name.endswith(".safetensors")}
    monkeypatch.setattr(Hub, "files", files)
    fetched = {path.name for path in fetch_repository("owner/name").iterdir()}
    assert fetched == {"config.json", "pytorch_model.bin", "tokenizer.model"}
