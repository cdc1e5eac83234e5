"""examples/two-services as it is pushed."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

EXAMPLE = Path(__file__).parents[3] / "examples" / "two-services"


class Worker(SimpleHTTPRequestHandler):
    """Serves the readings as the worker's own server does."""

    def do_GET(self) -> None:
        body = b'{"number": 1, "time": "2020-01-01T00:00:00Z", "load": 0.5}\n'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        return


@pytest.fixture
def worker() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Worker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_each_service_has_its_dockerfile() -> None:
    composition = yaml.safe_load((EXAMPLE / "docker-compose.yml").read_text())
    assert composition["version"] == "2.1"
    assert set(composition["services"]) == {"web", "worker"}
    assert composition["volumes"] == {"readings": {}}
    for service in composition["services"].values():
        dockerfile = (EXAMPLE / service["build"] / "Dockerfile.template").read_text()
        assert dockerfile.startswith("FROM gantry/%%RESIN_ARCH%%-")


def test_web_asks_the_worker_by_its_address(worker: ThreadingHTTPServer) -> None:
    program = (
        f"import runpy; web = runpy.run_path({str(EXAMPLE / 'web' / 'web.py')!r}); "
        "import json; print(json.dumps(web['fetch_readings']()))"
    )
    environment = {"WORKER_URL": f"http://127.0.0.1:{worker.server_port}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert json.loads(done.stdout) == [
        {"number": 1, "time": "2020-01-01T00:00:00Z", "load": 0.5},
    ]


def test_the_worker_is_a_shell_script_that_parses() -> None:
    subprocess.run(["sh", "-n", str(EXAMPLE / "worker" / "worker.sh")], check=True)
