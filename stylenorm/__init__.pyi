"""What `stylenorm/__init__.py` looks up by name, for type checkers and editors."""

from stylenorm.errors import (
    StylenormError as StylenormError,
    ImageError as ImageError,
    StyleError as StyleError,
    WeightsError as WeightsError,
)
from stylenorm.functional import (
    adain as adain,
    minimum_epsilon as minimum_epsilon,
    modulate as modulate,
    moments as moments,
    normalize as normalize,
)
from stylenorm.layers import (
    BatchNorm2d as BatchNorm2d,
    ConditionalNorm as ConditionalNorm,
    GroupNorm as GroupNorm,
    InstanceNorm2d as InstanceNorm2d,
    LayerNorm2d as LayerNorm2d,
)
from stylenorm.swapping import recalibrate as recalibrate, swap_norms as swap_norms
from stylenorm.generator import Generator as Generator, GeneratorConfig as GeneratorConfig
from stylenorm.style import Style as Style, StyleEncoder as StyleEncoder, blend as blend, interpolate as interpolate, regions as regions
from stylenorm.checkpoint import (
    load_network as load_network,
    load_style as load_style,
    network_hash as network_hash,
    save_network as save_network,
    save_style as save_style,
)
from stylenorm.catalog import (
    compared_networks as compared_networks,
    photos_folder as photos_folder,
    style_entries as style_entries,
    unknown_style as unknown_style,
    user_folder as user_folder,
    weights_folder as weights_folder,
)
from stylenorm.images import Picture as Picture, fit as fit, read_picture as read_picture, write_picture as write_picture
from stylenorm.people import find_people as find_people
from stylenorm.steady import PeopleWatch as PeopleWatch
from stylenorm.engine import Stylizer as Stylizer
from stylenorm.video import paint_film as paint_film
from stylenorm.config import TrainConfig as TrainConfig
from stylenorm.training import Trainer as Trainer, train as train
from stylenorm.new_style import (
    Cancelled as Cancelled,
    NewStyleConfig as NewStyleConfig,
    StyleProgress as StyleProgress,
    check_name as check_name,
    train_style as train_style,
)
from stylenorm.comparing import CHANGES as CHANGES, Comparison as Comparison, changed as changed
from stylenorm.optimizing import OptimizeConfig as OptimizeConfig, optimize as optimize

__version__: str
