"""An output folder takes one writer at a time, one recipe, one label map, and one plan a split.

What is asked of it first is written down there; what is asked later must agree, as long as
anything has been prepared.
"""

import contextlib
import dataclasses
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator

from kinetics_prep.annotations.label_map import LabelMap
from kinetics_prep.annotations.planned import PlanRow
from kinetics_prep.dataset import manifest, plan, recipe
from kinetics_prep.dataset.recipe import Recipe
from kinetics_prep.dataset.shards import Layout
from kinetics_prep.errors import BadOption, OtherRecipe
from kinetics_prep.sources import Fetching, shown
from kinetics_prep.storage.files import atomic, taken, write_json


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Makes the folder, keeps other runs out of it, and gives scratch space.

    Raises:
      BadOption: if the folder cannot be made or written to.
      OtherRecipe: if another run has it.
    """
    try:
        layout.output.mkdir(parents=True, exist_ok=True)
        # What a killed run left under no final name goes. Nobody else's: see `taken`.
        with taken(layout.output):
            shutil.rmtree(layout.scratch, ignore_errors=True)
            layout.scratch.mkdir(parents=True)
            try:
                yield
            finally:
                for empty in (layout.scratch, layout.work):  # if it is: work that is not through stays
                    with contextlib.suppress(OSError):
                        empty.rmdir()
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise BadOption(f"--output {layout.output} cannot be written to: {error.filename}: {error.strerror}") from None


def forget_if_unused(layout: Layout) -> None:
    """Forgets recipe, labels and plans of a folder in which nothing has been prepared yet."""
    used = itertools.chain((layout.output / "markers").glob("*"), layout.work.glob("*/*/*"))
    if not any(used):
        for path in (layout.recipe, layout.labels, *(layout.output / "plan").glob("*")):
            path.unlink(missing_ok=True)


def agree_on_recipe(layout: Layout, wanted: Recipe) -> str:
    """Notes the recipe, or finds it noted; returns its digest.

    Raises:
      OtherRecipe: if the folder holds the output of another one.
    """
    tools = recipe.versions(wanted)
    digest = recipe.digest(wanted, tools)
    content = {"version": 1, "digest": digest, "recipe": wanted.settings(), "versions": tools}
    if not layout.recipe.exists():
        write_json(layout.recipe, content, layout.scratch)
        return digest
    found = recipe.read(layout.recipe)
    if found["digest"] != digest:
        there, here = (one["recipe"] | one["versions"] for one in (found, content))
        differences = "; ".join(recipe.differences(there, here))
        raise OtherRecipe(
            f"{layout.output} was prepared by another recipe: {differences}. "
            "Use the same settings and versions to go on, or another --output"
        )
    return digest


def agree_on_labels(layout: Layout, wanted: LabelMap, given: bool) -> LabelMap:
    """Notes the label map, or takes the folder's, if that has every label wanted.

    Args:
      given: whether the user gave the map; then it must be the folder's, to the letter.

    Raises:
      OtherRecipe: if class ids would disagree.
      CorruptShard: if the folder's map cannot be read.
    """
    if not layout.labels.exists():
        with atomic(layout.labels, layout.scratch) as temporary:
            temporary.write_text(wanted.text(), encoding="utf-8")
        return wanted
    found = manifest.read_labels(layout)
    strangers = [label for label in wanted.labels if label not in found]
    if found == wanted or (not given and not strangers):
        return found
    what = f"lacks {strangers[0]!r}" if strangers else "has other labels, or another order"
    raise OtherRecipe(
        f"{layout.labels} {what}, so class ids would disagree. Prepare into another --output, and give every split "
        "the same --labels FILE"
    )


def agree_on_plan(layout: Layout, split: str, rows: Iterable[PlanRow], shards: int) -> plan.PlanDigest:
    """Notes a split's plan, of so many shards, or finds it noted.

    Raises:
      OtherRecipe: if the folder holds another plan of this split.
    """
    path, here = layout.plan(split), plan.PlanDigest()
    if not path.exists():
        with atomic(path, layout.scratch) as temporary:
            plan.write(temporary, here.watch(rows), shards)
        return here
    there, different = plan.PlanDigest(), ()
    for pair in itertools.zip_longest(there.watch(plan.read(path)), here.watch(rows)):
        if not different and pair[0] != pair[1]:
            described = tuple(map(_described, pair))
            different = described if described[0] != described[1] else ()
    if there.sha256() != here.sha256():
        one, other = different or ("one", "another of its name")
        raise OtherRecipe(
            f"{path} plans other rows: {there.rows} there, {here.rows} here; the first to differ is {one} there and "
            f"{other} here. A plan never changes: use the same --annotations, --only and --limit to go on, or another "
            "--output"
        )
    return here


def note_sources(layout: Layout, fetching: Fetching) -> None:
    """Notes where videos are looked for, so that `retry` and `refresh` need not be told; but no passwords."""
    if any(shown(text) != text for text in fetching.videos):
        layout.sources.unlink(missing_ok=True)
        return
    content = {"version": 1, "videos": list(fetching.videos), "cache": fetching.cache}
    write_json(layout.sources, content, layout.scratch)


def with_noted_sources(layout: Layout, fetching: Fetching) -> Fetching:
    """The same, with the places that are noted if it names none.

    Raises:
      BadOption: if there are none either.
    """
    if fetching.videos or fetching.cache:
        return fetching
    try:
        noted = json.loads(layout.sources.read_text("utf-8"))
        return dataclasses.replace(fetching, videos=tuple(map(str, noted["videos"])), cache=noted["cache"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadOption(f"{layout.output} does not say where its videos are: give --videos or --cache") from None


def _described(row: PlanRow | None) -> str:
    if row is None:
        return "nothing"
    return f"{row.clip_id} (line {row.annotation_line}, label {row.label!r}, class id {row.label_index})"
