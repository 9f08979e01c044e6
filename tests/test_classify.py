"""MLA: what each of its mechanisms does, against naive forms, and that leaving one out is seen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import table, table_of, world

from cmcr.classify import Classifier, ClassifySettings, join_table
from cmcr.classify.forgetting import forgetting
from cmcr.classify.fusion import entropies, fuse, fusion_weights
from cmcr.classify.joint import fit_alone, fit_concatenation, fit_sum, only
from cmcr.classify.late import fit_late, fit_logistic
from cmcr.classify.masks import random_mask
from cmcr.classify.methods import fit_baselines, fit_switches
from cmcr.classify.mla import Alternating, Mla, annealed, fit_mla
from cmcr.classify.network import Batch, new_towers
from cmcr.classify.ogm_ge import coefficients, fit_ogm_ge
from cmcr.classify.projection import Projection
from cmcr.classify.qmf import Losses, fit_qmf
from cmcr.classify.run import fit
from cmcr.classify.splits import split_rows
from cmcr.errors import InputError
from cmcr.memory import ArrayMemory
from cmcr.numbers.classification import accuracy, class_accuracies, expected_calibration_error

QUICK = ClassifySettings(epochs=6, width=16)


def right(method, of):
    return accuracy(method.probabilities(of).numpy(), of.labels)


def test_p_is_the_inverse_of_what_was_seen_symmetric_and_positive_definite():
    rng = np.random.default_rng(0)
    p = Projection(24, alpha=0.1)
    seen = np.eye(24)
    for h in rng.normal(size=(60, 24)):
        p.update(torch.from_numpy(h))
        seen += np.outer(h, h) / 0.1
    found = p.matrix.numpy()
    assert np.array_equal(found, found.T)
    assert np.linalg.eigvalsh(found).min() > 0
    assert np.allclose(found, np.linalg.inv(seen), rtol=1e-6, atol=1e-9)


def test_p_keeps_an_update_from_what_was_seen_and_leaves_the_rest():
    p = Projection(3, alpha=0.01)
    p.update(torch.tensor([2.0, 0.0, 0.0]))
    update = p.apply(torch.ones(4, 3))
    assert float(update[:, 0].abs().max()) < 0.01
    assert torch.equal(update[:, 1:], torch.ones(4, 2))


def test_fusion_is_the_papers_row_by_row():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3, 4)) * 3).float()
    present = torch.ones(5, 3, dtype=torch.bool)
    present[1, 0] = present[2, 1] = present[2, 2] = False
    weights, fused = fusion_weights(logits, present).numpy(), fuse(logits, present).numpy()
    for row in range(5):
        there = [m for m in range(3) if present[row, m]]
        p = {m: np.exp(logits[row, m].numpy()) / np.exp(logits[row, m].numpy()).sum() for m in there}
        e = {m: -(p[m] * np.log(p[m])).sum() for m in there}
        top = {m: np.exp(max(e.values()) - e[m]) for m in there}
        expected = np.array([top[m] / sum(top.values()) if m in there else 0 for m in range(3)])
        assert np.allclose(weights[row], expected, atol=1e-6)
        assert np.allclose(fused[row], sum(expected[m] * logits[row, m].numpy() for m in there), atol=1e-5)
    alone = fusion_weights(logits[:1], present[:1])  # whatever else is in the batch
    assert torch.allclose(alone[0], torch.from_numpy(weights[0]))
    assert fusion_weights(logits, present, dynamic=False)[1].tolist() == [0, 0.5, 0.5]
    assert entropies(torch.zeros(1, 4)).item() == pytest.approx(np.log(4))


@pytest.mark.parametrize(("modalities", "share", "missing"), [(2, 0.3, 0.3), (3, 0.6, 0.6), (2, 0.9, 0.5), (3, 0, 0)])
def test_a_mask_leaves_one_modality_to_every_row(modalities, share, missing):
    kept = random_mask(1000, modalities, share, seed=1)
    assert kept.any(axis=1).all()
    assert 1 - kept.mean() == pytest.approx(missing, abs=0.001)
    assert np.ptp(kept.mean(axis=0)) < 0.1
    assert np.array_equal(kept, random_mask(1000, modalities, share, seed=1))
    assert share == 0 or not np.array_equal(kept, random_mask(1000, modalities, share, seed=2))


def state(of, **choices):
    return Alternating(new_towers(of, replace(QUICK, **choices)), replace(QUICK, **choices))


def weights(module):
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def test_a_step_moves_one_adapter_and_the_head():
    of = table()
    now = state(of)
    for m in (0, 1, 0):  # momentum of the adapter at rest must not move it either
        before = [weights(adapter) for adapter in now.towers.adapters], weights(now.head)
        now.step(m, Batch.of(of).take(torch.arange(32)), 0.1)
        moved = [not torch.equal(a, weights(b)) for a, b in zip(before[0], now.towers.adapters, strict=True)]
        assert moved == [m == 0, m == 1]
        assert not torch.equal(before[1], weights(now.head))


def test_rows_without_the_modality_take_no_part_in_its_step():
    of = table()
    lacking = np.ones((len(of), 2), dtype=bool)
    lacking[:20, 1] = False
    masked = of.masked(lacking)
    with_them, without = state(masked), state(masked)
    with_them.step(1, Batch.of(masked).take(torch.arange(40)), 0.1)
    without.step(1, Batch.of(masked).take(torch.arange(20, 40)), 0.1)
    assert torch.allclose(weights(with_them.towers), weights(without.towers), atol=1e-6)
    assert torch.allclose(with_them.projection.matrix, without.projection.matrix)
    before, p = weights(with_them.towers), with_them.projection.matrix.clone()
    with_them.step(1, Batch.of(masked).take(torch.arange(20)), 0.1)  # none has it: no step
    assert torch.equal(before, weights(with_them.towers))
    assert torch.equal(p, with_them.projection.matrix)


def test_the_heads_step_is_the_gradient_times_p():
    of = table()
    batch = Batch.of(of).take(torch.arange(32))
    plain, projected = state(of, project=False), state(of)
    start = plain.head.weight.detach().clone()
    features = plain.towers.feature(0, batch).detach()
    for each in (plain, projected):
        each.step(0, batch, 0.1)
    p = Projection(QUICK.width, QUICK.alpha)
    p.update(features.mean(dim=0))
    expected = p.apply(plain.head.weight.detach() - start)
    assert torch.allclose(projected.head.weight.detach() - start, expected, atol=1e-7)
    assert torch.equal(weights(plain.towers.adapters[0]), weights(projected.towers.adapters[0]))


def test_alpha_falls_to_a_tenth_within_each_epoch(monkeypatch):
    """0.1^(1 + b/B) at batch b of B, as the released code has it; the switch acts, and only on what P protects."""
    assert annealed(0.1, 0) == 0.1 and annealed(0.1, 0.5) == pytest.approx(0.1**1.5)
    of, alphas = table(rows=64), []
    update = Projection.update
    monkeypatch.setattr(Projection, "update", lambda p, h: (alphas.append(p.alpha), update(p, h)))
    few = replace(QUICK, epochs=2, batch=16, anneal_alpha=True)
    falling = fit_mla(of, few)
    once = [0.1 ** (1 + b / 4) for b in range(4) for _ in of.channels]
    assert alphas == pytest.approx(once * 2)
    assert not torch.equal(weights(falling.towers), weights(fit_mla(of, replace(few, anneal_alpha=False)).towers))
    without = [fit_mla(of, replace(few, project=False, anneal_alpha=each)) for each in (True, False)]
    assert torch.equal(weights(without[0].towers), weights(without[1].towers))


def test_with_p_the_first_modality_is_not_forgotten():
    """The same data, learnt one modality after the other, with and without P."""
    settings = ClassifySettings(epochs=20, width=16, batch=16)
    train, test = split_rows(table(rows=300, seed=1, classes=tuple("abcdef")))
    kept, lost = (forgetting(train, test, replace(settings, project=p), 0, 1) for p in (True, False))
    assert all(each > 0.75 for said in (kept, lost) for each in (said.before, said.second))
    assert lost.before - lost.after > 0.05
    assert kept.before - kept.after < 0.02


def test_alternating_teaches_a_modality_that_joint_training_neglects():
    """The first modality says everything, so joint training stops before the second has learnt what it could say."""
    of = table(rows=300, noise=(0.02, 0.6), dims=(12, 24), classes=tuple("abcdef"))
    train, test = split_rows(of)
    settings = ClassifySettings(epochs=15, width=16)
    mla, joint = fit_mla(train, settings), fit_sum(train, settings)
    weak = replace(test, present=test.present & np.array([False, True]))
    assert right(mla, weak) > right(joint, weak) + 0.1
    assert right(mla, test) > 0.95 and right(joint, test) > 0.95


def test_dynamic_weights_find_the_modality_that_knows():
    """In every row one modality is noise, another one each time; equal weights cannot tell which."""
    of = table(rows=400, noise=(0.15, 0.15), classes=tuple("abcdef"))
    train, test = split_rows(of)
    mla = fit_mla(train, ClassifySettings(epochs=20, width=16))
    rng = np.random.default_rng(0)
    broken = [each.copy() for each in test.vectors]
    for row in range(len(test)):
        m = row % 2
        x = 0.4 * rng.normal(size=broken[m].shape[1])  # near the middle of all rows: of no class
        broken[m][row] = x / np.linalg.norm(x)
    torn = replace(test, vectors=tuple(broken))
    assert right(mla, torn) > right(replace(mla, dynamic=False), torn) + 0.02


def test_rows_that_lack_a_modality_are_predicted_from_the_others():
    of = table()
    model = Classifier.fit(of, QUICK)
    one = only(of, 1)
    alone, masked = model.predict(one), model.predict(of.masked(np.array([[False, True]])))
    assert np.allclose(alone.probabilities, masked.probabilities)
    assert alone.weights.tolist() == [[0, 1]] * len(of)
    assert (np.array(alone.labels) == np.array([of.classes[n] for n in of.labels])).mean() > 0.7


def test_missing_rows_are_learnt_from_all_the_same():
    of = table(rows=360, noise=(0.4, 0.4))
    train, test = split_rows(of)
    masked = train.masked(random_mask(len(train), 2, 0.5, 0))
    settings = replace(QUICK, epochs=15)
    assert right(fit_mla(masked, settings), test) > 0.85
    assert torch.isfinite(fit_mla(masked, settings).probabilities(test)).all()


def test_the_order_of_modalities_is_a_switch():
    of = table()
    given, other = fit_mla(of, QUICK), fit_mla(of, replace(QUICK, order="reversed"))
    turned = replace(of, channels=of.channels[::-1], vectors=of.vectors[::-1], present=of.present[:, ::-1])
    assert not torch.equal(weights(given.towers.heads), weights(other.towers.heads))
    assert right(fit_mla(turned, QUICK), turned) > 0.9


def test_one_seed_is_one_model():
    of = table()
    assert torch.equal(weights(fit_mla(of, QUICK).towers), weights(fit_mla(of, QUICK).towers))
    assert not torch.equal(weights(fit_mla(of, QUICK).towers), weights(fit_mla(of, replace(QUICK, seed=1)).towers))


def test_every_baseline_learns_and_bears_missing_modalities():
    of = table(rows=300, noise=(0.3, 0.3))
    train, test = (each.masked(random_mask(len(each), 2, 0.3, 0)) for each in split_rows(of))
    settings = replace(QUICK, epochs=12)
    found = fit_baselines(train, settings)
    assert list(found) == ["image alone", "audio alone", "concatenation", "sum", "late fusion", "OGM-GE", "QMF"]
    for name, method in found.items():
        said = method.probabilities(test).numpy()
        assert np.allclose(said.sum(axis=1), 1, atol=1e-5), name
        assert accuracy(said, test.labels) > (0.6 if name.endswith("alone") else 0.8), name


def test_switches_turn_one_thing_each():
    of = table()
    mla = fit_mla(of, QUICK)
    found = fit_switches(of, QUICK, mla)
    assert list(found) == ["MLA without P", "MLA, alpha annealed", "MLA, equal weights", "MLA, order reversed"]
    assert found["MLA, equal weights"] == Mla(mla.towers, dynamic=False)
    assert not torch.equal(weights(found["MLA without P"].towers), weights(mla.towers))


def test_a_row_without_the_only_modality_gets_the_shares_of_the_classes():
    of = table(rows=99)
    alone = fit_alone(of, QUICK, 0)
    lacking = of.masked(np.array([[False, True]]))
    assert np.allclose(alone.probabilities(lacking).numpy(), 1 / 3)


def test_logistic_regression_is_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    of = table(rows=150, noise=(0.6, 0.6))
    x = torch.from_numpy(of.vectors[0])
    ours = fit_logistic(x, torch.from_numpy(of.labels), 3)
    scaled = ((x - ours.mean) / ours.scale).numpy()
    theirs = linear.LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(scaled, of.labels)
    assert np.allclose(ours.probabilities(x).numpy(), theirs.predict_proba(scaled), atol=1e-3)


def test_late_fusion_is_the_mean_over_what_a_row_has():
    of = table().masked(random_mask(240, 2, 0.3, 0))
    late = fit_late(of)
    said = late.probabilities(of)
    each = [part.probabilities(torch.from_numpy(x)) for part, x in zip(late.parts, of.vectors, strict=True)]
    for row in range(12):
        there = [each[m][row] for m in range(2) if of.present[row, m]]
        assert torch.allclose(said[row], sum(there) / len(there))


def test_ogm_ge_slows_the_modality_that_is_ahead():
    of = table(rows=30)
    batch = Batch.of(of)
    logits = torch.zeros(30, 2, 3)
    logits[torch.arange(30), 0, batch.labels] = 3.0
    found = coefficients(logits, batch, alpha=0.3)
    p = np.exp(3) / (np.exp(3) + 2)
    assert found.tolist() == pytest.approx([1 - np.tanh(0.3 * p / (1 / 3)), 1.0])
    assert coefficients(torch.zeros(30, 2, 3), batch).tolist() == [1, 1]


def test_qmfs_ranking_wants_less_confidence_where_losses_were_larger():
    of = table(rows=6)
    batch = Batch.of(of)
    losses = Losses(6, 1)
    losses.add(batch, torch.arange(6.0)[:, None])
    one = replace(batch, present=batch.present[:, :1])
    conf = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.3, 0.4])[:, None]
    scaled, total = np.arange(6) / 5, 0.0
    for i in range(6):
        j = (i + 1) % 6
        apart = scaled[i] - scaled[j]
        total += max(0, np.sign(apart) * float(conf[i] - conf[j]) + abs(apart))
    assert float(losses.ranking(one, conf)) == pytest.approx(total / 6, rel=1e-5)
    agreeing = 1 - torch.arange(6.0)[:, None]
    assert float(losses.ranking(one, agreeing)) == 0


def test_joint_methods_of_ours_are_not_one():
    of = table()
    said = [each(of, QUICK).probabilities(of) for each in (fit_concatenation, fit_sum, fit_ogm_ge, fit_qmf)]
    assert all(not torch.equal(said[a], said[b]) for a in range(4) for b in range(a))


def test_tables_join_by_id_and_count_what_does_not_fit():
    memories, labels = world(rows=9)
    see = memories["see:image"]
    hear = ArrayMemory("hear", {"audio": np.eye(5)}, {"audio": ["r0008 ", "x", "r0000", "y", "z"]})
    of = join_table([(see, "image"), (hear, "audio")], labels | {"x": "bell", "nobody": "drum"})
    assert len(of) == 12 and of.unknown == 1
    assert of.present.sum(axis=0).tolist() == [9, 5] and of.present[[0, 8]].all()
    assert of.vectors[1][8].tolist() == [1, 0, 0, 0, 0]
    assert np.flatnonzero(of.labels < 0).size == 2
    with pytest.raises(InputError, match=r"none of 1 labels is of an id .*'nobody'.*'r0000'"):
        join_table([(see, "image")], {"nobody": "drum"})
    with pytest.raises(InputError, match="image of see stands there twice"):
        join_table([(see, "image"), (see, "image")])
    twin = ArrayMemory("other", {"image": np.eye(2)}, {"image": ["a", "b"]})
    assert [c.name for c in join_table([(see, "image"), (twin, "image")]).channels] == ["see:image", "other:image"]


def test_a_modality_that_no_training_row_has_is_refused():
    memories, labels = world(rows=60)
    apart = ArrayMemory("hear", {"audio": np.eye(3)}, {"audio": ["x", "y", "z"]})
    with pytest.raises(InputError, match="no training row has audio"):
        fit(table_of({"see:image": memories["see:image"], "hear:audio": apart}, labels), QUICK)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (dict.fromkeys(["r0000", "r0001"], "bell"), r"one class only \('bell'\)"),
        ({"r0000": "bell", "r0001": "bell", "r0002": "drum"}, r"1 of 2 classes have one row \('drum'\)"),
    ],
)
def test_labels_that_cannot_be_learnt_from(labels, said):
    memories, _ = world(rows=9)
    with pytest.raises(InputError, match=said):
        split_rows(table_of(memories, labels))


def test_a_row_without_any_modality_is_refused():
    of = table(rows=9)
    with pytest.raises(InputError, match=r"2 of 9 rows \('r0003', ...\) have none of the modalities"):
        of.masked(np.array([[row not in (3, 5)] * 2 for row in range(9)]))
    model = Classifier.fit(of, replace(QUICK, epochs=1))
    stranger = join_table([(ArrayMemory("else", {"text": np.eye(3)}), "text")])
    with pytest.raises(InputError, match=r"text of else .* not what this model was fitted on; expected image of see"):
        model.predict(stranger)


def test_splits_are_drawn_by_class_or_listed():
    of = table(rows=90)
    train, test = split_rows(of, seed=3)
    assert not set(train.ids) & set(test.ids) and len(train) + len(test) == 90
    assert np.ptp(np.bincount(test.labels)) <= 1
    listed = {name: ("train", "val", "test")[number % 3] for number, name in enumerate(of.ids)}
    train, test = split_rows(of, listed)
    assert set(train.ids) == set(of.ids[::3]) and set(test.ids) == set(of.ids[2::3])
    with pytest.raises(InputError, match="no labelled row of the memories is in the split 'test'; the list says train"):
        split_rows(of, dict.fromkeys(of.ids, "train"))
    apart = {name: "test" if label == 1 else ("train", "test")[number % 2] for number, (name, label) in
             enumerate(zip(of.ids, of.labels, strict=True))}  # fmt: skip
    with pytest.raises(InputError, match=r"'drum', ...\) are only in the part that is measured on"):
        split_rows(of, apart)


def test_accuracy_counts_ties_as_wrong_and_ece_is_its_definition():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=200)
    truth = rng.integers(4, size=200)
    assert accuracy(p, truth) == pytest.approx((p.argmax(axis=1) == truth).mean())
    assert accuracy(np.full((3, 2), 0.5), np.array([0, 1, 0])) == 0
    conf, hit, total = p.max(axis=1), p.argmax(axis=1) == truth, 0.0
    for b in range(15):
        own = (conf > b / 15) & (conf <= (b + 1) / 15)
        if own.any():
            total += own.mean() * abs(hit[own].mean() - conf[own].mean())
    assert expected_calibration_error(p, truth) == pytest.approx(total)
    assert class_accuracies(p[truth == 1], truth[truth == 1])[0] is None


def test_qmf_does_not_run_away(monkeypatch):
    """A confident row's logits weigh themselves: only the bound of the gradient keeps that finite at a high rate."""
    of, fast = table().masked(random_mask(240, 2, 0.5, 0)), replace(QUICK, lr=0.4)
    assert torch.isfinite(fit_qmf(of, fast).probabilities(of)).all()
    monkeypatch.setattr("cmcr.classify.qmf.LARGEST", 1e9)
    assert not torch.isfinite(fit_qmf(of, fast).probabilities(of)).all()
