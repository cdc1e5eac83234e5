"""What people see of a deployment."""

import io

from rich.console import Console

from gantry.deployment.engine import Engine
from gantry.deployment.engine.render import ConsoleReporter, diff, summary

from .conftest import Deployed


def test_diff_summary_and_live_lines_show_no_secret(deployed: Deployed) -> None:
    console = Console(file=io.StringIO(), width=200)
    with ConsoleReporter(console) as reporter:
        engine = Engine(deployed.stack, deployed.root, deployed.home, reporter)
        console.print(summary(engine.up(), done=True))
        console.print(summary(engine.up(), done=True))
        deployed.configure(text="something new", memory=40)
        foreseen = engine.preview()
    for line in diff(foreseen.steps):
        console.print(line)
    console.print(summary(foreseen, done=False))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "+ docker:Network network  create done" in shown
    assert "6 created (" in shown
    assert "no change: 6 resources are as they should be" in shown
    assert "± docker:Container service  replace (uploads)" in shown
    assert "    memory: 32 => 40" in shown
    assert "    text: [secret] => [secret]" in shown
    assert "would be: 1 updated, 1 replaced, 4 unchanged" in shown
    assert "hush-hush" not in shown
    assert "something new" not in shown
