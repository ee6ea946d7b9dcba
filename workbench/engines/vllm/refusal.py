"""What vLLM says when it gives up, in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from workbench.errors import EngineError, UsageError, WorkbenchError

LONGEST = 300  # characters of what vLLM said itself

# By what its message has in it: what to do in our words, since vLLM names its own options.
_OF_LIMITS = {  # what was asked for does not fit
    "requested memory for kv": "lower limits.kv_budget",
    "max seq len|cache blocks": "raise limits.kv_budget, or lower limits.max_length",
    "derived max_model_len": "lower limits.max_length, or leave it out",
    "divisible by tensor parallel": "choose a parallel.tensor that divides them",
    "GPU memory utilization": "give limits.kv_budget as a smaller share, such as 50%",
}
_ADVICE = _OF_LIMITS | {
    "out of memory|can't allocate memory": "lower limits.kv_budget or limits.max_batched_tokens",
    "cancelled|executor failed|worker.* died": "a rank of it ended: see its messages above",
    "architectures? .*not supported|recognize this architecture": "choose a model of a family that this vLLM knows",
    "safetensor|JSONDecode|not initialized from checkpoint|any model weights|requires a buffer of|"
    "^KeyError 'added_tokens'|^AttributeError 'list'": "a file is damaged or missing: get the model again",
}


@contextmanager
def in_one_line(doing: str) -> Iterator[None]:
    """Turns whatever vLLM raises in the block into one clear line."""
    try:
        yield
    except Exception as error:  # vLLM has no kind of error of its own
        raise refused(doing, error) from error


def refused(doing: str, error: Exception) -> WorkbenchError:
    """Gives the error of ours that says why vLLM failed."""
    if isinstance(error, EngineError):
        return error
    kind = UsageError if _advice(error) in _OF_LIMITS.values() else EngineError
    return kind(f"vLLM failed {doing}: {reason(error)}")


def reason(error: BaseException) -> str:
    """Gives the first sentences of what an error says, and what to do about it where that is known."""
    sentences = _sentences(str(error)) or [type(error).__name__]
    advice = _advice(error)
    said = _without_open_brackets(sentences[0] if advice else ". ".join(sentences))
    return f"{said}; {advice}" if advice else said


def _advice(error: BaseException) -> str | None:
    whole = f"{type(error).__name__} {error}"
    return next((advice for words, advice in _ADVICE.items() if re.search(words, whole, re.IGNORECASE)), None)


def _sentences(text: str) -> list[str]:
    """The sentences of the first line that says something, as many as are not too long together; the first is cut.

    Pydantic counts its errors before that line, and adds its input to it; a line that ends in ":" announces it. vLLM
    adds the names of its own parameters.
    """
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not re.match(r"\d+ validation errors? for ", line)]
    line = next((line for line in lines if not line.endswith(":")), "".join(lines[:1]))
    line = re.sub(r"^(Value|Assertion) ?error[,:] |\s\[type=.*$|\s\(parameter=.*$", "", line, flags=re.IGNORECASE)
    first, *others = (sentence.rstrip(".") for sentence in re.split(r"(?<=\.)\s+", line))
    kept = [first if len(first) <= LONGEST else f"{first[:LONGEST]}…"]
    for sentence in others:
        if len(". ".join([*kept, sentence])) > LONGEST:
            break
        kept.append(sentence)
    return [sentence for sentence in kept if sentence]


def _without_open_brackets(text: str) -> str:
    """Without each bracket that nothing closes: vLLM forgets to, or does so in a sentence that is not kept."""
    open_at: list[int] = []
    for place, character in enumerate(text):
        if character == "(":
            open_at.append(place)
        elif character == ")" and open_at:
            open_at.pop()
    return "".join(character for place, character in enumerate(text) if place not in open_at)
