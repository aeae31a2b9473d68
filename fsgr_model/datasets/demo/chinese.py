"""The demo world's Chinese: no spaces, no plurals, measure words between a number and what is counted."""

from fsgr_model.datasets.demo.scenes import Group, pick
from fsgr_model.datasets.demo.speaker import Speaker
from fsgr_model.datasets.demo.world_file import ChinesePlace, ChineseSpec, Patterns, Relation, Words


class ChineseSpeaker(Speaker):
    """Captions such as 草地上有一只棕色的小狗。"""

    @property
    def words(self) -> ChineseSpec:
        assert self.world.chinese, "whoever draws a Chinese world has looked for its words"
        return self.world.chinese

    @property
    def patterns(self) -> Patterns:
        return self.words

    def fits(self, sentence: str) -> bool:
        fewest, most = self.words.characters
        return fewest <= len(sentence) <= most

    def finished(self, sentence: str, stop: bool) -> str:
        return sentence + "。" * stop

    def fill(self, patterns: Words, named: list[int], relation: Relation | None = None) -> str:
        pattern = pick(patterns, self.rng)
        groups = self.groups(named)
        phrases = [self._noun_phrase(group) for group in groups]
        values = {
            "things": _enumerate(phrases),
            "first": phrases[0],
            "second": phrases[-1],
            "doing": str(self.rng.choice(self.words.objects[groups[0].kind].doing)),
            "adverb": self._adverb(),
            "relation": pick(self.words.relations[relation], self.rng) if relation else "",
            "place": self._place(groups) if "{place}" in pattern else "",
            "scene": pick(self._background.scenes, self.rng),
        }
        return self._weather() + pattern.format(**values)

    @property
    def _background(self) -> ChinesePlace:
        return self.words.backgrounds[self.scene.background]

    def _noun_phrase(self, group: Group) -> str:
        """两辆很小的红色的汽车"""
        words, kind = self.words, self.words.objects[group.kind]
        nouns = {noun: 0.4**rank for rank, noun in enumerate(kind.nouns)}
        phrase = pick(words.count_words[group.count], self.rng) + pick(kind.measure, self.rng)
        if self.happens("adjective"):
            phrase += str(self.rng.choice(words.moods.adjectives))
        if self.happens("size"):
            phrase += pick(words.sizes[group.size], self.rng)
        if self.happens("colour"):
            phrase += pick(words.colours[group.colour], self.rng)
        return phrase + pick(nouns, self.rng)

    def _adverb(self) -> str:
        if not self.happens("adverb"):
            return ""
        alone = len(self.scene.things) == 1
        return str(
            self.rng.choice([word for word in self.words.moods.adverbs if alone or word != self.words.alone])
        )

    def _place(self, groups: list[Group]) -> str:
        ways = {"ground": self._background.on, "air": self._background.above}
        zone = self.zone_of(groups)
        return pick(ways[zone] if zone and self.rng.random() < 0.6 else self._background.where, self.rng)

    def _weather(self) -> str:
        phrases = self.words.weather[self.scene.weather]
        return f"{pick(phrases, self.rng)}，" if phrases and self.happens("weather") else ""


def _enumerate(phrases: list[str]) -> str:
    """`a`, `a和b`, `a、b和c`"""
    return "和".join(["、".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
