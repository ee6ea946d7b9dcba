"""`workbench.Panel()`: choose a config, record under it, compare, and generate, from a notebook."""

from __future__ import annotations

from html import escape
from typing import Any

import traitlets

from workbench.config import EngineConfig, Workload
from workbench.errors import UsageError, WorkbenchError
from workbench.run import metrics
from workbench.run.run import Run
from workbench.run.store import Store
from workbench.units import shown
from workbench.view import still
from workbench.view.comparison_screen import MOST_RUNS, ComparisonScreen
from workbench.view.conductor import Conductor, Status, told
from workbench.view.controls import form
from workbench.view.crossing import Answer
from workbench.view.live import Live
from workbench.view.screen import Screen
from workbench.view.script import script, style
from workbench.view.widget import Widget

PROMPT = "Once upon a time"
NEEDS_A_KERNEL = "The workbench panel: run this cell to choose a config, record, compare and generate."


class Panel(Widget):
    """A panel over one engine at a time. `config` is what is chosen, `runs` are those that were recorded here.

    The last answer and the runs that are shown stay in a saved notebook.
    """

    _esm = traitlets.Unicode(script("panel")).tag(sync=True)
    _css = traitlets.Unicode(style() + style("panel")).tag(sync=True)
    form = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    listed: Any = traitlets.List().tag(sync=True)

    def __init__(
        self,
        config: EngineConfig | None = None,
        *,
        prompt: str = PROMPT,
        max_tokens: int = 64,
        store: Store | None = None,
    ) -> None:
        self.config = config or EngineConfig()
        self.runs: list[Run] = []
        self._prompt = prompt
        self._screen: Screen | ComparisonScreen | None = None
        self._conductor = Conductor(store, self._show_status, self._show_live, self._add)
        super().__init__(prompt=prompt, max_tokens=max_tokens)
        self.form = form(self.config)
        self.status = told(self._conductor.status)
        self._asked = {
            "choose": self._choose,
            "record": lambda question: self._answer(question, ends=True),
            "generate": lambda question: self._answer(question, ends=False),
            "stop": lambda _: self._conductor.stop(),
            "end": lambda _: self._conductor.end(),
            "shown": self._show,
        }

    def answer(self, question: dict[str, Any]) -> Answer:
        """The answer to a question of the page: of the panel's own, or of the view of runs in it."""
        try:
            if question.get("ask") == "live":
                return self._conductor.live.answer() if self._conductor.live else Answer({}, {})
            if question.get("ask") not in self._asked:
                return self._screen.answer(question) if self._screen else Answer({"error": "no run is shown"}, {})
            self._asked[question["ask"]](question)
        except WorkbenchError as error:
            return Answer({"error": " ".join(str(error).split())}, {})
        return Answer({}, {})

    def close(self) -> None:
        """End the engine; its run is kept."""
        self._conductor.close()
        super().close()

    def still(self) -> dict[str, Any]:
        name, screen = self.options["static"], self._screen
        if screen:
            return self._still_of(screen, name)
        shown = f'<p data-workbench-static="{name}">{still.without_error(name)}{escape(NEEDS_A_KERNEL)}</p>'
        return {"text/plain": NEEDS_A_KERNEL, "text/html": shown}

    def _still_of(self, screen: Screen | ComparisonScreen, name: str) -> dict[str, Any]:
        """The last prompt with its answer, and the runs that are shown."""
        tier = next(iter(screen.tiers), "pageable")
        if isinstance(screen, Screen):
            kept = still.bundle(screen, tier, "owner", name)
        else:
            kept = still.comparison_bundle(screen, tier, name)
        said = f"<b>{escape(self._prompt)}</b>{escape(self.text)}"
        answer = f'<pre data-workbench-static="{name}" style="white-space:pre-wrap">{said}</pre>'
        words = f"{self._prompt}{self.text}\n{kept['text/plain']}"
        return {**kept, "text/plain": words, "text/html": answer + kept["text/html"]}

    def _choose(self, question: dict[str, Any]) -> None:
        self.config = self.config.with_setting(str(question["name"]), question["value"])
        self.form = form(self.config)

    def _answer(self, question: dict[str, Any], ends: bool) -> None:
        rules = {name: question[name] for name in ("max_tokens", "temperature") if question.get(name) not in (None, "")}
        workload = Workload.from_dict({"prompts": [str(question["prompt"])], **rules})
        if reason := self.form["refused"]:
            raise UsageError(reason)
        self._conductor.answer(self.config, workload, ends=ends)
        self._prompt = workload.prompts[0]

    def _show(self, question: dict[str, Any]) -> None:
        """Chooses the runs that are shown below: one by itself, more of them compared."""
        runs = [self.runs[int(place)] for place in question["runs"]]
        if len(runs) > MOST_RUNS:
            raise UsageError(f"at most {MOST_RUNS} runs are compared at a time, not {len(runs)}")
        self._screen = ComparisonScreen(runs) if len(runs) > 1 else Screen(runs[0]) if runs else None
        self._keep_still()

    def _show_status(self, status: Status, text: str) -> None:
        self.text = text
        self.status = told(status)

    def _show_live(self, live: Live) -> None:
        facts, buffers = live.answer().crossing()
        self.send(facts, buffers)

    def _add(self, run: Run) -> None:
        self.runs.append(run)
        self.listed = [*self.listed, _listed(run)]


def _listed(run: Run) -> dict[str, Any]:
    found = metrics.summary(run)
    settings = EngineConfig.from_dict(run.manifest.config or {})
    return {
        "id": run.id,
        "name": run.manifest.name,
        "status": run.manifest.status,
        "settings": _unusual(settings),
        "tokens": found["tokens"],
        "tokens_per_s": found["tokens_per_s"] if found["steps"] else None,
        "peak": found["peak_bytes"],
    }


def _unusual(config: EngineConfig) -> list[str]:
    """What differs from the default config, as it is set."""
    chosen, usual = (_flat(one.to_dict()) for one in (config, EngineConfig()))
    return [f"{name} {shown(value)}" for name, value in chosen.items() if value != usual.get(name)]


def _flat(given: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in given.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat
