"""Helpers under the names that `from dassl.utils import ...` is used with."""

from dassl.utils.errors import InputError as InputError
from dassl.utils.errors import unknown as unknown
from dassl.utils.logger import *  # noqa: F403
from dassl.utils.meters import *  # noqa: F403
from dassl.utils.plugins import find as find
from dassl.utils.plugins import load_plugins as load_plugins
from dassl.utils.registry import *  # noqa: F403
from dassl.utils.tools import *  # noqa: F403
from dassl.utils.torchtools import *  # noqa: F403
from dassl.utils.unpickle import read_pickle as read_pickle
