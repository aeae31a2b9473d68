"""How weights want their pictures: mean, deviation and interpolation, which open_clip keeps with its tags.

A file of weights does not say it. Pictures for weights of SigLIP, PE-Core, MobileCLIP or CLIPA, prepared as
OpenAI's are, give features that look right and are not.
"""

from typing import Any

from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.runtime.errors import UserError

Config = dict[str, Any]
KEYS = ("mean", "std", "interpolation")


def form_of_tag(tag: Config) -> Config:
    """The part of a tag's config that says how pictures are prepared, whatever `clip.resize_mode` says."""
    return {key: tag[key] for key in KEYS if key in tag}


def form_of_file(name: str, preprocess_as: str | None) -> Config:
    """For weights that do not say it: that of the tag that `clip.preprocess_as` names, else of all tags.

    Raises:
        UserError: there is no such tag; or none is named, and those of the architecture disagree or there are
            none.
    """
    if preprocess_as is not None:
        return _form_of(name, preprocess_as)
    forms = {tag: form_of_tag(open_clip.get_pretrained_cfg(name, tag)) for tag in _tags(name)}
    tags = list(forms)
    others = [tag for tag in tags if forms[tag] != forms[tags[0]]]
    if tags and not others:
        return forms[tags[0]]
    why = (
        f"the tags of {name} disagree, {others[0]} with {tags[0]} for one"
        if tags
        else f"open_clip has no tag of {name}"
    )
    raise UserError(
        "the weights of clip.pretrained do not say how their pictures are prepared (mean, deviation, "
        f"interpolation), and {why}; set clip.preprocess_as to a tag that they are like, such as "
        f"{others[0] if others else 'ViT-B-16/openai'}"
    )


def refuse_preprocess_as(preprocess_as: str | None, what: str) -> None:
    """Refuse `clip.preprocess_as` beside weights that say by themselves how pictures are prepared."""
    if preprocess_as is not None:
        raise UserError(
            f"clip.preprocess_as is {preprocess_as}, but {what} how its pictures are prepared; set it to null"
        )


def _form_of(name: str, preprocess_as: str) -> Config:
    architecture, _, tag = preprocess_as.rpartition("/")
    found = open_clip.get_pretrained_cfg(architecture or name, tag)
    if not found:
        known = ", ".join(_tags(architecture or name)) or "none"
        raise UserError(
            f"clip.preprocess_as: open_clip has no tag {tag!r} of {architecture or name} (its tags: {known})"
            "; give one of them, or one of another architecture: ViT-B-16/openai"
        )
    return form_of_tag(found)


def _tags(name: str) -> list[str]:
    tags: list[str] = open_clip.list_pretrained_tags_by_model(name)
    return tags
