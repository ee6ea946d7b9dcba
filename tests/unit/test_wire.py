"""Questions to a scribe, each with its own answer, whatever came in between."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest

from workbench.recorder import wire


def test_after_an_interrupt_the_answer_to_an_earlier_question_is_not_taken_for_the_next_one_s(tmp_path: Path) -> None:
    """As where a Ctrl-C ends a cell of a notebook that records itself."""
    with wire.listen(tmp_path) as server:
        line = wire.Line(tmp_path)
        scribe, _ = server.accept()
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            line.ask("phase")
        signal.signal(signal.SIGALRM, before)

        def answer_both() -> None:
            text = b""
            while text.count(b"\n") < 2:
                text += scribe.recv(1 << 16)
            for asked in map(json.loads, text.splitlines()):
                scribe.sendall(wire.encode({"of": asked["do"], "to": asked["question"]}))

        answering = threading.Thread(target=answer_both)
        answering.start()
        assert line.ask("note")["of"] == "note"
        answering.join()
        line.close()
        scribe.close()
