"""Everything that the app takes from stylenorm, in one place. Public names only."""

from stylenorm.animation import frame_count, paint_animation
from stylenorm.catalog import RESERVED, compared_networks, generation_file, photos_folder, style_entries, told_of_left_behind, weights_folder
from stylenorm.checkpoint import load_style
from stylenorm.colors import color_of
from stylenorm.comparing import CHANGES, Comparison, changed
from stylenorm.config import TrainConfig
from stylenorm.encode import LONGEST_SIDE
from stylenorm.engine import Stream, Stylizer
from stylenorm.errors import ImageError, StyleError, StylenormError, counted
from stylenorm.flow import opencv
from stylenorm.formats import ANIMATABLE, BACKGROUND, FACES, FILMS, PEOPLE, PHOTOGRAPHS
from stylenorm.generating import MOST_PIXELS, NoisePainter
from stylenorm.images import fit, read_picture, write_picture
from stylenorm.jobs import Masks
from stylenorm.layouts import Layout
from stylenorm.masks import drawn_mask, mask_levels
from stylenorm.mattes import Mattes
from stylenorm.new_style import Cancelled, NewStyleConfig, check_name, train_style
from stylenorm.people import NOBODY
from stylenorm.tensors import fitted, usual_side
from stylenorm.training import train
from stylenorm.video import paint_film
from stylenorm.video_files import frames as read_frames
from stylenorm.video_files import picture_box
from stylenorm.video_files import probe as probe_film

__all__ = [
    "ANIMATABLE", "BACKGROUND", "CHANGES", "FACES", "FILMS", "LONGEST_SIDE", "MOST_PIXELS", "NOBODY", "PEOPLE", "PHOTOGRAPHS", "RESERVED", "Cancelled", "Comparison", "ImageError", "Layout", "Masks", "Mattes",
    "NewStyleConfig", "NoisePainter", "Stream", "StyleError", "StylenormError", "Stylizer", "TrainConfig", "changed",
    "check_name", "color_of", "compared_networks", "counted", "drawn_mask", "fit", "fitted", "frame_count", "generation_file",
    "load_style", "mask_levels", "opencv", "paint_animation", "paint_film", "photos_folder", "picture_box", "probe_film", "read_frames", "read_picture",
    "style_entries", "told_of_left_behind", "train", "train_style", "usual_side", "weights_folder", "write_picture",
]  # fmt: skip
