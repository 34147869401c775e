"""What the operators' routes answer, for the document. A test holds real answers to these."""

from typing import Literal

from pydantic import Field

from server.api.schemas.answers import Answer


class LiveAnswer(Answer):
    """This process answers."""

    status: Literal["ok"] = Field(description="That it does.")


class ReadyAnswer(Answer):
    """A turn can really run."""

    status: Literal["ready"] = Field(description="That it can.")
    model: str = Field(description="The model, as its setting has it.")
    workers: int = Field(description="How many live workers serve it.")


class VersionAnswer(Answer):
    """What runs here."""

    version: str = Field(description="Of this api.")
    python: str = Field(description="Of the interpreter.")
    model: str = Field(description="The model, as its setting has it.")
    tokenizer: str = Field(description="The fingerprint of its tokeniser.")
    fingerprints: list[str] = Field(description="Those of the live workers' models: one, but during an upgrade.")


class IndexAnswer(Answer):
    """Where to go from here."""

    name: Literal["perennial"] = Field(description="What this is.")
    version: str = Field(description="Of this api.")
    model: str = Field(description="The model, as its setting has it.")
    generate: str = Field(description="How to begin.")
    sessions: str = Field(description="Where the caller's sessions are.")
    docs: str = Field(description="Where the document is to read.")
    openapi: str = Field(description="Where the document is for programs.")
    ready: str = Field(description="Whether a turn can run.")
    metrics: str = Field(description="What is measured.")
