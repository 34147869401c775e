"""The memory's equations, one by one, and the mistakes earlier implementations made."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.infini import EPS, Memory, Rule, attend, combine, leaf_specs, retrieve, sigma, update
from model.state import State, StateSpec

H, G, D, C = 6, 2, 8, 4


def rand(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rule", [Rule.LINEAR, Rule.DELTA])
def test_update_is_the_papers_sum(rule: Rule) -> None:
    """M += Σ_t σ(k_t) ⊗ v_t (eq. 4), with v_t less what is read at k_t for the delta rule (eq. 5)."""
    M, z = rand(G, D, D, seed=1), rand(G, D, seed=2).abs()
    k, v = rand(G, C, D, seed=3), rand(G, C, D, seed=4)
    M_new, z_new = M.clone(), z.clone()
    update(M_new, z_new, k, v, torch.ones(C), rule)
    for g in range(G):
        expected_M, expected_z = M[g].clone(), z[g].clone()
        for t in range(C):
            key = sigma(k[g, t])
            read = key @ M[g] / (key @ z[g]) if rule is Rule.DELTA else 0
            expected_M += torch.outer(key, v[g, t] - read)
            expected_z += key
        torch.testing.assert_close(M_new[g], expected_M)
        torch.testing.assert_close(z_new[g], expected_z)


@pytest.mark.parametrize("rule", [Rule.LINEAR, Rule.DELTA])
def test_a_masked_token_writes_nothing(rule: Rule) -> None:
    M, z = rand(G, D, D, seed=1), rand(G, D, seed=2).abs()
    k, v = rand(G, C, D, seed=3), rand(G, C, D, seed=4)
    M_masked, z_masked, M_short, z_short = M.clone(), z.clone(), M.clone(), z.clone()
    update(M_masked, z_masked, k, v, torch.tensor([1, 0, 1, 0]), rule)
    update(M_short, z_short, k[:, ::2], v[:, ::2], torch.ones(2), rule)
    torch.testing.assert_close(M_masked, M_short)
    torch.testing.assert_close(z_masked, z_short)


def test_retrieve_uses_the_group_of_each_query_head() -> None:
    M, z, q = rand(G, D, D, seed=1), rand(G, D, seed=2).abs(), rand(3, H, D, seed=3)
    got = retrieve(M, z, q)
    for t in range(3):
        for h in range(H):
            query, g = sigma(q[t, h]), h // (H // G)
            torch.testing.assert_close(got[t, h], query @ M[g] / (query @ z[g]).clamp(min=EPS))


def test_retrieve_from_nothing_is_exactly_zero() -> None:
    assert (retrieve(torch.zeros(G, D, D), torch.zeros(G, D), torch.randn(3, H, D)) == 0).all()


def test_combine_gates_each_head_on_its_own() -> None:
    local, read = rand(2, H, D, seed=1), rand(2, H, D, seed=2)
    gate = torch.tensor([0.0, float("-inf"), 50.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    got = combine(local, read, True, gate)
    assert torch.equal(got[:, 1], local[:, 1])  # closed: skipped exactly
    torch.testing.assert_close(got[:, 0], (local[:, 0] + read[:, 0]) / 2)
    torch.testing.assert_close(got[:, 2], read[:, 2])
    assert torch.equal(combine(local, read, False, gate), local)


def memory(rows: int) -> tuple[Memory, State]:
    state = State.zeros(StateSpec(leaf_specs(G, D, C)), rows)
    frozen = torch.zeros(rows, dtype=torch.uint8)
    leaves = (state[name] for name in ("M", "z", "seg_k", "seg_v", "seg_mask"))
    return Memory(*leaves, frozen=frozen, writes=state["writes"]), state


def run(m: Memory, T: int, lengths: list[int], seed: int = 0) -> Tensor:
    B = len(lengths)
    q, k, v = (rand(B, T, n, D, seed=seed + i).float() for i, n in enumerate((H, G, G)))
    local = rand(B, T, H, D, seed=seed + 3).float()
    return attend(m, q, k, v, local, torch.zeros(H), Rule.LINEAR, [0] * B, lengths)


def test_retrieval_comes_before_the_update_of_its_own_segment() -> None:
    """Changing a segment's last token changes nothing that was read inside that segment."""
    results = []
    for last in (1.0, -3.0):
        m, _ = memory(1)
        q, k, v = (rand(1, 2 * C, n, D, seed=i).float() for i, n in enumerate((H, G, G)))
        k[0, 2 * C - 1], v[0, 2 * C - 1] = last, last
        results.append(attend(m, q, k, v, torch.zeros(1, 2 * C, H, D), torch.zeros(H), Rule.LINEAR, [0], [2 * C]))
    assert torch.equal(results[0], results[1])
    assert (results[0][0, :C] == 0).all()
    assert (results[0][0, C:] != 0).any()


def test_rows_never_meet() -> None:
    """The sum over the batch that leaked between tenants: row 0 alone, and beside a row that writes much."""
    alone, alone_state = memory(1)
    q, k, v = (rand(2, 3 * C, n, D, seed=i).float() for i, n in enumerate((H, G, G)))
    local = torch.zeros(2, 3 * C, H, D)
    gate = torch.zeros(H)
    expected = attend(alone, q[:1], k[:1], v[:1], local[:1], gate, Rule.DELTA, [0], [3 * C])
    both, both_state = memory(2)
    k[1] *= 100
    got = attend(both, q, k, v, local, gate, Rule.DELTA, [0, 0], [3 * C, 3 * C])
    assert torch.equal(got[:1], expected)
    assert both_state.slice(0, 1).equal(alone_state)


def test_attend_leaves_its_input_alone_and_nothing_is_reset_between_calls() -> None:
    m, state = memory(1)
    first = run(m, C, [C], seed=10)
    z = state["z"].clone()
    assert z.any()
    run(m, C, [C], seed=20)
    assert (state["z"] > z).all()
    assert first.isfinite().all()
