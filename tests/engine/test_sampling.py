"""Choosing a token, against the filters of transformers."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from core.engine.sampling import Choice, choose_token
from core.errors import SettingsError


@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"),
    [(0, 1.0, 0.0), (7, 1.0, 0.0), (0, 0.6, 0.0), (9, 0.8, 0.0), (0, 1.0, 0.2), (9, 0.9, 0.1)],
)
def test_only_tokens_that_transformers_would_draw_from_are_drawn_and_as_often(top_k, top_p, min_p):
    torch.manual_seed(0)
    logits, seen, bias = torch.randn(50) * 3, torch.tensor([3, 4, 3]), {11: 2.5, 12: -4.0}
    warpers = [SequenceBiasLogitsProcessor([[[number], value] for number, value in bias.items()])]
    warpers += [RepetitionPenaltyLogitsProcessor(1.4), TemperatureLogitsWarper(1.2)]
    warpers += [TopKLogitsWarper(top_k)] if top_k else []
    warpers += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    warpers += [MinPLogitsWarper(min_p)] if min_p else []
    expected = LogitsProcessorList(warpers)(seen[None], logits[None].clone())[0].softmax(-1)
    choice = Choice(temperature=1.2, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=1.4, logit_bias=bias)
    chance = torch.Generator().manual_seed(1)
    drawn = [choose_token(logits.clone(), seen, choice, chance) for _ in range(3000)]
    share = torch.bincount(torch.tensor(drawn), minlength=50) / len(drawn)
    assert not share[expected == 0].any()
    assert (share - expected).abs().max() < 0.04  # over four standard errors of 3000 draws


@pytest.mark.parametrize("token_id", [-1, 50])
def test_a_bias_on_no_token_is_refused(token_id):
    choice = Choice(logit_bias={token_id: 1.0})
    with pytest.raises(SettingsError, match="outside the vocabulary of 50"):
        choose_token(torch.zeros(50), torch.tensor([0]), choice, torch.Generator())


@pytest.mark.parametrize("choice", [Choice(temperature=1.0, top_p=0.9), Choice(temperature=1.0, min_p=0.5)])
def test_a_flat_vocabulary_is_drawn_from_as_far_as_the_filter_reaches(choice):
    """More tokens than are looked at first are kept here, and the borders are those of transformers."""
    logits = torch.linspace(1.0, 0.0, 5000)[torch.randperm(5000, generator=torch.Generator().manual_seed(3))]
    warper = TopPLogitsWarper(choice.top_p) if choice.top_p < 1 else MinPLogitsWarper(choice.min_p)
    expected = warper(torch.tensor([[0]]), logits[None].clone())[0].softmax(-1)
    chance = torch.Generator().manual_seed(1)
    drawn = torch.tensor([choose_token(logits.clone(), torch.tensor([0]), choice, chance) for _ in range(4000)])
    assert int((expected > 0).sum()) > 3000
    assert bool((expected[drawn] > 0).all())
    # The rarest tenth of what may be drawn comes as often as it should.
    rare = expected.sort(descending=True).indices[int((expected > 0).sum() * 0.9) : int((expected > 0).sum())]
    share = float(torch.isin(drawn, rare).float().mean())
    assert share == pytest.approx(float(expected[rare].sum()), abs=0.02)
