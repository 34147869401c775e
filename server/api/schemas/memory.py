"""Operations on a session's memory: what is asked and what is told."""

from typing import Annotated, Any, Literal

from pydantic import Field

from server.api.schemas.answers import Answer, Restored
from server.api.schemas.common import Body, Query

Layer = Annotated[int, Field(ge=0, lt=2**20)]
LAYERS = "Indices of layers; absent: all that have a memory."
WAIT = "How long to wait for a busy session, s, before 409."
IF_TURN = "The turn that must be the session's head, else 409."


class InspectMemory(Query):
    """The query of `GET /v1/sessions/{id}/memory`."""

    layer: int | None = Field(None, ge=0, lt=2**20, description="Only the matrices of this layer.")


class Change(Body):
    """What every change is asked with."""

    if_turn: str | None = Field(None, min_length=1, max_length=128, description=IF_TURN)
    wait_s: float = Field(0.0, ge=0, lt=2**31, strict=False, description=WAIT)

    def operation(self, kind: str) -> dict[str, Any]:
        """As a worker reads it."""
        fields = self.model_dump(exclude={"if_turn", "wait_s", "dry_run"})
        if fields.get("layers") is None:
            fields.pop("layers", None)
        return {"kind": kind, **fields}


class FreezeMemory(Change):
    """The body of `POST …/memory/freeze` and `/unfreeze`."""


class ResetMemory(Change):
    """The body of `POST …/memory/reset`."""

    scope: Literal["memory", "window", "all"] = Field(
        description="What is emptied: the memory, the window of exact attention, or both. Text and position stay."
    )
    layers: list[Layer] | None = Field(None, min_length=1, max_length=1024, description=LAYERS)


class CleanMemory(Change):
    """The body of `POST …/memory/svd-clean`: which singular components of each memory matrix stay."""

    energy_threshold: float = Field(
        0.95,
        gt=0,
        le=1,
        strict=False,
        description="Of what drop_top leaves, the fewest components stay that hold this part of the energy, the sum of "
        "the squared singular values.",
    )
    max_rank: int | None = Field(None, ge=1, lt=2**31, description="At most so many components stay.")
    drop_top: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="So many of the strongest go first: filler fills the top directions, needles sit in the tail.",
    )
    layers: list[Layer] | None = Field(None, min_length=1, max_length=1024, description=LAYERS)
    dry_run: bool = Field(False, description="Only say what it would do.")


class MatrixAnswer(Answer):
    """One memory matrix, as it is."""

    layer: int = Field(description="Its layer.")
    memory: int = Field(description="Which of several memories of the layer, from 0.")
    head: int = Field(description="Its head.")
    norm: float = Field(description="Frobenius norm.")
    norm_z: float | None = Field(description="Norm of its normaliser z; null where the architecture has none.")
    rank: int = Field(description="Numerical rank.")
    effective_rank: float = Field(description="exp of the entropy of the singular values: 1 for one direction.")
    singular_values: list[float] = Field(description="All of them, largest first.")
    gates: list[float] = Field(
        description="How far each query head that reads it takes what it reads, 0 to 1; empty without gates."
    )
    writes: int = Field(description="Segments or tokens written since it was last emptied or cleaned.")


class CleanedMatrix(Answer):
    """One memory matrix, before and after."""

    layer: int = Field(description="Its layer.")
    memory: int = Field(description="Which of several memories of the layer, from 0.")
    head: int = Field(description="Its head.")
    rank: int = Field(description="Numerical rank before.")
    retained_rank: int = Field(description="Components kept.")
    energy_retained: float = Field(description="The part of its energy that is kept, 0 to 1.")
    effective_rank: float = Field(description="Effective rank before.")
    singular_values: list[float] = Field(description="All of them before, largest first.")
    norm: float = Field(description="Frobenius norm before.")
    norm_after: float = Field(description="Frobenius norm after.")


class Shift(Answer):
    """What an operation does to the distribution of the next token."""

    kl: float = Field(description="Kullback-Leibler divergence of after from before, in nats.")
    same_top: bool = Field(description="Whether the likeliest token is the same.")


class MemoryAnswer(Answer):
    """What a session remembers beyond its window."""

    object: Literal["memory"] = Field(description="What this is.")
    session: str = Field(description="The session.")
    turn: str = Field(description="The turn whose state was looked at: its last committed one.")
    position: int = Field(description="Tokens of its sequence.")
    frozen: bool = Field(description="Whether the memory is read but not written.")
    restored: Restored = Field(description="Where the state came from.")
    matrices: list[MatrixAnswer] = Field(description="By layer, memory and head.")


class ChangedAnswer(Answer):
    """An operation that was carried out, or tried (`turn` is null then)."""

    object: Literal["memory.operation"] = Field(description="What this is.")
    kind: Literal["reset", "svd-clean", "freeze", "unfreeze"] = Field(description="The operation.")
    session: str = Field(description="The session.")
    turn: str | None = Field(
        description="The operation as a turn of the session's history: rewinding past it undoes it."
    )
    position: int = Field(description="Tokens of its sequence.")
    frozen: bool = Field(description="Whether the memory is read but not written, from now on.")
    restored: Restored = Field(description="Where the state came from.")
    scope: Literal["memory", "window", "all"] | None = Field(None, description="Of a reset, what was emptied.")
    layers: list[int] | None = Field(None, description="The layers that were named.")
    energy_threshold: float | None = Field(None, description="Of a cleaning, as it was asked for.")
    max_rank: int | None = Field(None, description="Of a cleaning, as it was asked for.")
    drop_top: int | None = Field(None, description="Of a cleaning, as it was asked for.")
    shift: Shift | None = Field(None, description="Of a reset or cleaning, what it does to the next token.")
    matrices: list[CleanedMatrix] = Field(description="Of a cleaning, each matrix before and after.")
