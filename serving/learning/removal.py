"""The removal of a person's data: an answer, its example, and both from every later refit.

What is removed is marked first (`serving.state.erasure`), so that it is nowhere to be seen, and then its segments are
written anew. A removal that a killed server left unfinished is finished by asking again, or by `finish`. It knows
nothing of HTTP, or of how heads are made.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass

from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.example import identity
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.state import erasure, heads
from breadcrumbs.serving.state.store import NotFound, Store, StoreError


@dataclass(frozen=True)
class Found:
    """What a removal is about.

    Attributes:
        answer: id of the answer. None means an example without one.
        examples: ids of the examples of it.
        owner: name of the key that they belong to. None means none.
    """

    answer: str | None
    examples: list[str]
    owner: str | None


class Removal:
    """Removes what is remembered and what is labelled.

    Args:
        store: where the marks and the heads are.
        answers, examples: of that store.
    """

    def __init__(self, store: Store, answers: Answers, examples: Examples) -> None:
        self._store = store
        self._answers = answers
        self._examples = examples

    async def of_answer(self, answer: str) -> Found:
        """Find an answer, and the example that was made of it, even if the answer has expired meanwhile.

        Raises:
            NotFound, Expired: there is neither.
        """
        newest = await self._examples.newest()
        own = [said for said in newest.values() if said.answer == answer]
        try:
            origin = (await self._answers.find([answer]))[answer].origin
        except NotFound:
            await self._finish_if_marked(answer)
            if not own:
                raise
            return Found(answer, [said.id for said in own], own[0].owner)
        thing = identity(origin.owner, origin.content)
        return Found(answer, sorted({said.id for said in own} | ({thing} & newest.keys())), origin.owner)

    async def of_example(self, example: str) -> Found:
        """Find an example; an answer that it was made of stays.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            history = await self._examples.history(example)
        except NotFound:
            await self._finish_if_marked(example)
            raise
        return Found(None, [example], history[-1].owner)

    async def carry_out(self, found: Found) -> list[int]:
        """Remove what was found, and return the versions of the heads that were fitted with it."""
        fitted = await self._fitted_with(set(found.examples))
        if found.answer is not None:
            await erasure.mark(self._store, [found.answer])
        await self._examples.erase(found.examples)
        if found.answer is not None:
            await self._answers.erase(found.answer)
        return fitted

    async def _finish_if_marked(self, name: str) -> None:
        if name in await erasure.marks(self._store):
            await self._answers.erase(name)
            await self._examples.drop_erased()

    async def _fitted_with(self, examples: Collection[str]) -> list[int]:
        """The heads whose refit names one of the examples (`refits/<id>/examples.json`)."""
        if not examples:
            return []
        refits = {record.lineage.refit: record.version for record in await heads.records(self._store)}
        names = {f"refits/{refit}/examples.json": version for refit, version in refits.items() if refit}
        found = await self._store.get_all(names)
        return sorted(names[name] for name, data in found.items() if _ids(name, data) & set(examples))

    async def finish(self) -> None:
        """Finish removals that a killed server left, and remove the marks that nothing needs any more."""
        settled = await erasure.settled(self._store)
        if not settled:
            return
        await self._answers.drop_erased()
        await self._examples.drop_erased()
        for name in settled:
            await self._store.delete(name)


def _ids(name: str, data: bytes) -> set[str]:
    """The ids of the examples that a refit was fitted to."""
    try:
        return set(json.loads(data)["ids"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{name} is damaged: expected an object with ids") from error
