"""A stand-in for the metadata service of an EC2 instance, version 2, as far as spot notices go."""

import http.server
import threading


class metadata_service:
    """An instance metadata service, version 2, that gives notice once ``notice`` is set."""

    notice = False

    def __enter__(self) -> "metadata_service":
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._answer(200, b"token-1" if "X-aws-ec2-metadata-token-ttl-seconds" in self.headers else b"")

            def do_GET(self) -> None:
                if self.headers.get("X-aws-ec2-metadata-token") != "token-1":
                    return self._answer(401, b"")
                known = service.notice and self.path == "/latest/meta-data/spot/instance-action"
                return self._answer(200 if known else 404, b'{"action": "terminate"}' if known else b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
