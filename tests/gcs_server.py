"""An emulator of Google Cloud Storage, with what it leaves out of real answers.

Run as ``python tests/gcs_server.py PORT``; listens on this machine, keeps objects in
memory. Added: the object's generation in downloads, 416 for a range that begins behind
the end, bodies without a byte, and binary bodies in multipart uploads as they are.
"""

from __future__ import annotations

import json
import re
import sys
from http import HTTPStatus

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def download(request, response, storage, *args, **kwargs) -> None:
    objects.download(request, response, storage, *args, **kwargs)
    which = request.params["bucket_name"], request.params["object_id"]
    try:
        resource = storage.get_file_obj(*which)
    except NotFound:
        return
    response["X-Goog-Generation"] = resource["generation"]
    wanted = re.match(r"bytes=(\d+)-", request.get_header("Range", ""))
    if wanted and int(wanted[1]) >= int(resource["size"]):
        response["Content-Range"] = f"bytes */{resource['size']}"
        response.status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def read_data(handler, query) -> object:
    kind = handler.headers.get("Content-Type") or ""
    multipart = kind.startswith("multipart/related")
    if not multipart and "uploadType" not in query:
        return server_read_data(handler, query)
    body = server._read_raw_data(handler) or b""  # noqa: SLF001 - to mend it
    if multipart:
        boundary = b"--" + re.search("boundary=['\"]?([^'\";]+)", kind)[1].encode()
        _, resource, content = body[: body.rindex(boundary)].split(boundary, 2)
        fields, _, data = content.lstrip().partition(b"\n\n")
        return {
            "meta": json.loads(resource.partition(b"\n\n")[2]),
            "content": data.removesuffix(b"\n"),
            "content-type": fields.partition(b":")[2].strip().decode(),
        }
    return json.loads(body or b"{}") if kind.startswith("application/json") else body


server_read_data = server._read_data  # noqa: SLF001


def main() -> None:
    server._read_data = read_data  # noqa: SLF001
    for _, methods in server.HANDLERS:
        if methods.get(server.GET) is objects.download:
            methods[server.GET] = download
    server.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True).run()


if __name__ == "__main__":
    main()
