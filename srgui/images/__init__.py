"""Files <-> :class:`Picture` <-> tensor: the only room that knows Pillow's and OpenCV's codecs."""

from srgui.images.picture import Picture, to_samples, to_tensor
from srgui.images.read import SUFFIXES, decode_picture, list_pictures, max_pixels, read_picture, read_settings
from srgui.images.write import FORMATS, Layout, check_output, encode_png, layout_of, suffix_of, write_picture

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Layout",
    "Picture",
    "check_output",
    "decode_picture",
    "encode_png",
    "layout_of",
    "list_pictures",
    "max_pixels",
    "read_picture",
    "read_settings",
    "suffix_of",
    "to_samples",
    "to_tensor",
    "write_picture",
]
