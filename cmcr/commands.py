"""The commands by name: where each is, and the first paragraph of its help, in the order of the help."""

from __future__ import annotations

# A test compares the texts with the commands' own, for ``cmcr --help`` shows these and loads no command.
# ruff: noqa: E501
# fmt: off
COMMANDS = {
    "encoders": ("encoders:encoders", "List the encoders: what is installed, what is missing, dims, modalities, and where weights are expected."),
    "embed": ("embed:embed", "Embed files into a memory, or go on with one: only what is new is embedded."),
    "info": ("info:info", "Show what a memory, a space or a classifier holds, or check it."),
    "columns": ("search.columns:columns", "Import facts about a memory's rows from a table, for --where of cmcr retrieve; or list them."),
    "remove": ("rows.remove:remove", "Remove rows of a memory by their ids: no reader sees them from now on."),
    "compact": ("rows.remove:compact", "Rewrite a memory without its removed rows: only shards that hold some."),
    "dedup": ("rows.dedup:dedup", "List groups of rows of a memory that are nearly the same, and remove all but one of each."),
    "connect": ("connect:app", "Connect memories that share a modality with the first into one space, without any pair of the others."),
    "join": ("mixtures.join:join", "Join spaces that were connected to one frozen base; nothing is fitted anew."),
    "translate": ("archive.translate:translate", "Move a memory to another encoder: old vectors into the new one's own space, by a sample that both embedded."),
    "preset": ("mixtures.preset:preset", "Store weights of encoders in a space under a name, or list those that it has."),
    "weigh": ("mixtures.weigh:weigh", "Train routers: of each item that several encoders see, how much the view of each counts."),
    "import-heads": ("mixtures.heads:import_heads", "Import the heads that C-MCR, Ex-MCR, FreeBind, OmniBind or TextME published as a connected space."),
    "retrieve": ("retrieve:retrieve", "Find the rows of a memory nearest to a query of any modality of the space."),
    "serve": ("serving.serve:serve", "Serve a space: a page to search its memories with, and an API (docs at /openapi.json)."),
    "score": ("score:score", "Cosine of every A with every B, and its softmax over the Bs; without --with, of the first A with the others."),
    "export": ("sharing.export:export", "Write projected vectors, or the projectors themselves, for other tools."),
    "index": ("search.index:index", "Build a FAISS index of a memory as it lies in a space, kept beside the memory; extend it when the memory grew."),
    "push": ("sharing.push:push", "Put a space on the Hub, with its card, in one commit."),
    "classify": ("classify.models:app", "Classify rows of memories by their labels, where some lack a modality: MLA, beside what it must beat."),
    "fuse": ("fuse.fuse:fuse", "Fuse rows of several memories into one vector each (CoMM): what they share, and what only one or both tell."),
    "map": ("map:map_memory", "Draw memories as points of a plane, coloured by modality, label or another group, as an HTML page."),
    "demo": ("demo:demo", "Write unpaired pictures, sounds, texts and shapes; embed, connect, retrieve and evaluate them: two minutes."),
    "eval": ("evaluate:app", "Measure a space."),
}

EVALUATIONS = {
    "retrieval": ("eval_retrieval:retrieval", "Retrieval over pairs, both ways: a picture for its sound and a sound for its picture, or any other two."),
    "sweep": ("mixtures.sweep:sweep", "Recall against the weight of an encoder: both directions, and what its items lose in the others' own space."),
    "modelnet40": ("eval_zero_shot:modelnet40", "Zero-shot classification of ModelNet40's shapes, as ULIP measures it: top-1, top-3, top-5 and each class."),
    "zero-shot": ("eval_zero_shot:zero_shot", "Zero-shot classification of any labelled images, sounds or point clouds: a folder a class, ESC-50, a manifest."),
    "localization": ("eval_localization:localization", "Sound source localisation: which part of its picture sounds? cIoU@0.5 and AUC on VGG-SS or Flickr-SoundNet."),
    "counterfactual": ("eval_localization:counterfactual", "Counterfactual recognition: is what sounds in the picture at all? AP, max-F1, LocAcc on the Extended lists."),
    "retention": ("eval_retention:retention", "What connecting costs each source space: its own retrieval, classification and geometry, before and after."),
    "classify": ("classify.evaluate:classify", "Accuracy against the share of missing modalities: MLA, its switches, and everything it is set beside."),
    "interactions": ("interactions.evaluate:interactions", "How much of what labels need is shared by two modalities, in one of them, or only in both together."),
    "compare": ("eval_retention:compare", "Set methods, recipes and seeds side by side: mean and deviation, and a paired test where spaces are given."),
}
