"""Which formats are decoded, which suffixes mean a picture, and what a file is that is not decoded.

The first bytes decide before the suffix: phones and servers name a JPEG `.HEIC`, and a HEIC `.jpg`.
"""

import posixpath
import re
from dataclasses import dataclass
from functools import cache

from PIL import Image

# Suffixes that pictures in lists and folders have, in lower case. More can be decoded, but other files are
# there as well.
PICTURE_SUFFIXES = frozenset(
    ("avif", "bmp", "gif", "heic", "heif", "jfif", "jp2", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp")
)
# How many first bytes `kind_of` reads; an SVG may open with a comment.
HEAD_BYTES = 1024
HEIF_PACKAGE = "pillow-heif>=0.22,<2"
AVIF_PACKAGE = "pillow>=11.3,<14"
# Pillow starts another program (Ghostscript) for EPS, which executes code in the file; only Windows renders
# WMF. The others hold no picture: Pillow knows their names for programs that bring a reader of their own.
NOT_DECODED = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"))
# Suffixes that Pillow assigns to rare formats, but that mostly mean point clouds, circuit boards or tracks.
MEANS_OTHERS_TOO = frozenset((
    ".bw", ".cur", ".dcx", ".fit", ".fits", ".ftc", ".ftu", ".gbr", ".icb", ".im", ".msp", ".pcd", ".pxr",
    ".ras", ".rgb", ".rgba", ".vda", ".vst",
))  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What a file is that was not decoded, and what to do about it, in a few words each."""

    what: str
    remedy: str
    is_picture: bool = True


def raw_file(name: str) -> Kind:
    return Kind(f"a camera's raw file ({name}), which is not decoded", "export it as JPEG or TIFF")


def drawing(name: str) -> Kind:
    return Kind(f"a drawing in lines ({name}), which is not decoded", "export it as PNG")


def other_picture(name: str) -> Kind:
    return Kind(f"{name}, which is not decoded", "convert it to PNG or JPEG")


def no_picture(name: str) -> Kind:
    return Kind(f"{name}, not a picture", "leave it out", is_picture=False)


RAW_SUFFIXES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25", ".kdc",
    ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw",
    ".x3f",
))  # fmt: skip
BY_SUFFIX = {
    **{suffix: raw_file(suffix[1:].upper()) for suffix in RAW_SUFFIXES},
    **{suffix: drawing(suffix[1:].upper()) for suffix in (".ai", ".emf", ".eps", ".svg", ".svgz", ".wmf")},
    ".dcm": other_picture("DICOM"),
    ".exr": other_picture("OpenEXR"),
    ".jxl": other_picture("JPEG XL"),
    ".jxr": other_picture("JPEG XR"),
    ".psb": other_picture("a large document of Photoshop"),
    ".xcf": other_picture("a document of GIMP"),
}
# First bytes by the formats' specifications; those of raw files by what cameras write.
_HEADS = [
    (rb"II[*]\0.{4}CR", BY_SUFFIX[".cr2"]),
    (rb".{4}ftypcrx ", BY_SUFFIX[".cr3"]),
    (rb"FUJIFILMCCD-RAW", BY_SUFFIX[".raf"]),
    (rb"IIRO|IIRS|MMOR", BY_SUFFIX[".orf"]),
    (rb"IIU\0", BY_SUFFIX[".rw2"]),
    (rb"\0MRM", BY_SUFFIX[".mrw"]),
    (rb"FOVb", BY_SUFFIX[".x3f"]),
    (rb"%!PS-Adobe-.{4}EPSF", BY_SUFFIX[".eps"]),
    (rb".{128}DICM", BY_SUFFIX[".dcm"]),
    (rb"\x76\x2f\x31\x01", BY_SUFFIX[".exr"]),
    (rb"\0{3}\x0cJXL \r\n", BY_SUFFIX[".jxl"]),
    (rb"gimp xcf", BY_SUFFIX[".xcf"]),
    (rb"\x89HDF\r\n", no_picture("an HDF5 file")),
    (rb"%PDF-", no_picture("a PDF document")),
    (rb"PK\x03\x04", no_picture("a zip file")),
    (rb"\0\0\x01[\xb3\xba]|\x1a\x45\xdf\xa3|RIFF.{4}AVI ", no_picture("a film")),
    (rb"\0\x05\x16[\0\x07]", no_picture("what macOS notes about a file (AppleDouble)")),
]
BY_HEAD = [(re.compile(mark, re.DOTALL), kind) for mark, kind in _HEADS]
SVG_BEGINS = (b"<svg", b"<?xml", b"<!--", b"<!DOCTYPE svg")
# ISO 14496-12 names the type of a file by brands; ISO 23008-12 and AV1's specification define these.
HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
AVIF_BRANDS = frozenset((b"avif", b"avis"))
HEIF_BRANDS = HEIC_BRANDS | {b"mif1", b"msf1"}
HEIC_SUFFIXES = (".heic", ".heics", ".heif", ".heifs", ".hif")
AVIF_SUFFIXES = (".avif", ".avifs")


def suffix_of_name(name: str) -> str:
    """What follows the last full stop of a file name, in lower case; empty for `.jpg`, which is hidden."""
    return posixpath.splitext(name)[1][1:].lower()


def is_picture_name(name: str) -> bool:
    return suffix_of_name(name) in PICTURE_SUFFIXES


@cache
def picture_formats() -> tuple[str, ...]:
    """Every format that Pillow itself decodes, and HEIF where the package pillow-heif is installed."""
    # As Pillow itself does, the common formats are tried first: a JPEG opens in half the time.
    Image.preinit()
    Image.init()
    try:
        import pillow_heif
    except ImportError:  # an optional dependency; a HEIC picture is then refused by name
        pass
    else:
        pillow_heif.register_heif_opener()
    return tuple(name for name in Image.ID if name not in NOT_DECODED)


@cache
def format_of_suffix(suffix: str) -> str | None:
    """The name of the format that is decoded under a suffix in lower case, as `picture_formats` has it."""
    # Pillow reads MPO, the photographs of stereo cameras and some phones, as JPEG.
    readable = {*picture_formats(), "MPO"}
    name = Image.registered_extensions().get(suffix)
    return name if name in readable else None


@cache
def means_picture(suffix: str) -> bool:
    """Whether a suffix in lower case is used only for pictures, decoded or not."""
    if suffix in MEANS_OTHERS_TOO:
        return False
    return format_of_suffix(suffix) is not None or _by_suffix(suffix) is not None


def kind_of(head: bytes, suffix: str) -> Kind | None:
    """What a file is that Pillow did not decode: by its first bytes, else by its suffix, in lower case.

    It is None for an empty file, and if neither is known.
    """
    if head[4:8] == b"ftyp" and head[8:12] != b"crx ":
        return _by_brands(head)
    for mark, kind in BY_HEAD:
        if mark.match(head):
            return kind
    if b"<svg" in head and head.lstrip().startswith(SVG_BEGINS):
        return BY_SUFFIX[".svg"]
    return _by_suffix(suffix) if head else None


def _by_brands(head: bytes) -> Kind:
    end = min(int.from_bytes(head[:4]), len(head))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, end, 4))}
    if brands & AVIF_BRANDS and head[8:12] not in HEIC_BRANDS:
        return _avif(".avif")
    return _heic(".heic") if brands & HEIF_BRANDS else no_picture("a film")


def _by_suffix(suffix: str) -> Kind | None:
    if suffix in HEIC_SUFFIXES and format_of_suffix(suffix) is None:
        return _heic(suffix)
    if suffix in AVIF_SUFFIXES and format_of_suffix(suffix) is None:
        return _avif(suffix)
    return BY_SUFFIX.get(suffix)


def _heic(suffix: str) -> Kind:
    return _by_package("HEIC", suffix=suffix, needed="the package pillow-heif", package=HEIF_PACKAGE)


def _avif(suffix: str) -> Kind:
    return _by_package("AVIF", suffix=suffix, needed="a newer Pillow", package=AVIF_PACKAGE)


def _by_package(name: str, *, suffix: str, needed: str, package: str) -> Kind:
    if format_of_suffix(suffix) is None:
        return Kind(f'{name}, which needs {needed}: pip install "{package}"', "or convert it to JPEG")
    return Kind(f"{name} that is broken or cut off", "restore or replace it")
