"""Small applications without a Dockerfile. Each has a dependency from its language's registry, and
answers at port 8000 with what it made of it and where it runs."""

from collections.abc import Mapping

from gantry.contracts.device_types import Architecture

PORT = 8000
# Debian's name of the machine and its ABI (hard float or soft), and the kernel's.
MULTIARCH: Mapping[Architecture, str] = {
    Architecture.AMD64: "x86_64-linux-gnu",
    Architecture.AARCH64: "aarch64-linux-gnu",
    Architecture.ARMV7HF: "arm-linux-gnueabihf",
    Architecture.RPI: "arm-linux-gnueabi",
}
MACHINE: Mapping[Architecture, str] = {
    Architecture.AMD64: "x86_64",
    Architecture.AARCH64: "aarch64",
    Architecture.ARMV7HF: "armv7l",
    Architecture.RPI: "armv6l",
}

_PYTHON = """\
import http.server, platform, sysconfig
import idna

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = idna.encode("bücher.example").decode()
        where = f"{sysconfig.get_config_var('MULTIARCH')} {platform.machine()}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{name} on {where}".encode())

def main():
    http.server.HTTPServer(("", 8000), Handler).serve_forever()
"""

REQUIREMENTS = {"requirements.txt": "idna==3.10\n", "main.py": f"{_PYTHON}\nmain()\n"}

PROJECT = {
    "pyproject.toml": (
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "answer"\nversion = "1"\ndependencies = ["idna==3.10"]\n'
        '[project.scripts]\nanswer = "answer:main"\n'
        '[tool.setuptools]\npy-modules = ["answer"]\n'
    ),
    "answer.py": _PYTHON,
}

NODE = {
    "package.json": (
        '{"name": "answer", "version": "1.0.0", "dependencies": {"ms": "2.1.3"},'
        ' "scripts": {"start": "node answer.js"}}'
    ),
    "answer.js": """\
const ms = require("ms");
const os = require("os");
require("http")
  .createServer((_, response) => response.end(`${ms("2 days")} on ${process.arch} ${os.machine()}`))
  .listen(8000);
""",
}
NODE_ARCH: Mapping[Architecture, str] = {
    Architecture.AMD64: "x64",
    Architecture.AARCH64: "arm64",
    Architecture.ARMV7HF: "arm",
    Architecture.RPI: "arm",
}

_MODULE = {
    "go.mod": "module example.org/answer\n\ngo 1.19\n\nrequire github.com/google/uuid v1.6.0\n",
    "go.sum": (
        "github.com/google/uuid v1.6.0 h1:NIvaJDMOsjHA8n1jAhLSgzrAzy1Hgr+hNrb57e+94F0=\n"
        "github.com/google/uuid v1.6.0/go.mod h1:TIyPZe4MgqvfeYDBFedMoGGpEw/LqOeaOT+nhxU+yHo=\n"
    ),
    "main.go": """\
package main

import (
	"fmt"
	"net"
	"runtime"
	"syscall"

	"github.com/google/uuid"
)

func machine() string {
	var name syscall.Utsname
	syscall.Uname(&name)
	text := ""
	for _, each := range name.Machine {
		if each != 0 {
			text += string(rune(each))
		}
	}
	return text
}

// By hand: net/http takes minutes to compile under emulation.
func main() {
	listener, err := net.Listen("tcp", ":8000")
	if err != nil {
		panic(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		client.Read(make([]byte, 4096))
		fmt.Fprintf(client, "HTTP/1.0 200 OK\\r\\n\\r\\n%s on %s %s%s",
			uuid.Nil, runtime.GOARCH, machine(), floats())
		client.Close()
	}
}
""",
}
GO = {**_MODULE, "floats.go": 'package main\n\nfunc floats() string { return "" }\n'}
# By a C compiler of the device's own architecture, which knows how floats are passed there.
CGO = {
    **_MODULE,
    "floats.go": """\
package main

// #ifdef __ARM_PCS_VFP
// static char *floats(void) { return " hard float"; }
// #else
// static char *floats(void) { return " as the port has it"; }
// #endif
import "C"

func floats() string { return C.GoString(C.floats()) }
""",
}
GO_ARCH: Mapping[Architecture, str] = {
    Architecture.AMD64: "amd64",
    Architecture.AARCH64: "arm64",
    Architecture.ARMV7HF: "arm",
    Architecture.RPI: "arm",
}


def answers(arch: Architecture) -> dict[str, str]:
    """What each application says on a machine of `arch`."""
    floats = "hard float" if arch is Architecture.ARMV7HF else "as the port has it"
    machine = MACHINE[arch]
    python = f"xn--bcher-kva.example on {MULTIARCH[arch]} {machine}"
    go = f"00000000-0000-0000-0000-000000000000 on {GO_ARCH[arch]} {machine}"
    return {
        "requirements": python,
        "project": python,
        "node": f"172800000 on {NODE_ARCH[arch]} {machine}",
        "go": go,
        "cgo": f"{go} {floats}",
    }


TREES: Mapping[str, Mapping[str, str]] = {
    "requirements": REQUIREMENTS,
    "project": PROJECT,
    "node": NODE,
    "go": GO,
    "cgo": CGO,
}
