"""What bears out that people are in a photograph."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from stylenorm import find_people, poses, witnesses
from stylenorm.catalog import photos_folder
from stylenorm.faces import Face
from stylenorm.people import any_in
from stylenorm.poses import NOWHERE, VIEWER, Body, Place
from stylenorm.witnesses import ALONE, NONE, borne_out, labels

PHOTO = Image.new("RGB", (400, 300), "gray")


@pytest.mark.parametrize("name, anybody", [("astronaut.jpg", True), ("chelsea.jpg", False), ("coffee.jpg", False)])
def test_a_cat_and_a_cup_are_nobody(name, anybody):
    assert any_in(find_people(photos_folder() / name)) is anybody


@pytest.fixture
def seen(monkeypatch):
    """Bodies, in place of the networks: [(left, right) of 400, likely, sure, nose], found in all that is searched."""
    given, searched = [], []

    def find(photo, box=None, least=poses.LIKELY, mirrored=True):
        searched.append((box, mirrored))
        return [Place(likely, (left, 150.0), (left, 250.0), (left, 50.0)) for (left, _), likely, *_ in given if likely > least]

    def look(photo, place):
        ((left, right), _, sure, nose) = next(one for one in given if one[0][0] == place.chest[0])
        logit = np.full((VIEWER, VIEWER), NOWHERE, np.float32)
        matrix = np.diag([photo.width / VIEWER, photo.height / VIEWER, 1.0])
        logit[:, round(left * VIEWER / 400) : round(right * VIEWER / 400)] = 20
        return Body(place, sure, nose, logit, matrix)

    monkeypatch.setattr(poses, "places", find)
    monkeypatch.setattr(poses, "look_at", look)
    given.append(searched)
    return given


def taken(*spans) -> np.ndarray:
    """Logits of what is in front, at columns of 400."""
    logit = np.full((300, 400), -5, np.float32)
    for left, right in spans:
        logit[:, left:right] = 5
    return logit


def given(seen, *bodies):
    searched, seen[:] = seen[0], bodies
    return searched


@pytest.mark.parametrize("likely, sure, somebody", [(0.51, 0.91, True), (0.49, 0.99, False), (0.6, 0.89, False), (0.76, 0.31, True), (0.76, 0.29, False)])
def test_a_body_bears_out_whom_it_is_of(seen, likely, sure, somebody):
    given(seen, ((100, 200), likely, sure, (0, 0)))
    borne = borne_out(PHOTO, taken((100, 200), (300, 380)), [])
    if not somebody:
        assert (borne == NONE).all()
        return
    reach = round(witnesses.SOFT * 400)
    assert (borne[:, 100 + reach : 200 - reach] > 0.99).all() and (borne[:, : 100 - reach] == ALONE).all() and (borne[:, 200 + reach :] == ALONE).all()
    across = borne[150, 100 - reach : 100 + reach]
    assert (np.diff(across) > 0).all() and abs(across[reach]) < 0.1, "evenly across the edge"


def test_a_body_where_nothing_is_in_front_is_nobodys_but_for_a_face(seen):
    body = ((100, 200), 0.7, 0.99, (150, 60))
    given(seen, body)
    for likely, least in ((0.7, 0.5), (0.9, 0.1)):  # the surer it is, the less of it has to be in front
        seen[:] = [((100, 200), likely, 0.99, (150, 60))]
        end = round(200 - 100 * least)
        assert (borne_out(PHOTO, taken((end - 3, 205)), []) > 0.9).any()
        assert (borne_out(PHOTO, taken((end + 4, 205)), []) == NONE).all()
    assert (borne_out(PHOTO, taken(), []) == NONE).all()
    face = Face(150, 60, 40, 50)
    assert borne_out(PHOTO, taken(), [face])[150, 150] == 1
    for nose, there in (((177, 60), True), ((179, 60), False), ((150, 94), True), ((150, 96), False)):
        seen[:] = [(*body[:3], nose)]
        assert (borne_out(PHOTO, taken(), [face])[150, 150] > 0) is np.bool_(there), nose
    seen[:] = [(*body[:2], 0.49, (150, 60))]
    assert (borne_out(PHOTO, taken(), [face]) < 0).all()


@pytest.mark.parametrize("likely", [0.45, 0.9])
def test_a_face_has_one_body_the_surest_of_which_most_is_in_front(seen, likely):
    given(seen, ((100, 200), likely, 0.95, (150, 60)), ((250, 350), 0.42, 0.8, (150, 60)))
    face = Face(150, 60, 20, 25)
    borne = borne_out(PHOTO, taken((100, 200), (250, 350)), [face])
    assert borne[250, 150] == 1 and borne[250, 300] == ALONE
    borne = borne_out(PHOTO, taken((140, 200), (250, 350)), [face])
    assert borne[250, 300] == 1 and borne[250, 150] == ALONE, "however sure the other is"


def test_what_is_worn_on_a_head_is_left_to_what_is_in_front(seen):
    given(seen, ((190, 210), 0.9, 0.99, (200, 150)))
    borne = borne_out(PHOTO, taken((100, 300)), [Face(200, 150, 30, 40)])
    middle = 150 - round(0.3 * 40)
    assert borne[middle - 55, 200] >= 0 and (borne[middle, [150, 250]] == 0).all() and borne[middle + 55, 150] < 0
    assert borne[middle - 46, 230] == 0 and borne[middle + 50, 230] < 0, "above the middle of the face"
    assert borne[middle - 5, 120] == pytest.approx(1.4 - 80 / 40, abs=0.03) and borne[middle, 90] == ALONE
    assert borne_out(PHOTO, taken((100, 300)), [])[middle, 150] == ALONE, "where there is a face"


def test_a_face_without_a_body_bears_out_the_part_it_is_in(seen):
    searched = given(seen, ((0, 1), 0.2, 0.0, (0, 0)))  # next to nothing, which is enough about a face
    logit, faces = taken((100, 200), (300, 380)), [Face(150, 60, 40, 50)]
    borne = borne_out(PHOTO, logit, faces)
    assert (borne[:, 100:200] == 0).all() and (borne[:, 210:] == ALONE).all() and (borne[:, :90] == ALONE).all()
    sides = [round(box[2] - box[0]) for box, _ in searched if box]
    assert sides[:2] == [350, 200] and sides[-1] == 200, "from further and from nearer, and once more for what is next to nothing"
    seen[:] = [((0, 1), 0.1, 0.0, (0, 0))]
    assert (borne_out(PHOTO, logit, faces) == NONE).all(), "an animal's"
    seen[:] = [((0, 1), 0.2, 0.0, (0, 0))]
    assert (borne_out(PHOTO, logit, [Face(250, 60, 40, 50)]) == ALONE).all(), "where nothing is in front"
    assert (borne_out(PHOTO, logit, [Face(430, 330, 40, 50)]) == ALONE).all(), "nor beside the photograph, where faces are cut off"
    (wide, near) = witnesses._beside(Face(150, 60, 40, 50))
    assert wide == pytest.approx((-25, 60 - 0.22 * 350, 325, 60 + 0.78 * 350)) and near == pytest.approx((50, 0, 250, 200)), "more of it below the face"


def test_who_turns_her_back_is_somebody_beside_whom_a_face_is_of(seen):
    given(seen, ((100, 200), 0.9, 0.99, (150, 60)), ((250, 350), 0.9, 0.99, (300, 60)))
    borne = borne_out(PHOTO, taken((100, 200), (250, 350)), [Face(150, 60, 40, 50)])
    assert borne[250, 150] == borne[250, 300] == 1
    seen[1:] = [((250, 350), 0.9, 0.49, (150, 60))]  # too unsure to be of the face, and sure by itself
    seen[:1] = []
    assert borne_out(PHOTO, taken((250, 350)), [Face(150, 60, 40, 50)])[250, 300] == 1


def test_in_a_larger_photograph_it_is_the_same(seen):
    searched, borne = given(seen), []
    for scale in (1, 2):
        seen[:] = [((100, 200), 0.9, 0.99, (150 * scale, 60 * scale))]
        faces = [Face(x * scale, 60 * scale, 40 * scale, 50 * scale) for x in (150, 340)]
        borne.append(borne_out(PHOTO.resize((400 * scale, 300 * scale)), taken((100, 200), (300, 380)), faces))
    np.testing.assert_allclose(borne[0], borne[1], atol=0.01)
    assert borne[0][150, 150] == 1 and borne[0][150, 340] == 0 and borne[0][20, 150] >= 0
    boxes = [box for box, _ in searched if box]
    half = len(boxes) // 2
    np.testing.assert_allclose(np.multiply(boxes[:half], 2), boxes[half:])


def test_the_largest_parts_are_searched(seen):
    searched, logit = given(seen), taken()
    for number in range(8):
        logit[220:250, 50 * number : 50 * number + 15 + 2 * number] = 5
    logit[100:160, 30:40] = logit[150:160, 30:70] = 5
    borne_out(PHOTO, logit, [])
    middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0]) for box, _ in searched[1:]]
    assert middles[0] == pytest.approx((50, 130, 1.4 * 60)), "about all of a part that is bent"
    assert [x for x, *_ in middles[1:]] == [364.5, 313.5, 262.5, 211.5, 160.5], "six, the largest first"
    searched.clear()
    logit[:, 40:] = logit[100:160] = -5
    borne_out(PHOTO, logit, [])
    assert len(searched) == 1, "but none that is next to nothing"


def test_in_a_crowd_faces_are_believed_and_it_takes_no_longer_for_ever(seen):
    searched = given(seen, ((0, 1), 0.1, 0.0, (0, 0)))
    nowhere, logit = Face(300, 200, 20, 25), taken((100, 200))
    assert (borne_out(PHOTO, logit, [nowhere] * (witnesses.MOST - 1) + [Face(150, 60, 20, 25)]) == NONE).all()
    searched.clear()
    borne = borne_out(PHOTO, logit, [nowhere] * witnesses.MOST + [Face(150, 60, 20, 25)] * 30)
    assert (borne[:, 100:200] == 0).all() and len(searched) < 4 * witnesses.MOST


def test_what_is_left_is_searched_and_a_film_takes_less(seen, monkeypatch):
    searched = given(seen, ((100, 200), 0.9, 0.99, (0, 0)))
    borne_out(PHOTO, taken((100, 200), (300, 380)), [])
    assert searched == [(None, True), ((130, -60, 550, 360), True)], "a square about the other part, 1.4 times as wide as it is long"
    searched.clear()
    asked = []
    monkeypatch.setattr(witnesses, "find_faces", lambda photo: asked.append(photo) or [])
    borne = borne_out(PHOTO, taken((100, 200)))
    assert searched == [(None, False)] and not asked and borne[150, 150] == 1
    borne_out(PHOTO, taken((100, 200), (300, 380)))
    assert searched == [(None, False)] * 2 and len(asked) == 1, "faces are looked for where something is left"
    monkeypatch.setattr(witnesses, "find_faces", lambda photo: asked.append(photo) or [Face(340, 60, 40, 50)])
    assert borne_out(PHOTO, taken((100, 200), (300, 380)))[150, 340] == 0 and len(asked) == 2, "and have their part in a film"
    seen.append(((300, 380), 0.45, 0.99, (340, 60)))
    assert borne_out(PHOTO, taken((100, 200), (300, 380)))[150, 340] == 1 and len(asked) == 3, "or bear out a body that is not sure by itself"
    seen[-1] = ((300, 380), 0.9, 0.99, (0, 0))
    borne_out(PHOTO, taken((100, 200), (300, 380)))
    assert len(asked) == 3, "of several bodies nothing is left"


def test_labels_are_one_a_part():
    there = np.zeros((41, 58), bool)
    there[2:5, 2:5] = there[20:40, 20] = there[39, 20:57] = there[20:40, 56] = True  # a spot, and a long bent line
    number = labels(there)
    assert (number > 0).tolist() == there.tolist() and len(np.unique(number)) == 3
    assert len(np.unique(number[20:][there[20:]])) == 1 and number[3, 3] != number[20, 20]
    assert (labels(np.ones((9, 7), bool)) == 1).all() and not labels(np.zeros((9, 7), bool)).any()
