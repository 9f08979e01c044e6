"""cIoU, success curves and the numbers of counterfactual recognition, against plain loops and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from cmcr.numbers import localization as m

SIDE = m.SIDE
part = st.floats(0, 1, allow_nan=False)
boxes = st.tuples(part, part, part, part).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
rows = st.lists(st.tuples(st.floats(-1, 1), st.booleans(), part), min_size=2, max_size=40)


def naive_mask(box):
    """One pixel at a time: a pixel belongs to a box when its number lies between the cut-off corners."""
    x0, y0, x1, y1 = (int(SIDE * min(max(value, 0), 1)) for value in box)
    mask = np.zeros((SIDE, SIDE), bool)
    for y in range(y0, y1):
        for x in range(x0, x1):
            mask[y, x] = True
    return mask


def naive_ciou(predicted, truth):
    hit = wrong = total = 0.0
    for p, g in zip(predicted.ravel(), truth.ravel(), strict=True):
        total += g
        hit += g if p else 0
        wrong += 1 if p and g == 0 else 0
    return hit / (total + wrong) if total + wrong else 0.0


def naive_counts(confidence, present, cious, threshold):
    right = wrong = missed = 0
    for sure, there, reached in zip(confidence, present, cious, strict=True):
        if sure >= threshold and there and reached >= 0.5:
            right += 1
        elif sure >= threshold:
            wrong += 1
        elif there:
            missed += 1
    return right, wrong, missed


def naive_precision_recall(table, threshold):
    right, wrong, missed = naive_counts(*table, threshold)
    return right / (right + wrong) if right + wrong else 1.0, right / (right + missed) if right + missed else 1.0


def naive_published(table):
    """From the second greatest confidence, every (N // 200)-th: the best precision to come times the recall to gain."""
    falling = sorted(table[0], reverse=True)[1:]
    points = [naive_precision_recall(table, threshold) for threshold in falling[:: max(1, len(table[0]) // 200)]]
    area = 0.0
    for number in range(len(points) - 1):
        best_to_come = max(precision for precision, _ in points[number:])
        area += best_to_come * (points[number + 1][1] - points[number][1])
    return area


def naive_f1(table):
    rising, scores = sorted(table[0]), []
    for threshold in rising[:: max(1, len(rising) // 10)]:
        precision, recall = naive_precision_recall(table, threshold)
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return max(scores)


def drawn(count, seed=0, objects=0.5):
    """A table of confidences (with ties), objects, and cIoU that go along with them a little."""
    rng = np.random.default_rng(seed)
    present = rng.random(count) < objects
    cious = np.where(present, rng.random(count), 0)
    return (rng.normal(size=count) + present + cious).round(1), present, cious


@given(st.lists(boxes, min_size=1, max_size=4), boxes)
def test_masks_truths_and_ciou_agree_with_loops_over_pixels(several, box):
    masks = m.masks(several)
    for mask, one in zip(masks, several, strict=True):
        np.testing.assert_array_equal(mask, naive_mask(one))
    union, half = m.truth_map([several]), m.truth_map([[one] for one in several], votes=2)
    np.testing.assert_array_equal(union, np.any([naive_mask(one) for one in several], axis=0))
    np.testing.assert_array_equal(half, np.minimum(1, np.sum([naive_mask(one) for one in several], axis=0) / 2))
    for truth in (union, half):
        expected = naive_ciou(naive_mask(box), truth)
        assert m.ciou(naive_mask(box), truth) == pytest.approx(expected, abs=1e-12)
        assert m.ciou_of_boxes([box], truth)[0] == pytest.approx(expected, abs=1e-12)
        assert 0 <= expected <= 1 and m.best_half(truth) <= 1


def test_closed_forms_of_ciou():
    middle = [0.25, 0.25, 0.75, 0.75]
    truth = m.truth_map([[middle]])
    assert m.ciou(m.masks(middle)[0], truth) == 1.0
    values = m.ciou_of_boxes(
        [middle, [0.25, 0.25, 0.5, 0.75], [0, 0, 1, 1], [0.75, 0, 1, 1], [0.5, 0.5, 0.5, 0.9]], truth
    )
    np.testing.assert_allclose(values, [1, 0.5, 0.25, 0, 0])
    # Two annotators of whom one marks the left half and both mark the right: the left half counts half.
    both = m.truth_map([[[0, 0, 1, 1]], [[0.5, 0, 1, 1]]], votes=2)
    assert (both[0, 0], both[0, -1]) == (0.5, 1.0)
    assert m.ciou_of_boxes([[0.5, 0, 1, 1]], both)[0] == pytest.approx(1 / 1.5)
    nothing = m.truth_map([])
    assert m.ciou(np.zeros((SIDE, SIDE)), nothing) == 0 and m.ciou_of_boxes([middle], nothing)[0] == 0


def test_a_box_beyond_the_edge_is_cut_and_not_wrapped():
    np.testing.assert_array_equal(m.masks([-0.2, 0.5, 1.4, 2.0])[0], naive_mask([0, 0.5, 1, 1]))


def test_a_pixel_of_the_map_is_the_mean_of_the_boxes_over_it():
    rng = np.random.default_rng(0)
    several = np.sort(rng.random((9, 2, 2)), axis=1).reshape(9, 4)
    scores = rng.normal(size=9)
    found, masks = m.mean_map(several, scores), [naive_mask(box) for box in several]
    for y in range(0, SIDE, 7):
        for x in range(0, SIDE, 7):
            over = [score for score, mask in zip(scores, masks, strict=True) if mask[y, x]]
            if over:
                assert found[y, x] == pytest.approx(np.mean(over), abs=1e-6)
            else:
                assert np.isnan(found[y, x])
    crowd = np.sort(rng.random((300, 2, 2)), axis=1).reshape(300, 4)
    equal = m.mean_map(crowd, np.full(300, 0.1))
    assert len(np.unique(equal[~np.isnan(equal)])) == 1  # no noise for the median to cut through


def test_the_upper_half_is_what_the_field_binarises():
    values = np.random.default_rng(1).normal(size=(SIDE, SIDE))
    stretched = (values - values.min()) / (values.max() - values.min())
    threshold = np.sort(stretched.flatten())[int(SIDE * SIDE / 2)]
    np.testing.assert_array_equal(m.upper_half(values), stretched > threshold)
    assert m.upper_half(values).mean() == pytest.approx(0.5, abs=1e-4)
    assert not m.upper_half(np.zeros((SIDE, SIDE))).any()
    few = np.full((SIDE, SIDE), np.nan)
    few[:10, :10], few[:5, :10] = 0.1, 0.2
    assert m.upper_half(few).sum() == 100  # whatever is known lies above what is not
    assert m.upper_quarter(few) == pytest.approx(0.15) and m.upper_quarter(values) == pytest.approx(
        np.sort(values, axis=None)[-(SIDE * SIDE // 4) :].mean()
    )


def test_no_map_of_half_the_pixels_beats_the_best_half():
    rng = np.random.default_rng(2)
    small, large = m.truth_map([[[0.1, 0.1, 0.4, 0.4]]]), m.truth_map([[[0, 0, 1, 0.9]], [[0, 0, 0.9, 1]]], votes=2)
    pixels = int(SIDE * 0.4) - int(SIDE * 0.1)
    assert m.best_half(small) == pytest.approx(pixels**2 / (SIDE**2 // 2))
    for truth in (small, large):
        for noise in (0.0, 0.5, 5.0):
            order = np.argsort((-truth + noise * rng.random(truth.shape)).ravel(), kind="stable")
            half = np.zeros(SIDE * SIDE, bool)
            half[order[: SIDE * SIDE // 2]] = True
            reached = m.ciou(half.reshape(SIDE, SIDE), truth)
            assert reached <= m.best_half(truth) + 1e-12
            assert noise or reached == pytest.approx(m.best_half(truth))


def test_the_success_curve_and_its_area():
    cious = np.random.default_rng(3).random(200)
    cious[:5] = [0.0, 0.15, 0.5, 0.95, 1.0]  # on the thresholds
    shares = [np.mean([value >= step / 20 for value in cious]) for step in range(21)]
    np.testing.assert_allclose(m.success(cious), shares)
    assert m.success_area(cious) == pytest.approx(auc(m.THRESHOLDS, shares))
    assert m.localized(cious) == shares[10]
    assert m.success_area([0.5] * 7) == pytest.approx(0.525)
    assert m.success_area([1.0]) == pytest.approx(1) and m.success_area([0.0]) == pytest.approx(0.025)


def test_a_source_is_found_from_a_half_on_and_located_above_it():
    assert m.localized([0.5, 0.49]) == 0.5
    assert m.location_accuracy([0.5, 0.51, 0.9], [True, True, False]) == 0.5
    assert np.isnan(m.location_accuracy([0.9], [False]))


@pytest.mark.parametrize("count", [2, 3, 17, 199, 450, 1003])
def test_recognition_agrees_with_counts_one_sample_at_a_time(count):
    table = drawn(count, seed=count)
    thresholds = np.concatenate([np.unique(table[0]), [-99, 99]])
    expected = [naive_precision_recall(table, threshold) for threshold in thresholds]
    np.testing.assert_allclose(np.transpose(m.precision_recall(*table, thresholds)), expected)
    assert m.published_precision(*table) == pytest.approx(naive_published(table))
    assert m.greatest_f1(*table) == pytest.approx(naive_f1(table))


def test_where_every_object_is_found_it_is_the_usual_precision_and_recall():
    confidence, present, _ = drawn(300, seed=5)
    cious = present * 0.8
    precision, recall, thresholds = precision_recall_curve(present, confidence)
    ours = m.precision_recall(confidence, present, cious, thresholds)
    np.testing.assert_allclose(ours, [precision[:-1], recall[:-1]])
    envelope = np.maximum.accumulate(precision[:-1])  # thresholds rise here
    steps = -np.diff(np.append(recall[:-1], 0))
    assert m.average_precision(confidence, present, cious) == pytest.approx(np.sum(envelope * steps))
    assert m.average_precision(confidence, present, cious) >= average_precision_score(present, confidence)


def test_closed_forms_of_recognition():
    objects = 20
    confidence = np.arange(60.0)[::-1]
    present = np.arange(60) < objects
    assert m.average_precision(confidence, present, present * 1.0) == pytest.approx(1)
    # What is recalled at the first threshold is not counted, and that is the second confidence already.
    assert m.published_precision(confidence, present, present * 1.0) == pytest.approx(1 - 2 / objects)
    nothing = np.zeros(60, bool)
    for measure in (m.average_precision, m.published_precision, m.greatest_f1):
        assert measure(confidence, nothing, np.zeros(60)) == 0
        assert measure(confidence, present, np.zeros(60)) == 0
        assert measure([0.3], [True], [0.0]) == 0


def test_an_object_found_in_the_wrong_place_is_no_false_negative():
    """The published definitions, reproduced: recall may rise without anything more being found."""
    precision, recall = m.precision_recall([0.9, 0.8, 0.1], [True, True, True], [0.9, 0.1, 0.9], [0.9, 0.8, 0.1])
    np.testing.assert_allclose(recall, [1 / 3, 1 / 2, 1])
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])


@given(rows)
def test_every_number_is_a_share_and_recall_only_grows(table):
    confidence, present, cious = (np.array(column) for column in zip(*table, strict=True))
    _, recall = m.precision_recall(confidence, present, cious, np.unique(confidence)[::-1])
    if present.any() and (present & (cious >= 0.5)).any():
        assert (np.diff(recall) >= -1e-12).all()
    for measure in (m.average_precision, m.published_precision, m.greatest_f1):
        assert -1e-12 <= measure(confidence, present, cious) <= 1 + 1e-12
    assert m.average_precision(confidence, present, cious) >= -1e-12
