"""The timeline of a run in a notebook: drawn in the browser, answered by the kernel."""

from __future__ import annotations

from threading import Lock, Thread
from typing import Any
from uuid import uuid4

import anywidget
import traitlets

from workbench.errors import UsageError, WorkbenchError, nearest
from workbench.run.run import Run
from workbench.view import still
from workbench.view.bands import BY
from workbench.view.comparison_screen import ComparisonScreen
from workbench.view.crossing import Answer
from workbench.view.screen import Screen
from workbench.view.script import script, style


class Widget(anywidget.AnyWidget):
    """A view whose questions are answered here; `options` is what it begins with."""

    _esm = traitlets.Unicode(script("widget")).tag(sync=True)
    _css = traitlets.Unicode(style()).tag(sync=True)
    options = traitlets.Dict().tag(sync=True)

    def __init__(self, **options: Any) -> None:
        known = {key: value for key, value in options.items() if value is not None}
        super().__init__(options={"static": uuid4().hex, **known})
        self._is_displayed = self._is_due = False
        self._keeping = Lock()
        self.on_msg(self._hear)

    def answer(self, question: dict[str, Any]) -> Answer:
        """The answer to a question of the page."""
        raise NotImplementedError

    def still(self) -> dict[str, Any]:
        """What is shown where no kernel runs, by type."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        """Shows the widget, and after it what stays of it in a saved notebook: the page hides that while it is live.

        They are two outputs, for a viewer that can not show a widget does not look at the other types of its output,
        or shows as text which object that was.
        """
        from IPython.display import display

        live, _ = self._repr_mimebundle_() or ({}, {})
        display({**live, "text/plain": ""}, raw=True)  # type: ignore[no-untyped-call]
        display(self.still(), raw=True, display_id=self.options["static"])  # type: ignore[no-untyped-call]
        self._is_displayed = True

    def _keep_still(self) -> Thread | None:
        """Puts what is shown by now in the place of what stayed of it before: soon, for the kernel must stay free."""
        if not self._is_displayed:
            return None
        self._is_due = True
        thread = Thread(target=self._replace_still, daemon=True, name="workbench still")
        thread.start()
        return thread

    def _replace_still(self) -> None:
        from IPython.display import update_display

        with self._keeping:  # one at a time; one that waited has nothing to do where another saw to it
            if self._is_due:
                self._is_due = False
                update_display(self._still_or_why_not(), raw=True, display_id=self.options["static"])  # type: ignore[no-untyped-call]

    def _still_or_why_not(self) -> dict[str, Any]:
        try:
            return self.still()
        except WorkbenchError as error:
            return {"text/plain": str(error)}

    def _hear(self, _widget: object, question: dict[str, Any], _buffers: list[memoryview]) -> None:
        facts, buffers = self.answer(question).crossing()
        self.send({**facts, "id": question.get("id")}, buffers)


class TimelineView(Widget):
    """Bytes over time of a run: zoom, pan, ledgers, allocations, search and addresses."""

    def __init__(self, run: Run, tier: str | None = None, by: str = "owner") -> None:
        self.screen = Screen(run)
        if tier is not None and tier not in self.screen.tiers:
            raise UsageError(f"this run has nothing in a tier {tier!r}: {nearest(tier, self.screen.tiers)}")
        if by not in BY:
            raise UsageError(f"bytes can not be shown by {by!r}; by {' or '.join(BY)}")
        super().__init__(tier=tier, by=by)

    def answer(self, question: dict[str, Any]) -> Answer:
        return self.screen.answer(question)

    def still(self) -> dict[str, Any]:
        tier = self.options.get("tier") or (self.screen.tiers or ["pageable"])[0]
        return still.bundle(self.screen, tier, self.options["by"], self.options["static"])


class ComparisonView(Widget):
    """Two to six runs on one axis of time, and what differs between them."""

    def __init__(self, runs: list[Run], tier: str | None = None) -> None:
        self.screen = ComparisonScreen(runs)
        if tier is not None and tier not in self.screen.tiers:
            raise UsageError(f"these runs have nothing in a tier {tier!r}: {nearest(tier, self.screen.tiers)}")
        super().__init__(tier=tier, compares=True)

    def answer(self, question: dict[str, Any]) -> Answer:
        return self.screen.answer(question)

    def still(self) -> dict[str, Any]:
        tier = self.options.get("tier") or (self.screen.tiers or ["pageable"])[0]
        return still.comparison_bundle(self.screen, tier, self.options["static"])
