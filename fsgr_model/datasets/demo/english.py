"""The demo world's English."""

from fsgr_model.datasets.demo.scenes import Group, pick
from fsgr_model.datasets.demo.speaker import Speaker
from fsgr_model.datasets.demo.world_file import BackgroundSpec, Patterns, Relation, Words


class EnglishSpeaker(Speaker):
    """Captions that begin with a capital letter."""

    @property
    def patterns(self) -> Patterns:
        return self.world.captions

    def fits(self, sentence: str) -> bool:
        fewest, most = self.world.captions.words
        return fewest <= len(sentence.split()) <= most

    def finished(self, sentence: str, stop: bool) -> str:
        text = " ".join(sentence.split())
        return text[0].upper() + text[1:] + "." * stop

    def fill(self, patterns: Words, named: list[int], relation: Relation | None = None) -> str:
        pattern = pick(patterns, self.rng)
        groups = self.groups(named)
        phrases = [self._noun_phrase(group) for group in groups]
        values = {
            "things": _enumerate(phrases),
            "first": phrases[0],
            "second": phrases[-1],
            "is": "is" if groups[0].count == 1 else "are",
            "doing": self._doing(groups[0]),
            "relation": pick(self.world.relations[relation], self.rng) if relation else "",
            "place": self._place(groups) if "{place}" in pattern else "",
            "scene": pick(self._background.scenes, self.rng),
        }
        return pattern.format(**values) + self._weather()

    @property
    def _background(self) -> BackgroundSpec:
        return self.world.backgrounds[self.scene.background]

    def _noun_phrase(self, group: Group) -> str:
        """`two small red cars`"""
        nouns = self.world.objects[group.kind].nouns
        weights = {noun: 0.5**rank for rank, noun in enumerate(nouns)} | {next(iter(nouns)): 2.5}
        noun = pick(weights, self.rng)
        words = []
        if self.happens("adjective"):
            words.append(str(self.rng.choice(self.world.moods.adjectives)))
        if (sizes := self.world.sizes[group.size].words) and self.happens("size"):
            words.append(pick(sizes, self.rng))
        if self.happens("colour"):
            words.append(pick(self.world.colours[group.colour].words, self.rng))
        if group.count == 1:
            phrase = " ".join([*words, noun])
            return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"
        return " ".join([pick(self.world.count_words[group.count], self.rng), *words, nouns[noun]])

    def _doing(self, group: Group) -> str:
        posture = str(self.rng.choice(self.world.objects[group.kind].doing))
        if not self.happens("adverb"):
            return posture
        alone = len(self.scene.things) == 1
        adverbs = [word for word in self.world.moods.adverbs if alone or word != "alone"]
        return f"{posture} {self.rng.choice(adverbs)}"

    def _place(self, groups: list[Group]) -> str:
        ways = {"ground": self._background.on, "air": self._background.above}
        zone = self.zone_of(groups)
        fitting = ways[zone] if zone else None
        return pick(fitting if fitting and self.rng.random() < 0.6 else self._background.where, self.rng)

    def _weather(self) -> str:
        phrases = self.world.weather[self.scene.weather]
        return f" {pick(phrases, self.rng)}" if phrases and self.happens("weather") else ""


def _enumerate(phrases: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]]) if len(phrases) > 1 else phrases[0]
