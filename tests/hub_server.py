"""A stand-in of the Hub on this machine: repositories, commits and files, as huggingface_hub asks for them."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """``repositories``: by name, {file: bytes}; ``asked``: (method, path) of every request; ``sizes``: lies told."""

    def __init__(self):
        self.repositories, self.asked, self.sizes, self.private = {}, [], {}, {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def commit_of(self, name):
        files = sorted(self.repositories[name].items())
        return hashlib.sha1(repr(files).encode(), usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _send(self, code, value=None, data=None, **headers):
        body = json.dumps(value).encode() if data is None else data
        self.send_response(code)
        for name, each in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), each)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        parts = self._parts()
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer hf_known":
            return self._send(401, {"error": "Invalid username or password."})
        if parts[:3] == ["api", "repos", "create"]:
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            taken = name in self.hub.repositories
            self.hub.repositories.setdefault(name, {})
            self.hub.private.setdefault(name, asked.get("private") or asked.get("visibility") == "private")
            return self._send(409 if taken else 200, {"url": f"{self.hub.address}/{name}", "error": "exists"})
        name = "/".join(parts[2:4])
        if parts == ["api", "validate-yaml"]:
            return self._send(200, {"errors": [], "warnings": []})
        if len(parts) < 6:
            return self._send(404, {"error": self.path})
        if parts[4] == "preupload":
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(data)["files"]
            ]
            return self._send(200, {"files": files})
        for line in data.decode().splitlines():
            each = json.loads(line)
            if each["key"] == "file":
                self.hub.repositories[name][each["value"]["path"]] = base64.b64decode(each["value"]["content"])
        commit = self.hub.commit_of(name)
        return self._send(
            200, {"success": True, "commitOid": commit, "commitUrl": f"{self.hub.address}/{name}/commit/{commit}"}
        )

    def _parts(self):
        path = urlsplit(self.path).path
        self.hub.asked.append((self.command, path))
        return unquote(path).strip("/").split("/")

    def do_GET(self):
        parts = self._parts()
        if parts[0] == "api":
            name = "/".join(parts[2:4])
            if name not in self.hub.repositories:
                return self._send(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            sizes = {each: len(data) for each, data in self.hub.repositories[name].items()} | self.hub.sizes
            siblings = [{"rfilename": each, "size": size} for each, size in sizes.items()]
            return self._send(200, {"id": name, "sha": self.hub.commit_of(name), "siblings": siblings})
        name, found = "/".join(parts[:2]), self.hub.repositories.get("/".join(parts[:2]), {}).get(parts[-1])
        if found is None:
            return self._send(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        tag = f'"{hashlib.sha256(found).hexdigest()}"'
        headers = {"ETag": tag, "X_Repo_Commit": self.hub.commit_of(name), "Content_Type": "application/octet-stream"}
        return self._send(200, data=found, **headers)

    do_HEAD = do_GET  # noqa: N815
