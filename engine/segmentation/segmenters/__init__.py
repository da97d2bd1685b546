"""A file a segmenter; importing the folder registers all of them, and then those of others."""

from engine.segmentation.segmenter import SEGMENTERS

SEGMENTERS.fill(__name__, order=("hysteresis",))
