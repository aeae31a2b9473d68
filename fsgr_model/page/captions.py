"""`POST /api/caption`: the bytes of a picture in, captions as JSON out; maps of the patches on request."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from anyio import CapacityLimiter, to_thread
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from torch import Tensor

from fsgr_model.datasets.image_file import BadImage, decode_rgb, read_image_bytes
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.inference.describing import Caption, DescribedImage, Region
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.page.batches import Batches, TooMany
from fsgr_model.page.guard import busy, refused
from fsgr_model.runtime.errors import UserError

# Pictures decoded at once, each up to 3 bytes a pixel.
DECODERS = 2
AS_FORM = (
    "this is a form (multipart/form-data), as curl -F sends it; send the bytes of the picture alone: "
    "curl --data-binary @photo.jpg ADDRESS"
)


@dataclass(frozen=True)
class Limits:
    """Of one request: bytes and pixels of its picture, seconds to send it; of all: pictures that wait."""

    bytes: int = 20_000_000
    pixels: int = 50_000_000
    seconds: float = 30.0
    waiting: int = 32


Phrase = Annotated[str, Field(max_length=100)]


class Options(BaseModel):
    """The query of the address; without any the caption is that of `fsgr caption`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_id: Annotated[int, Field(ge=0)] | None = None
    beam_size: Annotated[int, Field(ge=1, le=16)] | None = None
    samples: Annotated[int, Field(ge=1, le=16)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    n_best: Annotated[int, Field(ge=1, le=16)] | None = None
    min_words: Annotated[int, Field(ge=0, le=100)] | None = None
    max_words: Annotated[int, Field(ge=1, le=100)] | None = None
    begin: Phrase = ""
    must: Annotated[tuple[Phrase, ...], Field(max_length=4)] = ()
    must_not: Annotated[tuple[Phrase, ...], Field(max_length=32)] = ()
    region: Region | None = None
    maps: bool = False

    @staticmethod
    def of(query: QueryParams) -> "Options":
        """Those of an address; `must` and `must_not` may occur several times, a region is four numbers.

        Raises:
            ValidationError: one is unknown or out of range.
        """
        given: dict[str, Any] = dict(query)
        for name in ("must", "must_not"):
            given[name] = query.getlist(name)
        if "region" in given:
            given["region"] = given["region"].split(",")
        return Options.model_validate(given)

    @model_validator(mode="after")
    def _fit(self) -> "Options":
        if self.beam_size is not None and self.samples is not None:
            raise ValueError("beam_size and samples exclude each other: captions are searched or drawn")
        if self.region is not None:
            left, top, right, bottom = self.region
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError("region is left,top,right,bottom, each from 0 to 1 of what CLIP sees")
        return self

    def wishes(self) -> dict[str, Any]:
        """Parameters below `decode` that are asked for, by dotted name."""
        asked = {
            "length.min_words": self.min_words,
            "length.max_words": self.max_words,
            "words.begin": self.begin or None,
            "words.must": list(self.must) or None,
            "words.must_not": list(self.must_not) or None,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def decoding(self) -> dict[str, Any]:
        """What `ImageCaptioner.with_options` takes."""
        alike = self.model_dump(include={"beam_size", "samples", "seed", "n_best", "region"})
        return {**alike, "decode": self.wishes()}


class CaptionEndpoint:
    """Captions pictures that are sent, and those of the test split by their ids.

    Args:
        captioner: the network.
        records: the test images by id; empty where only a model is served.
    """

    def __init__(self, captioner: ImageCaptioner, records: Mapping[int, ImageRecord], limits: Limits) -> None:
        self.captioner, self.records, self.limits = captioner, records, limits
        self.batches = Batches(captioner.batch_size, most_waiting=limits.waiting)
        self.decoders = CapacityLimiter(DECODERS)

    async def post(self, request: Request) -> Response:
        """Answer one request; what is refused has a status and one line."""
        try:
            options = Options.of(request.query_params)
            data = await self._sent(request) if options.image_id is None else None
            return JSONResponse(await self._captioned(options, data))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            return refused(400, f"{'.'.join(map(str, problem['loc'])) or 'options'}: {problem['msg']}")
        except TooLong as error:
            return refused(413, str(error))
        except TimeoutError:
            return self._too_slow()
        except TooMany:
            return busy(self.limits.waiting)
        except KeyError:
            return refused(404, "no test image has this id")
        except SentAsForm:
            return refused(415, AS_FORM)
        except BadImage as error:
            return refused(415, str(error))
        except Unmet as error:
            return refused(422, str(error))
        except UserError as error:
            return refused(500, str(error))

    def _too_slow(self) -> Response:
        """The answer to a picture that did not arrive; what may still come of it is not waited for."""
        answer = refused(408, f"the picture did not arrive within {self.limits.seconds:g} s; send it again")
        answer.headers["Connection"] = "close"
        return answer

    async def _captioned(self, options: Options, data: bytes | None) -> dict[str, Any]:
        path = None if options.image_id is None else Path(self.records[options.image_id].path)

        def prepared() -> tuple[tuple[int, int], Tensor, ImageCaptioner]:
            with asked_too_much(options):
                captioner = self.captioner.with_options(**options.decoding())
            picture = self._opened(read_image_bytes(path) if path else data or b"")
            return picture.size, self.captioner.prepare(picture), captioner

        size, image, captioner = await to_thread.run_sync(prepared, limiter=self.decoders)
        with asked_too_much(options):
            described = await asyncio.wrap_future(self.batches.add(image, captioner, options.decoding()))
        found = {"width": size[0], "height": size[1]} | self._plain(described)
        if options.maps:
            found |= await to_thread.run_sync(self._maps, image, captioner, described, limiter=self.decoders)
        return found

    def _opened(self, data: bytes) -> Image.Image:
        return decode_rgb(data, "that was sent", self.limits.pixels)

    async def _sent(self, request: Request) -> bytes:
        """The body of the request.

        Raises:
            TooLong: it has more bytes than are taken. The rest is read, though not kept: a browser listens
                to the answer only when it has sent everything.
            TimeoutError: it took too long.
            SentAsForm: it is a form, with the picture somewhere in it.
        """
        most = self.limits.bytes
        parts: list[bytes] = []
        length = 0
        async with asyncio.timeout(self.limits.seconds):
            async for part in request.stream():
                length += len(part)
                if length <= most:
                    parts.append(part)
                else:
                    parts.clear()
        if length > most:
            raise TooLong(most)
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise SentAsForm
        return b"".join(parts)

    def _plain(self, described: DescribedImage) -> dict[str, Any]:
        return {"captions": [_as_json(caption) for caption in described.captions]}

    def _maps(self, image: Tensor, captioner: ImageCaptioner, described: DescribedImage) -> dict[str, Any]:
        """Label map, concepts, and the attention of each word of each caption, as rows of the patches."""
        maps = {"labels": captioner.label_map(image), "concepts": described.concept_SS}
        attention = [captioner.attention(image, caption) for caption in described.captions]
        names = self.captioner.concepts
        shown = {int(each) for map_SS in maps.values() if map_SS is not None for each in np.unique(map_SS)}
        return {
            "centre_only": self.captioner.crops_centre,
            "names": {number: names[number] for number in sorted(shown)},
            **{name: None if map_SS is None else map_SS.tolist() for name, map_SS in maps.items()},
            "attention": [_rounded(attention_LSS) for attention_LSS in attention],
        }


class Unmet(UserError):
    """What was asked of captions cannot be."""


@contextmanager
def asked_too_much(options: Options) -> Iterator[None]:
    """What is refused in this context is the fault of the wishes, if there are any."""
    try:
        yield
    except UserError as error:
        if options.decoding() == Options().decoding():
            raise
        raise Unmet(str(error)) from None


class SentAsForm(Exception):
    """The body is not the picture itself."""


class TooLong(Exception):
    """The body has more bytes than are taken."""

    def __init__(self, most: int) -> None:
        super().__init__(f"a picture may have {most} bytes; send a smaller one")


def _as_json(caption: Caption) -> dict[str, Any]:
    words = zip(caption.words, caption.word_probabilities, strict=True)
    return {
        "text": caption.text,
        "log_probability": caption.log_probability,
        "words": [{"text": text, "probability": probability} for text, probability in words],
    }


def _rounded(attention_LSS: NDArray[np.float32]) -> list[Any]:
    """The maps as lists; five decimals are enough to draw them."""
    return attention_LSS.astype(np.float64).round(5).tolist()
