"""Methods of a few known pairs (ridge, sotalign, tcl): what each rests on acts, with an overlap and without."""

import numpy as np
import pytest
import torch
from test_known_pairs import AUDIO, IMAGE, both_ways, overlapping, same_rows, unit, unlike

from cmcr import ArrayMemory, ConnectConfig, ConnectedSpace
from cmcr.connect import connect, new_projectors
from cmcr.connect.methods import few, ridge, tcl
from cmcr.memory.known import contradicting, join_pairs
from cmcr.numbers import canonical
from cmcr.numbers.ridge import RIDGES, fit_ridge
from cmcr.numbers.transport import klot, transport_plan

QUICK = {"ridge": {}, "csa": {}, "sotalign": {"steps": 60, "unpaired_batch": 96}, "tcl": {"steps": 60}}


@pytest.fixture
def things():
    return np.random.default_rng(2).normal(size=(400, 8))


def made(things, tmp_path, method, pairs=19, memories=unlike, **settings):
    config = ConnectConfig(method, **QUICK[method] | settings)
    return connect(*memories(things), out=tmp_path / f"s{len(list(tmp_path.iterdir()))}", config=config,
                   pairs=same_rows(pairs))  # fmt: skip


@pytest.mark.parametrize("method", QUICK)
def test_each_works_with_a_shared_modality_and_without(method, things, tmp_path):
    alone, beside = (made(things, tmp_path, method, memories=kind) for kind in (unlike, overlapping))
    for each in (alone, beside):
        assert both_ways(each.space, things[300:]) > 0.3  # 100 rows: 30 times chance
        assert each.space.metrics["pairs"] == 19
    links = [each.space.links[0] for each in (alone, beside)]
    assert [(link.via, link.via_b) for link in links] == [(IMAGE, AUDIO), ("text", None)]
    again = ConnectedSpace.from_pretrained(tmp_path / "s2")
    assert again.fingerprint == beside.space.fingerprint
    assert made(things, tmp_path, method).space.fingerprint == alone.space.fingerprint


def test_the_ridge_is_the_one_under_which_held_out_partners_rank_best(things):
    x, y = unit(things[:60] @ np.random.default_rng(1).normal(size=(8, 40))), unit(things[:60])
    y = torch.nn.functional.normalize(y + 0.3 * torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), dim=1)

    def mean_log_rank(penalty):
        logs = []
        for known, fold in canonical.parts(canonical.folds_of(60, 3)):
            weight, bias = fit_ridge(x[known], y[known], penalty)
            cosines = y[fold] @ torch.nn.functional.normalize(x[fold] @ weight.T + bias, dim=1).T
            logs.append(canonical.log_ranks(cosines))
        return torch.cat(logs)

    found = {penalty: mean_log_rank(penalty) for penalty in RIDGES}
    assert ridge.pick_by_rank(x, y, 3) == canonical.chosen(found, 1.0)
    assert len({round(float(each.mean()), 3) for each in found.values()}) > 3


def test_a_transport_plan_is_that_of_plain_iterations_and_has_uniform_marginals():
    similarities = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)).double()
    f, g = np.zeros(7), np.zeros(5)
    scaled = similarities.numpy() / 0.05
    for _ in range(5000):
        g = -np.log(5) - np.log(np.exp(scaled + f[:, None]).sum(axis=0))
        f = -np.log(7) - np.log(np.exp(scaled + g).sum(axis=1))
    plan = transport_plan(similarities, 0.05, 5000)
    np.testing.assert_allclose(plan, np.exp(scaled + f[:, None] + g), atol=1e-9)
    np.testing.assert_allclose(plan.sum(dim=0), 1 / 5, atol=1e-9)
    sharp = transport_plan(similarities, 0.005)
    assert torch.isfinite(sharp).all() and sharp.max() > plan.max()


def test_the_divergence_of_plans_has_the_gradient_of_its_value():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.rand(6, 6, generator=generator).double() for _ in range(2))
    student.requires_grad_()
    value = klot(student, teacher, 0.3, 0.2)
    value.backward()
    step = 1e-5
    for place in ((0, 0), (2, 4)):
        moved = student.detach().clone()
        moved[place] += step
        slope = (klot(moved, teacher, 0.3, 0.2) - value.detach()) / step
        assert float(student.grad[place]) == pytest.approx(float(slope), abs=1e-4)
    assert float(klot(teacher, teacher, 0.3, 0.3)) == pytest.approx(0, abs=1e-9) and value > 0.01


