"""Trajectories: permutations of tokens, linked where the flow says so."""

import pytest
import torch

from kinopaint.flow.pair import FlowPair
from kinopaint.flow.ring import FlowRing
from kinopaint.flow.trajectories import trajectories


def ring_of(backward, frames=None, hidden=None):
    """A ring whose pairs have this flow on the tokens' own grid; the closing pair's is never looked at."""
    pairs, _, height, width = backward.shape
    if frames is None:
        frames = torch.rand(pairs, 3, height, width, generator=torch.Generator().manual_seed(2))
    if hidden is None:
        hidden = torch.zeros(pairs, 1, height, width)
    return FlowRing(frames, FlowPair(backward, backward), hidden, hidden)


def random_flow(frames, height, width, seed):
    return 2 * torch.randn(frames, 2, height, width, generator=torch.Generator().manual_seed(seed))


def brute_force(ring, height, width):
    """The same by plain loops over tokens."""
    count, tokens = len(ring.frames), height * width
    order, links = [list(range(tokens))], []
    colours = ring.frames.flatten(2).transpose(1, 2)
    for pair in range(count - 1):
        best = {}
        for token in range(tokens):
            row, column = divmod(token, width)
            dx, dy = ring.pair.backward[pair, :, row, column].tolist()
            x, y = round(column + dx), round(row + dy)  # Python rounds half to even, too
            if not (0 <= x < width and 0 <= y < height) or ring.hidden_later[pair, 0, row, column]:
                continue
            claimed = y * width + x
            unlike = (colours[pair + 1, token] - colours[pair, claimed]).square().sum().item()
            if claimed not in best or unlike < best[claimed][0]:
                best[claimed] = (unlike, token)
        following = {claimed: token for claimed, (_, token) in best.items()}
        left = [token for token in range(tokens) if token not in following.values()]
        unmatched = [token for token in range(tokens) if token not in following]
        links.append([token in best for token in order[-1]])
        following |= dict(zip(unmatched, left, strict=True))
        order.append([following[token] for token in order[-1]])
    linked = [
        [[all(links[pair][path] for pair in range(min(i, j), max(i, j))) for j in range(count)] for i in range(count)]
        for path in range(tokens)
    ]
    return torch.tensor(order), torch.tensor(linked)


@pytest.mark.parametrize("seed", range(6))
def test_they_are_what_plain_loops_find(seed):
    flow = random_flow(4, 5, 6, seed)
    hidden = (torch.rand(4, 1, 5, 6, generator=torch.Generator().manual_seed(seed)) < 0.2).float()
    ring = ring_of(flow, hidden=hidden)
    found = trajectories(ring, 5, 6)
    order, linked = brute_force(ring, 5, 6)
    assert torch.equal(found.order, order)
    assert torch.equal(found.linked, linked)


@pytest.mark.parametrize("seed", range(3))
def test_every_frame_is_a_permutation_that_its_inverse_undoes(seed):
    found = trajectories(ring_of(random_flow(5, 7, 4, seed)), 7, 4)
    tokens = torch.randn(28, 3)
    for order in found.order:
        assert order.sort().values.tolist() == list(range(28))
        assert torch.equal(tokens[order][order.argsort()], tokens)


def test_zero_flow_leaves_every_token_where_it_is():
    found = trajectories(ring_of(torch.zeros(4, 2, 3, 5)), 3, 5)
    assert torch.equal(found.order, torch.arange(15).expand(4, -1))
    assert found.linked.all()


def test_hidden_tokens_break_every_trajectory():
    found = trajectories(ring_of(torch.zeros(3, 2, 3, 5), hidden=torch.ones(3, 1, 3, 5)), 3, 5)
    assert torch.equal(found.linked, torch.eye(3, dtype=torch.bool).expand(15, -1, -1))


def test_a_pan_moves_tokens_on_and_lets_new_ones_in():
    flow = torch.zeros(2, 2, 1, 4)
    flow[:, 0] = 1.0  # what is at x was at x + 1
    found = trajectories(ring_of(flow), 1, 4)
    assert found.order.tolist() == [[0, 1, 2, 3], [3, 0, 1, 2]]  # the first leaves; the last place has something new
    assert found.linked[:, 0, 1].tolist() == [False, True, True, True]


def test_of_two_claims_the_likest_in_colour_wins_then_the_smaller_number():
    flow = torch.zeros(2, 2, 1, 3)
    flow[0, 0, 0] = torch.tensor([2.0, 1.0, 0.0])  # all three claim the last token
    frames = torch.zeros(2, 3, 1, 3)
    frames[1, :, 0, 0] = 0.5
    found = trajectories(ring_of(flow, frames), 1, 3)
    assert found.order[1].tolist() == [0, 2, 1]
    assert found.linked[:, 0, 1].tolist() == [False, False, True]


def test_of_one_frame_each_token_is_its_own_path():
    ring = ring_of(torch.zeros(1, 2, 2, 2))
    found = trajectories(ring, 2, 2)
    assert found.order.tolist() == [[0, 1, 2, 3]]
    assert found.linked.shape == (4, 1, 1)
