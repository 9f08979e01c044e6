"""A space as a model of mteb, on made-up tasks of its classes: nothing is fetched."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mteb")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of its own libraries

import mteb  # noqa: E402
from datasets import Dataset  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.mocks.mock_tasks.retrieval import general_args  # noqa: E402
from test_sentence_transformers import tiny_space  # noqa: E402

from cmcr import Modality, Subject  # noqa: E402
from cmcr.errors import InputError  # noqa: E402
from cmcr.sharing.mteb_model import SpaceModel  # noqa: E402
from cmcr.sharing.values import embed_values  # noqa: E402

COUNT = 12


def things(kind):
    rng = np.random.default_rng(7)
    if kind == "text":
        return [
            f"{how} {what}"
            for how in ("two red", "one blue", "four green")
            for what in ("drums", "bells", "cats", "dogs")
        ]
    if kind == "image":
        return [Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)) for _ in range(COUNT)]
    if kind == "video":
        return [[rng.integers(0, 255, (3, 24, 24), dtype=np.uint8).tolist() for _ in range(3)] for _ in range(COUNT)]
    # Of different lengths, as sounds are.
    return [{"array": rng.uniform(-1, 1, 8000 + 50 * n).tolist(), "sampling_rate": 16_000} for n in range(COUNT)]


def task_of(query, gallery):
    """A task of mteb's class for retrieval between any two modalities, whose data are made up."""

    class MadeUp(AbsTaskRetrieval):
        metadata = TaskMetadata(
            type="Any2AnyRetrieval", name=f"MadeUp{query}{gallery}", main_score="recall_at_1", **general_args
        )

        def load_data(self, num_proc=None, **kwargs):
            ids = [str(n) for n in range(COUNT)]
            self.dataset = {
                "default": {
                    "test": RetrievalSplitData(
                        queries=Dataset.from_dict({"id": ids, query: things(query)}),
                        corpus=Dataset.from_dict({"id": ids, gallery: things(gallery)}),
                        relevant_docs={each: {each: 1} for each in ids},
                        top_ranked=None,
                    )
                }
            }
            self.data_loaded = True

    MadeUp.metadata.modalities = [query, gallery]
    MadeUp.metadata.category = f"{query[0]}2{gallery[0]}"
    return MadeUp()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spaces") / "av"
    tiny_space("tiny-clip", "tiny-clap").save(folder)
    return SpaceModel.open(str(folder))


@pytest.mark.parametrize(
    ("query", "gallery"),
    [
        ("text", "image"),
        ("image", "text"),
        ("text", "audio"),
        ("audio", "text"),
        ("audio", "image"),
        ("video", "audio"),
    ],
)
def test_mteb_measures_what_cmcr_does(model, query, gallery):
    found = mteb.evaluate(model, task_of(query, gallery), cache=None, show_progress_bar=False, co2_tracker=False)
    scores = found.task_results[0].scores["test"][0]
    modality = {"text": Modality.TEXT, "image": Modality.IMAGE, "audio": Modality.AUDIO, "video": Modality.IMAGE}
    middle = {"video": lambda video: np.asarray(video[1], np.uint8).transpose(1, 2, 0)}
    sides = [
        embed_values(
            model.subject, [middle.get(kind, lambda each: each)(each) for each in things(kind)], modality[kind]
        )
        for kind in (query, gallery)
    ]
    similar = sides[0] @ sides[1].T
    expected = (similar.argsort(axis=1)[:, ::-1] == np.arange(COUNT)[:, None]).argmax(axis=1)
    for k in (1, 3, 5):
        assert scores[f"recall_at_{k}"] == pytest.approx(np.mean(expected < k), abs=1e-4)


def test_what_mteb_is_told_of_a_space(model):
    meta = model.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.license) == ("cmcr/av", 32, "apache-2.0")
    assert set(meta.modalities) == {"text", "image", "audio", "video"}
    assert meta.revision == model.subject.fingerprint[:12]
    clouds = SpaceModel(Subject.open("tiny-ulip"))
    with pytest.raises(InputError, match="embeds none of it"):
        clouds.encode([{"text": ["a"]}], task_metadata=None, hf_split="", hf_subset="")


def test_a_video_with_its_sound_is_the_mean_of_both(model):
    rows = [{"image": each, "audio": sound} for each, sound in zip(things("image"), things("audio"), strict=True)]
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    found = model.encode([batch], task_metadata=None, hf_split="", hf_subset="")
    mean = sum(
        embed_values(model.subject, batch[name], modality)
        for name, modality in (("image", Modality.IMAGE), ("audio", Modality.AUDIO))
    )
    assert np.allclose(found, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