def test_unpaired_rows_teach_sotalign_what_few_pairs_do_not_tell(things, tmp_path):
    with_plans, without = (
        both_ways(made(things, tmp_path, "sotalign", klot_weight=weight).space, things[300:]) for weight in (1.0, 0.0)
    )
    assert with_plans > without + 0.05


def test_the_contrasts_are_those_of_a_plain_computation(things):
    config = ConnectConfig("tcl", dim=6, noise=0.0, soft=0.3, intra_tcl=0.5, tau_tcl=0.2)
    maps, average = (new_projectors(config.replace(seed=seed), 8, 8) for seed in (0, 1))
    pairs, banks = [unit(things[:5]), unit(things[5:10])], [unit(things[10:17]), unit(things[17:20])]
    found = tcl.contrasts(maps, average, pairs, banks, config, torch.Generator())
    total = 0.0
    for side, other in ((0, 1), (1, 0)):
        x, mine = (f[side](pairs[side]).detach().double().numpy() for f in (maps, average))
        keys = [
            f(torch.cat([rows, bank])).detach().double().numpy()
            for f, rows, bank in zip(average, pairs, banks, strict=True)
        ]

        def share(rows):
            return np.exp(rows / 0.2) / np.exp(rows / 0.2).sum(axis=1)[:, None]

        target = 0.7 * np.eye(5, len(keys[other])) + 0.3 * share(mine @ keys[other].T)
        total -= (target * np.log(share(x @ keys[other].T))).sum(axis=1).mean() / 2
        total -= 0.5 * np.log(share(x @ keys[side].T).diagonal()).mean() / 2
    assert found.item() == pytest.approx(total, rel=1e-4)


def test_tcl_holds_rows_against_the_bank_and_a_moving_average(things, tmp_path):
    usual = made(things, tmp_path, "tcl").space
    assert usual.metrics["bank"] == [381, 381]  # 400 rows, of which 19 are paired
    for change in ({"momentum": 0.0}, {"bank": 0}, {"soft": 0.0}, {"intra_tcl": 0.0}):
        assert made(things, tmp_path, "tcl", **change).space.fingerprint != usual.fingerprint


def test_paired_rows_are_not_among_the_unpaired(things):
    from types import SimpleNamespace

    a, b = unlike(things)
    known = join_pairs(a, b, IMAGE, AUDIO, same_rows(30))
    sides = [SimpleNamespace(memory=memory) for memory in (a, b)]
    seen = SimpleNamespace(given=known, sides=sides, centers=[{}, {}], device="cpu")
    for rows, memory, modality in zip(few.unpaired_rows(seen), (a, b), (IMAGE, AUDIO), strict=True):
        np.testing.assert_array_equal(rows, memory.vectors(modality, np.arange(30, 400)))


def test_pairs_fewer_than_components_are_told(things, tmp_path):
    told = "12 known pairs are fewer than the 20 and 14 components"
    for method in QUICK:
        assert any(told in note for note in made(things, tmp_path, method, pairs=12).notes), method
    assert not any("fewer than" in note for note in made(things, tmp_path, "ridge", pairs=19).notes)


def test_pairs_that_contradict_the_ids_of_the_overlap_are_counted(things, tmp_path):
    a, b = overlapping(things)
    crossed = [*same_rows(20), ("20", "21"), ("21", "20"), ("350", "20")]  # no text is called 350
    made = connect(a, b, out=tmp_path / "s", config=ConnectConfig("ridge"), pairs=crossed)
    told = [each for each in made.warnings if "contradict" in each]
    assert len(told) == 1 and told[0].startswith("2 of 23 known pairs contradict the overlap")
    assert "'20', '21'" in told[0] and "\n" not in told[0]
    assert not contradicting(a, b, "text", join_pairs(a, b, IMAGE, AUDIO, same_rows(20)))


def test_auto_learns_from_pairs_where_rows_are_too_few_for_an_ensemble(things, tmp_path):
    a = ArrayMemory("eye", {"text": things[:50] @ np.ones((8, 20)), "image": things @ np.eye(8, 20)})
    b = ArrayMemory("ear", {"text": things[:50] @ np.ones((8, 14)), "audio": things @ np.eye(8, 14)})
    made = connect(a, b, out=tmp_path / "s", config=ConnectConfig("auto"), pairs=same_rows(40))
    assert made.space.method == "csa" and any("csa instead" in note for note in made.notes)
