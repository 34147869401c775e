"""Several memories in a layer: their directions, where a segment goes, how reads are weighed."""

from __future__ import annotations

import pytest
import torch

from model.infini import Memory, Rule, attend, end_segments, leaf_specs, retrieve
from model.routing import basis, choose, is_orthonormal, weigh
from model.state import State, StateSpec

G, D, C = 2, 16, 4


@pytest.mark.parametrize(("n", "dim"), [(1, 2), (3, 16), (15, 16), (4, 64), (63, 64)])
def test_the_directions_are_orthonormal(n: int, dim: int) -> None:
    made = basis(n, dim)
    torch.testing.assert_close(made @ made.T, torch.eye(n), rtol=0, atol=1e-6)
    torch.testing.assert_close(made.sum(dim=1), torch.zeros(n), rtol=0, atol=1e-5)  # none is a key's mean
    assert is_orthonormal(made.bfloat16())
    assert not is_orthonormal(made * 1.1)


def test_a_segment_goes_where_its_mean_key_points_per_head() -> None:
    router = basis(3, D)
    noise = torch.randn(C, D, generator=torch.Generator().manual_seed(0)) * 0.1
    k = torch.stack([4 * router[2] + noise, router[0] - 5 * router[1] + noise])  # (2, C, D)
    assert choose(router, k, torch.ones(C)).tolist() == [2, 0]
    k[0, 3] = 100 * router[1]
    assert choose(router, k, torch.tensor([1, 1, 1, 0])).tolist() == [2, 0]  # a masked token says nothing
    assert choose(router, k, torch.ones(C)).tolist() == [1, 0]


def test_reads_are_weighed_by_the_query_over_what_was_written() -> None:
    router, q = basis(3, D), torch.randn(2, 4, D, generator=torch.Generator().manual_seed(1))
    written = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])
    w = weigh(router, q, written)
    torch.testing.assert_close(w[:, 0], torch.softmax(q[:, 0] @ router.T, dim=-1))
    torch.testing.assert_close(w[:, 1, [0, 2]], torch.softmax(q[:, 1] @ router[[0, 2]].T, dim=-1))
    assert (w[:, 1, 1] == 0).all()
    assert torch.equal(w[:, 2], torch.tensor([[0.0, 1.0, 0.0]] * 2))
    assert (w[:, 3] == 0).all()


def remember(memories: int, segments: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[Memory, State]:
    """Segments of keys and values (G, C, D), written one after the other."""
    state = State.zeros(StateSpec(leaf_specs(G, D, C, memories)), 1)
    leaves = (state[n] for n in ("M", "z", "seg_k", "seg_v", "seg_mask"))
    router = basis(memories, D) if memories > 1 else None
    memory = Memory(*leaves, frozen=torch.zeros(1, dtype=torch.uint8), writes=state["writes"], router=router)
    memory.seg_mask.fill_(1)
    for k, v in segments:
        memory.seg_k[0], memory.seg_v[0] = k, v
        end_segments([memory], [0], Rule.LINEAR)
    return memory, state


def test_filler_of_one_kind_does_not_wear_out_what_is_kept_of_another() -> None:
    """One needle segment, then 200 of filler whose keys point another way: what is read at the needle's keys."""
    g = torch.Generator().manual_seed(2)
    router = basis(2, D)
    needle = (
        4 * router[0] + 0.3 * torch.randn(G, C, D, generator=g),
        torch.randn(1, 1, D, generator=g).expand(G, C, D),
    )
    filler = [
        (4 * router[1] + 0.3 * torch.randn(G, C, D, generator=g), torch.randn(G, C, D, generator=g) + 2)
        for _ in range(200)
    ]
    alike = []
    for memories in (1, 2):
        memory, _ = remember(memories, [needle, *filler])
        assert int(memory.writes) == 201
        q = needle[0].transpose(0, 1)  # (C, G, D): the needle's own keys as queries
        read = attend(
            memory, q[None], q[None], q[None], torch.zeros(1, C, G, D), torch.full((G,), 50.0), Rule.LINEAR, [0], [C]
        )
        alike.append(float(torch.cosine_similarity(read[0], needle[1].transpose(0, 1), dim=-1).mean()))
    assert alike[0] < 0.6
    assert alike[1] > 0.95


def test_with_one_of_several_written_reading_is_reading_that_one() -> None:
    g = torch.Generator().manual_seed(3)
    k = torch.stack([3 * basis(3, D)[1]] * G)[:, None] + 0.1 * torch.randn(G, C, D, generator=g)
    v, q = torch.randn(G, C, D, generator=g), torch.randn(1, 5, 2 * G, D, generator=g)
    memory, state = remember(3, [(k, v)])
    assert [bool(z.any()) for z in state["z"][0]] == [False, True, False]
    own = torch.zeros(1, 5, G, D)
    read = attend(memory, q, own, own, torch.zeros_like(q), torch.full((2 * G,), 50.0), Rule.LINEAR, [4], [3])
    torch.testing.assert_close(read[0, :3], retrieve(state["M"][0, 1], state["z"][0, 1], q[0, :3]))
